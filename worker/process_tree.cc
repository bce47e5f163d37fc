#include "worker/process_tree.h"

#include <unistd.h>

#include <algorithm>

#include "common/base/text.h"

namespace iw::worker {
namespace {

constexpr std::size_t kEnvironMax = 4u << 20;
constexpr std::size_t kStatMax = 4096;

// What /proc/<pid>/stat tells; `state` Z is a zombie, which no signal ends and which holds nothing.
struct Stat {
    char state = 0;
    pid_t group = 0;
    pid_t session = 0;
};

std::optional<Stat> read_stat(pid_t pid) {
    const Result<std::string> text =
        io::read_file("/proc/" + std::to_string(pid) + "/stat", kStatMax);
    if (!text) return std::nullopt;
    // The name in parentheses may hold anything, so fields are counted from the last one.
    const auto close = text->rfind(')');
    if (close == std::string::npos || close + 2 >= text->size()) return std::nullopt;
    const std::vector<std::string> fields = split(text->substr(close + 2), ' ');
    long long group = 0;
    long long session = 0;
    if (fields.size() < 4 || !parse_int(fields[2], 0, INT32_MAX, group) ||
        !parse_int(fields[3], 0, INT32_MAX, session)) {
        return std::nullopt;
    }
    return Stat{.state = fields[0].empty() ? '?' : fields[0].front(),
                .group = static_cast<pid_t>(group),
                .session = static_cast<pid_t>(session)};
}

bool carries(pid_t pid, const AttemptRef& attempt, const std::string& workspace) {
    const Result<std::string> text =
        io::read_file("/proc/" + std::to_string(pid) + "/environ", kEnvironMax);
    if (!text) return false;
    const std::string generation = "IW_GENERATION=" + std::to_string(attempt.fence.generation);
    bool session = false;
    bool number = false;
    bool place = false;
    bool other_generation = false;
    for (const std::string& variable : split(*text, '\0')) {
        session = session || variable == "IW_SESSION_ID=" + attempt.session.str();
        number = number || variable == "IW_ATTEMPT=" + std::to_string(attempt.fence.attempt);
        // Ids are unique in one fleet: another's agents may have the same at the same moment.
        place = place || variable == "IW_WORKSPACE=" + workspace;
        // Agents of earlier versions had none. After a restore numbers may come up a second time.
        const bool named = variable.starts_with("IW_GENERATION=");
        other_generation = other_generation || (named && variable != generation);
    }
    return session && number && place && !other_generation;
}

bool is_of_worker(pid_t pid, const std::string& state_folder) {
    const Result<std::string> text =
        io::read_file("/proc/" + std::to_string(pid) + "/environ", kEnvironMax);
    if (!text) return false;
    return std::ranges::count(split(*text, '\0'), "IW_WORKER_STATE=" + state_folder) > 0;
}

// One descriptor at a time is all that the search needs.
bool can_read() {
    return read_stat(::getpid()).has_value();
}

// As tmux was told to run it: "<state folder>/bin/iexec <attempt>", nothing else.
bool is_launcher_of(pid_t pid, const std::string& attempt, const std::string& state_folder) {
    const Result<std::string> text =
        io::read_file("/proc/" + std::to_string(pid) + "/cmdline", kStatMax);
    if (!text) return false;
    const std::vector<std::string> words = split(*text, '\0');
    const bool two = words.size() == 2 || (words.size() == 3 && words[2].empty());
    return two && io::base_name(words[0]) == "iexec" && words[1] == attempt &&
           is_of_worker(pid, state_folder);
}

// A number of the record may have been given to somebody else since; who is older than the attempt
// is not of it.
bool in_session(const Stat& stat, std::uint64_t ticks, const ProcessRecord& record) {
    const io::ProcessId& leader = record.guard.pid > 0 ? record.guard : record.launcher;
    const bool same_session = stat.session == leader.pid || stat.group == record.agent.pid;
    return same_session && ticks >= leader.start_ticks;
}

bool numbers_still_mean(const ProcessRecord& record) {
    const auto means = [](const io::ProcessId& process) {
        const std::optional<std::uint64_t> ticks = io::process_start_ticks(process.pid);
        return !ticks || *ticks == process.start_ticks;
    };
    const bool guard = record.guard.pid <= 0 || means(record.guard);
    return record.boot_id == io::boot_id() && guard && means(record.launcher) &&
           means(record.agent);
}

std::string describe(const std::optional<ProcessRecord>& record, bool by_numbers,
                     std::size_t found) {
    std::string text;
    if (record) {
        text = "launcher pid " + std::to_string(record->launcher.pid) + " is gone; ";
        if (by_numbers)
            text += "looked for its process session and group " +
                    std::to_string(record->agent.pid) + ", ";
    } else {
        text = "no process record; looked ";
    }
    return text +
           "for IW_SESSION_ID, IW_ATTEMPT, IW_GENERATION and IW_WORKSPACE in every environment of "
           "this user: " +
           std::to_string(found) + " processes live";
}

}  // namespace

TreeLook find_tree(const AttemptRef& attempt, const std::string& workspace,
                   const std::optional<ProcessRecord>& record) {
    TreeLook look;
    const bool by_numbers = record && numbers_still_mean(*record);
    const std::vector<std::string> entries = io::list_folder("/proc");
    for (const std::string& entry : entries) {
        long long number = 0;
        if (!parse_int(entry, 2, INT32_MAX, number)) continue;
        const auto pid = static_cast<pid_t>(number);
        const std::optional<Stat> stat = read_stat(pid);
        const std::optional<std::uint64_t> ticks = io::process_start_ticks(pid);
        if (!stat || !ticks || stat->state == 'Z' || pid == ::getpid()) continue;
        const bool ours =
            (by_numbers && in_session(*stat, *ticks, *record)) || carries(pid, attempt, workspace);
        if (ours) look.processes.push_back({.pid = pid, .start_ticks = *ticks});
    }
    look.whole = !entries.empty() && can_read();
    look.evidence = describe(record, by_numbers, look.processes.size());
    return look;
}

std::vector<io::ProcessId> find_launchers(const AttemptRef& attempt,
                                          const std::string& state_folder,
                                          const std::optional<ProcessRecord>& record) {
    std::vector<io::ProcessId> found;
    if (record && record->boot_id == io::boot_id()) {
        for (const io::ProcessId& process : {record->launcher, record->guard}) {
            if (process.pid > 0 && io::is_running(process)) found.push_back(process);
        }
        return found;
    }
    const std::string name = attempt_name(attempt);
    for (const std::string& entry : io::list_folder("/proc")) {
        long long number = 0;
        if (!parse_int(entry, 2, INT32_MAX, number)) continue;
        const auto pid = static_cast<pid_t>(number);
        if (!is_launcher_of(pid, name, state_folder)) continue;
        const std::optional<Stat> stat = read_stat(pid);
        const std::optional<std::uint64_t> ticks = io::process_start_ticks(pid);
        if (!stat || !ticks) continue;
        // The guard is the pane's process and leads its session.
        const auto place = stat->session == pid ? found.end() : found.begin();
        found.insert(place, {.pid = pid, .start_ticks = *ticks});
    }
    return found;
}

}  // namespace iw::worker
