#include "common/io/processes.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/io/process_end.h"

namespace iw::io {
namespace {

struct ProcStat {
    char state = '?';
    std::uint64_t start_ticks = 0;
};

// From /proc/<pid>/stat. The second field, the program's name, may hold spaces and brackets, so
// that counting begins behind its last bracket: state is the first field there, the start time the
// twentieth.
std::optional<ProcStat> read_stat(pid_t pid) {
    constexpr std::size_t kStatMax = 8192;
    constexpr std::size_t kStartField = 19;
    if (pid <= 0) return std::nullopt;
    const Result<std::string> text = read_file("/proc/" + std::to_string(pid) + "/stat", kStatMax);
    if (!text) return std::nullopt;
    const std::size_t bracket = text->rfind(')');
    if (bracket == std::string::npos || bracket + 2 >= text->size()) return std::nullopt;
    const std::vector<std::string> fields = split(trim(text->substr(bracket + 2)), ' ');
    long long ticks = 0;
    if (fields.size() <= kStartField || fields[0].size() != 1 ||
        !parse_int(fields[kStartField], 0, INT64_MAX, ticks)) {
        return std::nullopt;
    }
    return ProcStat{.state = fields[0][0], .start_ticks = static_cast<std::uint64_t>(ticks)};
}

}  // namespace

std::optional<std::uint64_t> process_start_ticks(pid_t pid) {
    const std::optional<ProcStat> stat = read_stat(pid);
    if (!stat) return std::nullopt;
    return stat->start_ticks;
}

bool is_running(const ProcessId& process) {
    const std::optional<ProcStat> stat = read_stat(process.pid);
    return stat && stat->start_ticks == process.start_ticks && stat->state != 'Z' &&
           stat->state != 'X';
}

bool has_ended(const ProcessId& process) {
    // Asked without a descriptor, which may be what is missing.
    if (process.pid <= 0 || (::kill(process.pid, 0) != 0 && errno == ESRCH)) return true;
    const std::optional<ProcStat> stat = read_stat(process.pid);
    return stat &&
           (stat->start_ticks != process.start_ticks || stat->state == 'Z' || stat->state == 'X');
}

// By number: the header of glibc 2.36 for these two cannot be used from C++.
UniqueFd open_pidfd(pid_t pid) {
    return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

bool send_signal(const ProcessId& process, int signal) {
    if (process.pid <= 0) return false;
    // Opened first and compared after: from then on the descriptor means that process and no later
    // one.
    const UniqueFd pidfd = open_pidfd(process.pid);
    if (!pidfd.valid() || !is_running(process)) return false;
    return ::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) == 0;
}

}  // namespace iw::io
