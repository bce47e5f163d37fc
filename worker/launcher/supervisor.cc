#include "worker/launcher/supervisor.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "common/base/text.h"
#include "common/io/process_end.h"
#include "common/io/system_clock.h"

namespace iw::worker {
namespace {

constexpr Duration kSweepGrace{2'000};
constexpr Duration kKillMax{10'000};  // after this, what does not die is stuck in the kernel
constexpr Duration kKillAgain{1'000};
constexpr Duration kRecordAgain{1'000};
constexpr Duration kLookAgain{20};  // escaped processes are no children: their end sends no signal

// A terminal that has closed already answers with EIO, anything that never was one otherwise.
bool is_terminal(int fd) {
    return ::isatty(fd) == 1 || errno == EIO;
}

std::string variable(const LaunchPlan& plan, const char* name) {
    const auto found = plan.environment.find(name);
    return found != plan.environment.end() ? found->second : "";
}

}  // namespace

Supervisor::Supervisor(AttemptStore& store, const LaunchPlan& plan, io::SignalFd& signals,
                       ProcessRecord process, Terminal terminal)
    : store_(store),
      plan_(plan),
      signals_(signals),
      process_(std::move(process)),
      terminal_(std::move(terminal)),
      agent_(process_.agent.pid),
      launcher_(::getpid()),
      has_terminal_(is_terminal(STDOUT_FILENO)),
      watches_terminal_(has_terminal_),
      mark_{.session = variable(plan, "IW_SESSION_ID"),
            .attempt = variable(plan, "IW_ATTEMPT"),
            .generation = variable(plan, "IW_GENERATION"),
            .workspace = variable(plan, "IW_WORKSPACE")} {}

AgentEnd Supervisor::run() {
    record();
    // The worker records a stop and then looks for whom to signal; we recorded the process before
    // this look. So one of the two sees the other, and no stop is lost.
    stop_if_recorded();
    supervise();
    return end_;
}

AgentEnd Supervisor::take_over() {
    record();
    // The one before acted on a stop as soon as it saw it, so an agent that is gone by now has had
    // it.
    end_.stop_sent = store_.read_stop(plan_.attempt).has_value();
    reap();
    if (agent_alive_) {
        end_.stop_sent = false;
        stop_if_recorded();
    }
    supervise();
    return end_;
}

AgentEnd Supervisor::end_what_is_left() {
    agent_alive_ = false;
    end_.ended_at = io::wall_now();
    sweep();
    return end_;
}

void Supervisor::supervise() {
    while (agent_alive_) {
        wait(next_wake());
        take_signals();
        reap();
        if (agent_alive_ && record_at_ && io::steady_now() >= *record_at_) {
            record();
            // Without the record the worker cannot signal us: we look by ourselves.
            stop_if_recorded();
        }
        if (agent_alive_ && kill_at_ && io::steady_now() >= *kill_at_) {
            kill_tree();
            kill_at_ = io::steady_now() + kKillAgain;
        }
    }
    sweep();
    if (end_.hangup) end_.hangup_cause = hangup_cause();
}

// The agent runs: without its record it is no worse off, so it is left alone.
void Supervisor::record() {
    const bool first = !record_at_;
    const Status written = store_.write_process(plan_.attempt, process_);
    record_at_.reset();
    if (written) return;
    record_at_ = io::steady_now() + kRecordAgain;
    if (!first) return;
    std::fprintf(stdout, "iexec: cannot record the process, trying on: %s\n",
                 printable(written.error().message, true).c_str());
    std::fflush(stdout);
}

Timestamp Supervisor::next_wake() const {
    return std::min(kill_at_.value_or(Timestamp::max()), record_at_.value_or(Timestamp::max()));
}

void Supervisor::wait(Timestamp deadline) {
    // Asked for itself: the kernel tells the end of a terminal by signal to the leader of its
    // session alone, which is the guard, if it still lives.
    std::array<pollfd, 2> watched = {
        pollfd{.fd = signals_.fd(), .events = POLLIN, .revents = 0},
        pollfd{.fd = watches_terminal_ ? STDOUT_FILENO : -1, .events = 0, .revents = 0}};
    int timeout_ms = -1;
    if (deadline != Timestamp::max()) {
        const Duration left = std::max(deadline - io::steady_now(), Duration{0});
        timeout_ms = static_cast<int>(std::min<Duration::rep>(left.count() + 1, 3'600'000));
    }
    ::poll(watched.data(), watched.size(), timeout_ms);
    if ((watched[1].revents & (POLLHUP | POLLERR | POLLNVAL)) == 0) return;
    watches_terminal_ = false;
    if (agent_alive_) hang_up();
}

void Supervisor::take_signals() {
    while (const auto signal = signals_.read()) {
        if (!agent_alive_) continue;
        if (*signal == SIGTERM) stop_if_recorded();
        if (*signal == kStopSignal) stop();
        if (*signal == SIGHUP) hang_up();
    }
}

// Also takes in whatever orphans were handed to us, so that none stays a zombie.
void Supervisor::reap() {
    int status = 0;
    pid_t pid = 0;
    while ((pid = ::waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0 || (pid < 0 && errno == EINTR)) {
        if (pid != agent_) continue;
        if (WIFSTOPPED(status)) {
            agent_stopped(WSTOPSIG(status));
        } else {
            agent_ended(status);
        }
    }
}

void Supervisor::agent_ended(int status) {
    agent_alive_ = false;
    end_.wait_status = status;
    end_.ended_at = io::wall_now();
    // The agent may die of its closed terminal before we have seen it; of the guard's end even
    // before tmux closes the terminal.
    const bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    const bool guard_gone = terminal_.guard.pid > 0 && io::has_ended(terminal_.guard);
    if (!end_.stop_sent && !clean && (guard_gone || terminal_closed())) end_.hangup = true;
}

// Nobody could type `fg`: an agent that was suspended from the terminal gets it back and goes on.
// SIGSTOP is an operator's, and stays.
void Supervisor::agent_stopped(int signal) {
    if (signal != SIGTSTP && signal != SIGTTIN && signal != SIGTTOU) return;
    ::tcsetpgrp(STDOUT_FILENO, agent_);
    ::kill(-agent_, SIGCONT);
}

void Supervisor::stop_if_recorded() {
    if (!end_.stop_sent && store_.read_stop(plan_.attempt)) stop();
}

void Supervisor::stop() {
    if (end_.stop_sent) return;
    reap();
    if (!agent_alive_) return;
    end_.stop_sent = true;
    end_tree(plan_.stop_grace, {SIGTERM, SIGCONT});
}

// Without its terminal an agent cannot be seen, and its output is lost: it is ended, and its
// attempt is lost.
void Supervisor::hang_up() {
    if (end_.hangup || !terminal_closed()) return;
    stop_if_recorded();
    if (end_.stop_sent || !agent_alive_) return;
    end_.hangup = true;
    end_tree(plan_.stop_grace, {SIGHUP, SIGTERM, SIGCONT});
}

bool Supervisor::terminal_closed() const {
    pollfd terminal{.fd = STDOUT_FILENO, .events = 0, .revents = 0};
    return has_terminal_ && ::poll(&terminal, 1, 0) == 1 &&
           (terminal.revents & (POLLHUP | POLLERR)) != 0;
}

std::string Supervisor::hangup_cause() const {
    if (terminal_.server.pid > 0 && io::has_ended(terminal_.server)) return "tmux server ended";
    if (terminal_.guard.pid > 0 && io::has_ended(terminal_.guard))
        return "the pane's process was killed";
    return "its tmux session was ended";
}

void Supervisor::send_all(int signal, const std::vector<TreeProcess>& processes) {
    // The group in one call, so that none of its members can slip through by forking.
    if (agent_alive_) ::kill(-agent_, signal);
    for (const TreeProcess& process : processes) {
        if (agent_alive_ && process.group == agent_) continue;
        io::send_signal(process.id, signal);
    }
}

void Supervisor::end_tree(Duration grace, std::initializer_list<int> signals) {
    kill_at_ = io::steady_now() + grace;
    const std::vector<TreeProcess> processes = tree();
    for (const int signal : signals)
        send_all(signal, processes);
}

void Supervisor::kill_tree() {
    send_all(SIGKILL, tree());
}

bool Supervisor::tree_ends_before(Timestamp deadline) {
    while (!tree().empty()) {
        const Timestamp now = io::steady_now();
        if (now >= deadline) return false;
        wait(std::min(deadline, now + kLookAgain));
        take_signals();
        reap();
    }
    return true;
}

// After the agent: what it left behind ends too, so that an exit record means that nothing runs any
// more.
void Supervisor::sweep() {
    if (!kill_at_) {
        // What the agent's end leaves over is often on its way out by itself: `tee` behind a pipe
        // writes its last lines.
        if (tree_ends_before(io::steady_now() + plan_.settle)) return;
        end_.swept = static_cast<std::uint32_t>(tree().size());
        end_tree(kSweepGrace, {SIGTERM, SIGCONT});
    } else {
        end_.swept = static_cast<std::uint32_t>(tree().size());
    }
    if (tree_ends_before(*kill_at_)) return;
    const Timestamp give_up = io::steady_now() + kKillMax;
    while (io::steady_now() < give_up) {
        kill_tree();
        if (tree_ends_before(io::steady_now() + kLookAgain)) return;
    }
    end_.left = static_cast<std::uint32_t>(tree().size());
}

}  // namespace iw::worker
