#include "ctl/fleet.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <nlohmann/json.hpp>
#include <vector>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "ctl/broker_client.h"
#include "ctl/command_line.h"
#include "ctl/tmux_sessions.h"

namespace iw::ctl {
namespace {

constexpr Duration kStartMax{30'000};
constexpr Duration kStopMax{15'000};

// What a daemon must not inherit: it outlives the terminal, the session and the service it was
// started from.
bool is_inherited(std::string_view variable) {
    if (variable.starts_with("IW_CFG_")) return true;
    if (variable.starts_with("IW_")) return false;
    constexpr std::array<std::string_view, 6> kDropped = {
        "TMUX=", "TMUX_PANE=", "NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=", "OLDPWD="};
    return std::ranges::none_of(
        kDropped, [&](std::string_view dropped) { return variable.starts_with(dropped); });
}

std::vector<std::string> daemon_environment() {
    std::vector<std::string> result;
    for (const std::string& variable : io::environment_variables()) {
        if (is_inherited(variable)) result.push_back(variable);
    }
    return result;
}

bool has_segment_size(const std::string& file) {
    constexpr std::size_t kConfigMax = 1u << 20;
    const Result<std::string> text = io::read_file(file, kConfigMax);
    if (!text) return false;
    const std::vector<std::string> lines = split(*text, '\n');
    return std::ranges::any_of(lines, [](const std::string& line) {
        return !trim(line).starts_with('#') && line.find("segment_size") != std::string::npos;
    });
}

// An embedded broker is one project's: small segments start quicker and take less disk. What the
// user has set stands.
std::vector<std::string> segment_flags() {
    if (!io::environment("IW_CFG_BROKER_SEGMENT_SIZE").empty()) return {};
    const std::vector<std::string> files = io::config_files("broker");
    if (std::ranges::any_of(files, has_segment_size)) return {};
    return {"--segment-size", std::to_string(limits::kSegmentBytesMin)};
}

// Waits for its turn: whoever is starting the fleet holds it, for kStartMax at the longest.
class StartLock {
  public:
    explicit StartLock(const std::string& folder)
        : fd_(::open((folder + "/start.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
        if (fd_.valid()) {
            while (::flock(fd_.get(), LOCK_EX) != 0 && errno == EINTR) {
            }
        }
    }
    bool held() const { return fd_.valid(); }

  private:
    io::UniqueFd fd_;
};

// A pause that grows, for conditions that only a look can tell (a lock, a process).
class Pauses {
  public:
    void next() {
        static_cast<void>(::poll(nullptr, 0, ms_));
        ms_ = std::min(ms_ * 2, 200);
    }

  private:
    int ms_ = 5;
};

std::string last_line(const std::string& file) {
    constexpr std::size_t kLogMax = 64u << 20;
    const Result<std::string> text = io::read_file(file, kLogMax);
    if (!text) return "no log was written";
    const std::string_view trimmed = trim(*text);
    const std::size_t newline = trimmed.rfind('\n');
    const std::string_view line =
        newline == std::string_view::npos ? trimmed : trimmed.substr(newline + 1);
    return line.empty() ? "it said nothing" : printable(line, /*single_line=*/true);
}

struct Half {
    std::string name;
    std::string lock;
    std::string log;
    std::vector<std::string> argv;
};

Half broker_half(const io::FleetPaths& paths) {
    return {"ibroker", paths.broker_data + "/lock", paths.broker_log,
            embedded_broker_command(paths)};
}

Half worker_half(const io::FleetPaths& paths, const std::string& root) {
    return {"iworker",
            paths.worker_state + "/lock",
            paths.worker_log,
            {io::bin_folder() + "/iworker", "--root", root, "--state-dir", paths.worker_state,
             "--broker", paths.endpoint}};
}

Error did_not_start(const Half& half) {
    return make_error(ErrorCode::unreachable, half.name + " did not start: " + last_line(half.log) +
                                                  " (log: " + half.log + ")");
}

// Who runs as this half. A process that was killed holds its lock for a moment longer, until the
// last of its threads is gone: it does not count.
std::optional<pid_t> living_holder(const std::string& lock) {
    const std::optional<pid_t> pid = io::lock_holder(lock);
    if (!pid || *pid == 0) return pid;
    const std::optional<std::uint64_t> ticks = io::process_start_ticks(*pid);
    return ticks && io::is_running({*pid, *ticks}) ? pid : std::nullopt;
}

// A process takes its lock a moment before it writes its pid there.
bool has_pid(const std::optional<pid_t>& holder) {
    return holder.value_or(0) != 0;
}

// Starts it unless it runs; returns once it holds its lock. True when it was started.
Result<bool> start_half(const Half& half) {
    Pauses dying;
    while (io::lock_holder(half.lock)) {
        if (has_pid(living_holder(half.lock))) return false;
        dying.next();
    }
    const Result<pid_t> pid = io::start_daemon(half.argv, daemon_environment(), half.log);
    if (!pid) return pid.error();
    const io::ProcessId process{*pid, io::process_start_ticks(*pid).value_or(0)};
    const Timestamp until = io::steady_now() + kStartMax;
    Pauses pauses;
    while (!has_pid(io::lock_holder(half.lock))) {
        if (!io::is_running(process) || io::steady_now() >= until) return did_not_start(half);
        pauses.next();
    }
    return true;
}

// How often this worker has started, as it notes before it greets the broker; 0 when never.
std::uint64_t noted_starts(const io::FleetPaths& paths) {
    constexpr std::size_t kFileMax = 64u << 10;
    const Result<std::string> text = io::read_file(paths.worker_state + "/worker.json", kFileMax);
    if (!text) return 0;
    const auto json = nlohmann::json::parse(*text, nullptr, false);
    if (!json.is_object() || !json.contains("start_count")) return 0;
    const auto& count = json["start_count"];
    return count.is_number_unsigned() ? count.get<std::uint64_t>() : 0;
}

// The row of a predecessor that was killed may still say "up": only the present start counts.
bool has_worker(const WorkersReply& reply, const std::string& root, std::uint64_t start_count) {
    return std::ranges::any_of(reply.workers, [&](const WorkerView& worker) {
        return worker.root == root && worker.state == "up" && worker.start_count == start_count;
    });
}

// The broker answers and knows the worker of this root in a start later than `starts_before`. Woken
// by the broker's events.
Status wait_until_ready(const io::FleetPaths& paths, const std::string& root,
                        std::uint64_t starts_before) {
    const Half worker = worker_half(paths, root);
    io::Context sockets;
    BrokerClient broker(sockets, {.endpoint = paths.endpoint,
                                  .software = software_name(),
                                  .patience = kStartMax,
                                  .absent_patience = kStartMax});
    const Timestamp until = io::steady_now() + kStartMax;
    const Result<WelcomeReply> welcome = broker.welcome();
    if (!welcome) return welcome.error();
    EventsRequest next;
    next.after = welcome->seq;
    next.wait = Duration(500);
    while (true) {
        const Result<WorkersReply> workers = broker.call<WorkersReply>(WorkersRequest{});
        if (!workers) return workers.error();
        const std::uint64_t starts = noted_starts(paths);
        if (starts > starts_before && has_worker(*workers, root, starts)) return Done{};
        if (io::steady_now() >= until || !io::lock_holder(worker.lock))
            return did_not_start(worker);
        const Result<EventsReply> events = broker.call<EventsReply>(next);
        if (!events) return events.error();
        next.after = events->next;
    }
}

Status end_half(const Half& half) {
    const std::optional<pid_t> pid = io::lock_holder(half.lock);
    if (!pid) return Done{};
    const io::ProcessId process{*pid, io::process_start_ticks(*pid).value_or(0)};
    static_cast<void>(io::send_signal(process, SIGTERM));
    const Timestamp until = io::steady_now() + kStopMax;
    Pauses pauses;
    while (io::is_running(process)) {
        if (io::steady_now() >= until) {
            return make_error(ErrorCode::unreachable, half.name + " (pid " + std::to_string(*pid) +
                                                          ") has not ended after 15 s; look at " +
                                                          half.log);
        }
        pauses.next();
    }
    return Done{};
}

void end_idle_tmux(const io::FleetPaths& paths) {
    const std::string socket = tmux_socket(paths.worker_state);
    if (!io::exists(socket)) return;
    const std::vector<std::string> tmux = {"tmux", "-S", socket};
    const auto run = [&](const std::string& command) {
        std::vector<std::string> argv = tmux;
        argv.push_back(command);
        const std::vector<std::string> environment = {"PATH=" + io::environment("PATH")};
        return io::run_command(argv, environment, "", 64u << 10, 5000);
    };
    const io::CommandResult sessions = run("list-sessions");
    if (sessions.exit_code == 0 && trim(sessions.output).empty())
        static_cast<void>(run("kill-server"));
}

}  // namespace

std::vector<std::string> embedded_broker_command(const io::FleetPaths& paths) {
    std::vector<std::string> argv = {io::bin_folder() + "/ibroker", "--data-dir", paths.broker_data,
                                     "--endpoint", paths.endpoint};
    std::ranges::move(segment_flags(), std::back_inserter(argv));
    return argv;
}

FleetState look_at_fleet(const io::FleetPaths& paths) {
    return {.broker = living_holder(paths.broker_data + "/lock"),
            .worker = living_holder(paths.worker_state + "/lock")};
}

Result<FleetStart> start_fleet(const std::string& root) {
    const io::FleetPaths paths = io::fleet_paths(root);
    if (Status fits = io::check_endpoint(paths.endpoint); !fits) return fits.error();
    const FleetState before = look_at_fleet(paths);
    if (has_pid(before.broker) && has_pid(before.worker)) return FleetStart{};

    if (Status made = io::make_durable_folders(paths.folder, 0700); !made) return made.error();
    const StartLock turn(paths.folder);
    if (!turn.held()) return io::system_error("cannot lock", paths.folder + "/start.lock");
    FleetStart started;
    const Result<bool> broker = start_half(broker_half(paths));
    if (!broker) return broker.error();
    started.broker_started = *broker;
    const std::uint64_t starts = noted_starts(paths);
    const Result<bool> worker = start_half(worker_half(paths, root));
    if (!worker) return worker.error();
    started.worker_started = *worker;
    const std::uint64_t starts_before = *worker || starts == 0 ? starts : starts - 1;
    if (Status ready = wait_until_ready(paths, root, starts_before); !ready) return ready.error();
    return started;
}

Status stop_fleet(const std::string& root) {
    const io::FleetPaths paths = io::fleet_paths(root);
    if (!io::exists(paths.folder)) return Done{};
    const StartLock turn(paths.folder);
    if (Status ended = end_half(worker_half(paths, root)); !ended) return ended;
    end_idle_tmux(paths);
    return end_half(broker_half(paths));
}

}  // namespace iw::ctl
