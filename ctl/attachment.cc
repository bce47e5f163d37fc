#include "ctl/attachment.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cerrno>
#include <vector>

#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "common/workspace/workspace.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/output_log.h"
#include "ctl/refresh.h"
#include "ctl/render.h"
#include "ctl/runners.h"
#include "ctl/tmux_sessions.h"
#include "ctl/waiting.h"

namespace iw::ctl {
namespace {

constexpr std::size_t kTailLines = 20;
constexpr Duration kEndWait{30'000};
// An agent that ends takes its terminal along, and then its worker tells the broker.
constexpr Duration kNewsWait{5'000};
constexpr int kTmuxMs = 5'000;

// Runs tmux on our own terminal. Interrupts belong to the agent inside meanwhile.
int run_tmux(const std::vector<std::string>& argv) {
    std::vector<std::string> variables;
    for (const std::string& variable : io::environment_variables()) {
        // From inside another tmux it would refuse to nest.
        if (!variable.starts_with("TMUX=") && !variable.starts_with("TMUX_PANE=")) {
            variables.push_back(variable);
        }
    }
    const auto pointers = [](const std::vector<std::string>& texts) {
        std::vector<char*> result;
        for (const std::string& text : texts)
            result.push_back(const_cast<char*>(text.c_str()));
        result.push_back(nullptr);
        return result;
    };
    const std::vector<char*> arguments = pointers(argv);
    const std::vector<char*> environment = pointers(variables);
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    struct sigaction before {};
    ::sigaction(SIGINT, &ignore, &before);
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    sigset_t defaults;
    ::sigemptyset(&defaults);
    ::sigaddset(&defaults, SIGINT);
    ::posix_spawnattr_setsigdefault(&attributes, &defaults);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    pid_t child = 0;
    const int failed =
        ::posix_spawnp(&child, "tmux", nullptr, &attributes, arguments.data(), environment.data());
    ::posix_spawnattr_destroy(&attributes);
    int status = 0;
    if (failed == 0) {
        while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
    }
    ::sigaction(SIGINT, &before, nullptr);
    if (failed != 0) return 127;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool has_session(const std::string& socket, const std::string& target) {
    return io::run_command({"tmux", "-u", "-S", socket, "has-session", "-t", target}, {}, "", 4096,
                           kTmuxMs)
               .exit_code == 0;
}

int show_end(Context& context, const SessionView& session) {
    const Terminal& terminal = context.terminal();
    terminal.print(session_details(session, false, io::wall_now()));
    const std::string folder = session_folder(session);
    if (folder.empty()) return kExitOk;
    const Result<std::string> tail = read_output(folder, kTailLines);
    if (!tail || tail->empty()) return kExitOk;
    std::string text = PlainText().feed(*tail);
    if (!text.ends_with('\n')) text += '\n';
    terminal.print("\nThe end of its log:\n" + text);
    return kExitOk;
}

// Waits until the session has left CREATED, telling why it still waits.
Result<SessionView> wait_for_start(Context& context, BrokerClient& broker, Resolved from) {
    const std::string id = from.sessions.front().id.str();
    if (from.sessions.front().status == SessionStatus::created) {
        const Terminal& terminal = context.terminal();
        terminal.say(session_line(from.sessions.front()));
        terminal.say("waiting for it to start; Ctrl+C leaves it queued");
        set_interrupt_note("left queued: " + id);
    }
    Result<Watched> watched =
        watch(broker, std::move(from),
              WatchOptions{.timeout = std::nullopt,
                           .until =
                               [](const std::vector<SessionView>& sessions) {
                                   return sessions.front().status != SessionStatus::created;
                               },
                           .on_change =
                               [&](const SessionView& session) {
                                   context.terminal().say(session_line(session));
                               }});
    set_interrupt_note("");
    if (!watched) return watched.error();
    return std::move(watched->sessions.front());
}

// What the files of a session tell of its end that the broker has forgotten.
std::optional<SessionView> forgotten_end(Context& context, const std::string& id) {
    const Result<Project> project = context.require_project();
    if (!project) return std::nullopt;
    return ended_by_files(workspace::ProjectPaths(project->root), id);
}

bool has_agent(const SessionView& session) {
    return session.detail == Detail::working || session.detail == Detail::starting;
}

// The session as it is when `until` holds, or when the time is over.
Result<SessionView> wait_for(BrokerClient& broker, const SessionId& id, Duration timeout,
                             bool (*until)(const SessionView&)) {
    Result<Resolved> from = resolve(broker, {id.str()}, true);
    if (!from) return from.error();
    Result<Watched> watched = watch(broker, std::move(*from),
                                    WatchOptions{.timeout = timeout,
                                                 .until =
                                                     [&](const std::vector<SessionView>& sessions) {
                                                         return until(sessions.front());
                                                     },
                                                 .on_change = nullptr});
    if (!watched) return watched.error();
    return std::move(watched->sessions.front());
}

int enter(Context& context, BrokerClient& broker, const SessionView& session,
          const std::string& socket) {
    const Terminal& terminal = context.terminal();
    const std::string target = "=" + tmux_session_name(session.id);
    if (has_session(socket, target)) {
        const int code = run_tmux({"tmux", "-N", "-u", "-S", socket, "attach", "-t", target});
        if (code == 127) {
            return terminal.fail(kExitFault, "tmux could not be started; is it installed?");
        }
        if (has_session(socket, target)) {
            if (code != 0)
                return terminal.fail(kExitFault, "tmux ended with " + std::to_string(code));
            terminal.say("left running: " + session.id.str());
            return kExitOk;
        }
    } else if (has_agent(session)) {
        terminal.say("the terminal of " + session.id.str() + " has closed; waiting for its end");
        const auto news = wait_for(broker, session.id, kNewsWait,
                                   [](const SessionView& now) { return !has_agent(now); });
        if (!news) return terminal.fail(news.error());
        if (has_agent(*news))
            return terminal.fail(kExitFailure, "no tmux session of " + session.id.str() + " at " +
                                                   socket +
                                                   "; is --worker-state right? see ictl doctor");
    }
    // After the terminal is gone: the agent has ended, and its final status is on the way.
    Result<SessionView> ended = wait_for(
        broker, session.id, kEndWait, [](const SessionView& now) { return is_final(now.status); });
    if (!ended) return terminal.fail(ended.error());
    refresh_end(context, *ended, io::steady_now() + kEndWait);
    return show_end(context, *ended);
}

}  // namespace

int attach_session(Context& context, const std::string& id, const std::string& worker_state) {
    const Terminal& terminal = context.terminal();
    if (!terminal.in_is_terminal || !terminal.out_is_terminal) {
        return terminal.fail(
            kExitFailure, "attach needs a terminal; to read along use `ictl logs -f " + id + "`");
    }
    Result<BrokerClient*> broker = context.broker(Insistence::patient);
    if (!broker) return terminal.fail(broker.error());
    Result<Resolved> from = resolve(**broker, {id}, false);
    if (!from && from.error().code == ErrorCode::not_found) {
        if (const auto ended = forgotten_end(context, id)) return show_end(context, *ended);
    }
    if (!from) return terminal.fail(from.error());
    Result<SessionView> session = wait_for_start(context, **broker, std::move(*from));
    if (!session) return terminal.fail(session.error());
    if (is_final(session->status)) {
        refresh_workspace(context, *session);
        return show_end(context, *session);
    }
    if (session->host != context.host()) {
        return terminal.fail(kExitFailure, session->id.str() + " runs on host " + session->host +
                                               "; run `ictl attach` there");
    }
    if (!worker_state.empty()) return enter(context, **broker, *session, tmux_socket(worker_state));
    Runners runners(context);
    const std::string state = runners.state_of(runners.root_of(*session));
    return enter(context, **broker, *session, tmux_socket(state));
}

}  // namespace iw::ctl
