#include "worker/launcher/process_tree.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "common/base/text.h"
#include "common/io/files.h"

namespace iw::worker {
namespace {

constexpr std::size_t kProcFileMax = 4u << 20;

struct Entry {
    pid_t parent = 0;
    pid_t group = 0;
    std::uint64_t start_ticks = 0;
    bool alive = false;
};

// Files below /proc have no size and may vanish at any moment; what cannot be read counts as gone.
std::string read_proc(const std::string& path) {
    const io::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::string text;
    char buffer[4096];
    while (fd.valid() && text.size() < kProcFileMax) {
        const ssize_t size = ::read(fd.get(), buffer, sizeof buffer);
        if (size < 0 && errno == EINTR) continue;
        if (size <= 0) break;
        text.append(buffer, static_cast<std::size_t>(size));
    }
    return text;
}

// Fields of /proc/<pid>/stat as proc(5) numbers them. The second, the name, may hold anything but
// ends with the last ')'.
std::optional<Entry> read_entry(const std::string& pid) {
    const std::string text = read_proc("/proc/" + pid + "/stat");
    const auto name_end = text.rfind(')');
    if (name_end == std::string::npos || name_end + 2 > text.size()) return std::nullopt;
    const std::vector<std::string> fields = split(std::string_view(text).substr(name_end + 2), ' ');
    constexpr std::size_t kFirst = 3;  // number of the field behind the name
    constexpr std::size_t kThreads = 20 - kFirst;
    constexpr std::size_t kStart = 22 - kFirst;
    if (fields.size() <= kStart) return std::nullopt;
    long long parent = 0;
    long long group = 0;
    long long threads = 0;
    long long start = 0;
    if (!parse_int(fields[1], 0, INT32_MAX, parent) || !parse_int(fields[2], 0, INT32_MAX, group) ||
        !parse_int(fields[kThreads], 0, INT32_MAX, threads) ||
        !parse_int(fields[kStart], 0, INT64_MAX, start)) {
        return std::nullopt;
    }
    // A leader whose other threads go on looks like a zombie.
    const bool dead = (fields[0] == "Z" && threads <= 1) || fields[0] == "X";
    return Entry{.parent = static_cast<pid_t>(parent),
                 .group = static_cast<pid_t>(group),
                 .start_ticks = static_cast<std::uint64_t>(start),
                 .alive = !dead};
}

std::map<pid_t, Entry> read_processes() {
    std::map<pid_t, Entry> processes;
    for (const std::string& name : io::list_folder("/proc")) {
        long long pid = 0;
        if (!parse_int(name, 1, INT32_MAX, pid)) continue;
        if (const auto entry = read_entry(name)) processes[static_cast<pid_t>(pid)] = *entry;
    }
    return processes;
}

std::set<pid_t> descendants(pid_t root, const std::map<pid_t, Entry>& processes) {
    std::multimap<pid_t, pid_t> children;
    for (const auto& [pid, entry] : processes)
        children.emplace(entry.parent, pid);
    std::set<pid_t> found;
    std::vector<pid_t> open = {root};
    while (!open.empty()) {
        const auto [begin, end] = children.equal_range(open.back());
        open.pop_back();
        for (auto child = begin; child != end; ++child) {
            if (found.insert(child->second).second) open.push_back(child->second);
        }
    }
    found.erase(root);
    return found;
}

// Environments of other users' processes cannot be read, and so never match.
bool carries(pid_t pid, const Mark& mark) {
    const std::string environment =
        '\0' + read_proc("/proc/" + std::to_string(pid) + "/environ") + '\0';
    const auto holds = [&](const std::string& name, const std::string& value) {
        return environment.find('\0' + name + "=" + value + '\0') != std::string::npos;
    };
    const bool other =
        environment.find('\0' + std::string("IW_GENERATION=")) != std::string::npos &&
        !holds("IW_GENERATION", mark.generation);
    return holds("IW_SESSION_ID", mark.session) && holds("IW_ATTEMPT", mark.attempt) &&
           holds("IW_WORKSPACE", mark.workspace) && !other;
}

}  // namespace

std::vector<TreeProcess> find_processes(pid_t root, const Mark& mark) {
    const std::map<pid_t, Entry> processes = read_processes();
    const std::set<pid_t> below = descendants(root, processes);
    std::vector<TreeProcess> found;
    for (const auto& [pid, entry] : processes) {
        if (!entry.alive || pid == root) continue;
        const bool escaped = !below.contains(pid) && !mark.session.empty() && carries(pid, mark);
        if (!below.contains(pid) && !escaped) continue;
        found.push_back(TreeProcess{.id = {.pid = pid, .start_ticks = entry.start_ticks},
                                    .group = entry.group});
    }
    return found;
}

}  // namespace iw::worker
