#include "worker/tmux/tmux.h"

#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/base/text.h"
#include "common/base/time.h"
#include "common/io/files.h"
#include "common/io/find_program.h"
#include "common/io/system_clock.h"

namespace iw::worker {
namespace {

constexpr int kCommandTimeoutMs = 10'000;
constexpr Duration kServerStartMax{10'000};
constexpr Duration kSocketBackMax{2'000};
constexpr std::size_t kOutputMax = 4u << 20;
constexpr std::size_t kSocketPathMax = sizeof(sockaddr_un::sun_path) - 1;
constexpr std::string_view kSystemPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// exit-empty off: the server stays when its last session ends, so that nobody has to start it
// again. remain-on-exit off: a pane closes only after the pipe has taken its last byte, and the
// status that tmux can lose is never asked for. update-environment empty: no viewer's variables
// reach a session. The prefix stays C-b, so that Ctrl+B D leaves a session running. A full history
// of 10,000 lines takes about 2 MB.
constexpr std::string_view kConfiguration =
    "set -s exit-empty off\n"
    "set -s escape-time 0\n"
    "set -s set-clipboard off\n"
    "set -g remain-on-exit off\n"
    "set -g destroy-unattached off\n"
    "set -g detach-on-destroy on\n"
    "set -g history-limit 10000\n"
    "set -g default-size 200x50\n"
    "set -g update-environment ''\n"
    "set -g status off\n"
    "set -g prefix C-b\n";

// "tmux 3.3a", "tmux next-3.4", "tmux master": what has no number is newer than all that have one.
bool is_new_enough(std::string_view version) {
    const auto digit = version.find_first_of("0123456789");
    if (digit == std::string_view::npos) return true;
    const std::string_view number = version.substr(digit);
    const auto dot = number.find('.');
    if (dot == std::string_view::npos) return true;
    const auto minor_end = number.find_first_not_of("0123456789", dot + 1);
    long long major = 0;
    long long minor = 0;
    if (!parse_int(number.substr(0, dot), 0, 1000, major)) return false;
    if (!parse_int(number.substr(dot + 1, minor_end - dot - 1), 0, 1000, minor)) return false;
    return major > 3 || (major == 3 && minor >= 2);
}

Status check_version(const std::string& program) {
    const io::CommandResult result =
        io::run_command({program, "-V"}, {}, "", 4096, kCommandTimeoutMs);
    const std::string version(trim(result.output));
    if (result.exit_code == 0 && is_new_enough(version)) return Done{};
    return make_error(ErrorCode::config, program + " says \"" + printable(version, true) +
                                             "\" to -V; tmux 3.2 or newer is needed");
}

// The names under <state>/bin are what tmux is told to run, so that no path of the installation
// stands in a tmux command, and running sessions find a new installation.
Status link_program(const std::string& folder, const std::string& name, const std::string& target) {
    const std::string path = folder + "/" + name;
    const std::string fresh = folder + "/." + name + "." + io::random_hex(4);
    if (::symlink(target.c_str(), fresh.c_str()) != 0)
        return io::system_error("cannot create", fresh);
    if (::rename(fresh.c_str(), path.c_str()) == 0) return Done{};
    const Error error = io::system_error("cannot replace", path);
    ::unlink(fresh.c_str());
    return error;
}

std::string user_name() {
    if (const std::string name = io::environment("USER"); !name.empty()) return name;
    const passwd* entry = ::getpwuid(::getuid());
    return entry != nullptr ? entry->pw_name : std::to_string(::getuid());
}

bool says_no_server(const std::string& errors) {
    if (errors.find("no server running") != std::string::npos) return true;
    return errors.find("error connecting") != std::string::npos &&
           errors.find("No such file or directory") != std::string::npos;
}

Error tmux_error(const std::string& what, const io::CommandResult& result) {
    std::string words = printable(trim(result.errors), true);
    if (words.empty()) words = "exit code " + std::to_string(result.exit_code);
    return make_error(ErrorCode::io, "tmux " + what + ": " + words);
}

void wait_end(pid_t pid, Duration cap) {
    // glibc 2.36 declares pidfd_open without extern "C".
    const io::UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!process.valid()) return;  // it has ended already
    pollfd wait{.fd = process.get(), .events = POLLIN, .revents = 0};
    ::poll(&wait, 1, static_cast<int>(cap.count()));
}

// The start of a server is rare and short, so asking again every few milliseconds is fine here.
template <typename Condition>
bool wait_until(Condition&& condition, Duration cap) {
    const Timestamp end = io::steady_now() + cap;
    while (!condition()) {
        if (io::steady_now() >= end) return false;
        ::poll(nullptr, 0, 10);
    }
    return true;
}

// Session names are expanded by tmux: nothing but the characters of an id may reach it.
Status check_id(const SessionId& id) {
    if (is_session_id(id.str())) return Done{};
    return make_error(ErrorCode::bad_request,
                      "\"" + printable(id.str(), true) + "\" is no session id");
}

std::string server_record(const io::ProcessId& server) {
    return std::to_string(server.pid) + " " + std::to_string(server.start_ticks) + "\n";
}

std::optional<io::ProcessId> parse_server_record(std::string_view text) {
    const std::vector<std::string> words = split(trim(text), ' ');
    long long pid = 0;
    long long ticks = 0;
    if (words.size() != 2 || !parse_int(words[0], 1, INT32_MAX, pid)) return std::nullopt;
    if (!parse_int(words[1], 0, INT64_MAX, ticks)) return std::nullopt;
    return io::ProcessId{.pid = static_cast<pid_t>(pid),
                         .start_ticks = static_cast<std::uint64_t>(ticks)};
}

}  // namespace

std::string tmux_socket(const std::string& worker_state_folder) {
    return worker_state_folder + "/tmux.sock";
}

Result<Tmux> Tmux::open(TmuxOptions options) {
    const Result<std::string> program = io::find_program("tmux", io::environment("PATH"));
    if (!program) {
        return make_error(ErrorCode::config,
                          program.error().message + "; install tmux 3.2 or newer");
    }
    if (Status version = check_version(*program); !version) return version.error();
    const std::string socket = tmux_socket(options.state_folder);
    if (socket.size() > kSocketPathMax) {
        return make_error(ErrorCode::config,
                          "the socket's path " + socket + " has " + std::to_string(socket.size()) +
                              " bytes and the system takes " + std::to_string(kSocketPathMax) +
                              "; choose a shorter state folder");
    }
    const std::string bin = options.state_folder + "/bin";
    if (Status made = io::make_folders(bin, 0700); !made) return made.error();
    if (Status made = link_program(bin, "iexec", options.launcher); !made) return made.error();
    if (Status made = link_program(bin, "ilogd", options.log_writer); !made) return made.error();
    Tmux tmux(std::move(options), *program, socket);
    if (Status wrote = io::write_file(tmux.configuration(), kConfiguration, 0600, io::Sync::none);
        !wrote) {
        return wrote.error();
    }
    return tmux;
}

std::string Tmux::configuration() const {
    return options_.state_folder + "/tmux.conf";
}
std::string Tmux::server_file() const {
    return options_.state_folder + "/tmux.pid";
}

// What the server, and so every pane before iexec replaces it, starts with. Nothing of the worker's
// own.
std::vector<std::string> Tmux::environment() const {
    return {"PATH=" + std::string(kSystemPath),
            "HOME=" + io::home_folder(),
            "USER=" + user_name(),
            "SHELL=/bin/sh",
            "LANG=C.UTF-8",
            "TERM=screen-256color",
            "IW_WORKER_STATE=" + options_.state_folder};
}

std::vector<std::string> Tmux::command(std::initializer_list<std::string> words) const {
    // -N: a client never starts a server, which would then inherit the worker's folder, unit and
    // variables.
    std::vector<std::string> argv = {program_, "-N", "-u", "-S", socket_};
    argv.insert(argv.end(), words);
    return argv;
}

io::CommandResult Tmux::run(std::initializer_list<std::string> words) const {
    return io::run_command(command(words), environment(), "", kOutputMax, kCommandTimeoutMs);
}

std::optional<int> Tmux::server_pid() const {
    const io::CommandResult result = run({"display-message", "-p", "#{pid}"});
    long long pid = 0;
    if (result.exit_code != 0 || !parse_int(trim(result.output), 1, INT32_MAX, pid))
        return std::nullopt;
    return static_cast<int>(pid);
}

std::optional<io::ProcessId> Tmux::recorded_server() const {
    const Result<std::string> text = io::read_file(server_file(), 256);
    if (!text) return std::nullopt;
    const std::optional<io::ProcessId> server = parse_server_record(*text);
    if (!server || !io::is_running(*server)) return std::nullopt;
    return server;
}

Status Tmux::record_server(int pid) {
    const std::optional<std::uint64_t> ticks = io::process_start_ticks(pid);
    if (!ticks)
        return make_error(ErrorCode::io, "the tmux server ended as it started; see " + log_file());
    return io::write_file(server_file(), server_record({.pid = pid, .start_ticks = *ticks}), 0600,
                          io::Sync::none);
}

std::string Tmux::log_file() const {
    return options_.state_folder + "/tmux.log";
}

Status Tmux::start_server() {
    if (const auto pid = server_pid()) return record_server(*pid);
    if (const auto server = recorded_server()) return revive_socket(*server);
    // A worker that systemd started must not hold the server in its own unit, which dies with each
    // restart.
    const std::string path = io::environment("PATH");
    const Result<std::string> systemd_run = io::find_program("systemd-run", path);
    if (!io::environment("INVOCATION_ID").empty() && systemd_run) {
        if (launch_server({*systemd_run, "--user", "--scope", "--collect", "--quiet", "--"}))
            return Done{};
    }
    if (launch_server({})) return Done{};
    return make_error(ErrorCode::io, "the tmux server does not start; see " + log_file());
}

// Somebody removed the socket of a living server: it makes a new one when it is asked to.
Status Tmux::revive_socket(const io::ProcessId& server) {
    io::send_signal(server, SIGUSR1);
    if (wait_until([&] { return server_pid().has_value(); }, kSocketBackMax)) return Done{};
    return make_error(ErrorCode::io, "the tmux server " + std::to_string(server.pid) +
                                         " runs but does not answer on " + socket_);
}

Status Tmux::keep_socket() {
    if (io::exists(socket_)) return Done{};
    const std::optional<io::ProcessId> server = recorded_server();
    return server ? revive_socket(*server) : Status(Done{});
}

bool Tmux::launch_server(std::vector<std::string> front) {
    std::vector<std::string> variables = environment();
    if (!front.empty()) {
        // systemd-run finds the user's manager by these.
        for (const char* name : {"XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"}) {
            const std::string value = io::environment(name);
            if (!value.empty()) variables.push_back(std::string(name) + "=" + value);
        }
    }
    front.insert(front.end(),
                 {program_, "-u", "-S", socket_, "-f", configuration(), "start-server"});
    const Result<pid_t> client = io::start_daemon(front, variables, log_file());
    if (!client) return false;
    wait_end(*client, kServerStartMax);  // it ends once the server, its child, has answered it
    const std::optional<int> pid = server_pid();
    return pid && record_server(*pid).ok();
}

Status Tmux::start_session(const AttemptRef& attempt) {
    if (Status named = check_id(attempt.session); !named) return named;
    const std::string name = tmux_session_name(attempt.session);
    const std::string attempt_word = attempt_name(attempt);
    // One command list: output between two commands would be lost. The string of pipe-pane is
    // expanded by tmux and read by sh, so it holds fixed characters and the attempt's name
    // ([a-z0-9_-]) only.
    const io::CommandResult result = run({"new-session",
                                          "-d",
                                          "-P",
                                          "-F",
                                          "#{session_name}",
                                          "-s",
                                          name,
                                          "-x",
                                          "200",
                                          "-y",
                                          "50",
                                          "-c",
                                          "/",
                                          "--",
                                          options_.state_folder + "/bin/iexec",
                                          attempt_word,
                                          ";",
                                          "set-option",
                                          "-w",
                                          "-t",
                                          "=" + name + ":",
                                          "window-size",
                                          "manual",
                                          ";",
                                          "pipe-pane",
                                          "-o",
                                          "-t",
                                          "=" + name + ":",
                                          "exec \"$IW_WORKER_STATE/bin/ilogd\" " + attempt_word});
    if (result.errors.find("duplicate session") != std::string::npos) {
        return make_error(ErrorCode::conflict, "a tmux session " + name + " exists already");
    }
    if (result.exit_code != 0) return tmux_error("new-session " + name, result);
    if (trim(result.output) != name) {
        return make_error(ErrorCode::io, "tmux made a session of another name than " + name);
    }
    return Done{};
}

Status Tmux::kill_session(const SessionId& id) {
    if (Status named = check_id(id); !named) return named;
    const io::CommandResult result = run({"kill-session", "-t", "=" + tmux_session_name(id)});
    if (result.exit_code == 0 || says_no_server(result.errors)) return Done{};
    // The second is what tmux says when it has no session at all.
    for (const char* words : {"can't find session", "no current target"}) {
        if (result.errors.find(words) != std::string::npos) return Done{};
    }
    return tmux_error("kill-session", result);
}

Result<std::vector<Tmux::Session>> Tmux::list_sessions() const {
    const io::CommandResult result =
        run({"list-sessions", "-F", "#{session_name}|#{pane_pid}|#{session_attached}"});
    if (result.exit_code != 0) {
        // A server whose socket was removed looks as if there were none.
        if (says_no_server(result.errors) && !recorded_server()) {
            return make_error(ErrorCode::not_found, "no tmux server runs on " + socket_);
        }
        return tmux_error("list-sessions", result);
    }
    std::vector<Session> sessions;
    for (const std::string& line : split(result.output, '\n')) {
        const std::vector<std::string> fields = split(line, '|');
        long long pid = 0;
        if (fields.size() != 3 || !fields[0].starts_with(kTmuxPrefix)) continue;
        if (!parse_int(fields[1], 0, INT32_MAX, pid)) continue;
        sessions.push_back(Session{.id = SessionId(fields[0].substr(kTmuxPrefix.size())),
                                   .pane_pid = static_cast<int>(pid),
                                   .attached = fields[2] != "0"});
    }
    return sessions;
}

}  // namespace iw::worker
