#include <CLI/CLI.hpp>
#include <memory>

#include "common/io/event_loop.h"
#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "common/workspace/workspace.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/folder_watch.h"
#include "ctl/output_log.h"
#include "ctl/refresh.h"
#include "ctl/render.h"
#include "ctl/runners.h"
#include "ctl/waiting.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Prints what the session's terminal showed, without control sequences unless --raw is given.
-f follows it until the session has ended.

Examples:
  ictl logs $ID -n 50
  ictl logs -f $ID

Exit codes: 0; 1 there is no log, or it stands on another host; 4 no such session; 64 wrong
arguments; 69 no broker; 77 denied; 130 interrupted.
)";

// The broker is asked this seldom: a session's own files tell its end on this host.
constexpr Duration kAskAgain{30'000};

struct Options {
    std::string id;
    bool follow = false;
    bool raw = false;
    std::optional<std::size_t> lines;
    long long lines_text = -1;
};

class Printer {
  public:
    Printer(const Terminal& terminal, bool raw) : terminal_(terminal), raw_(raw) {}
    void print(const std::string& bytes) {
        if (!bytes.empty()) terminal_.print(raw_ ? bytes : plain_.feed(bytes));
    }
    void drain(OutputFollower& follower) {
        for (std::string bytes = follower.read(); !bytes.empty(); bytes = follower.read()) {
            print(bytes);
        }
    }

  private:
    const Terminal& terminal_;
    bool raw_;
    PlainText plain_;
};

// Whether state.json in the folder shows the end; with it the log is whole.
bool shows_end(const std::string& folder) {
    const Result<std::string> text = io::read_file(folder + "/state.json", 4u << 20);
    if (!text) return false;
    const Result<SessionView> view = workspace::view_from_state(*text);
    return view && is_final(view->status);
}

bool broker_shows_end(BrokerClient& broker, const SessionId& id) {
    const Result<StatusReply> status = broker.status(id.str(), true);
    return status && is_final(status->session.status);
}

int follow(Context& context, BrokerClient& broker, const SessionView& session,
           const std::string& folder, Printer& printer, OutputFollower& follower) {
    Result<FolderWatch> watch = FolderWatch::open(folder, FolderWatch::Interest::names_and_content);
    if (!watch) return context.terminal().fail(watch.error());
    bool gone = false;
    io::EventLoop loop;
    loop.add_fd(watch->fd(), [&] {
        for (const FolderWatch::Change& change : watch->read()) {
            gone = gone || change.folder_gone;
        }
    });
    while (true) {
        // Looked at before the last reading: what is written until the end is read after it.
        const bool ended = gone || shows_end(folder);
        printer.drain(follower);
        if (ended) return kExitOk;
        const Timestamp until = io::steady_now() + kAskAgain;
        const Status waited = loop.wait(until);
        if (!waited) return context.terminal().fail(waited.error());
        if (io::steady_now() < until) continue;
        if (!broker_shows_end(broker, session.id)) continue;
        printer.drain(follower);
        return kExitOk;
    }
}

// A session that has not begun has no log yet.
Result<SessionView> wait_for_start(Context& context, BrokerClient& broker, Resolved from) {
    if (from.sessions.front().status == SessionStatus::created) {
        context.terminal().say("not started yet: " + session_line(from.sessions.front()));
    }
    Result<Watched> watched =
        watch(broker, std::move(from),
              WatchOptions{.timeout = std::nullopt,
                           .until =
                               [](const std::vector<SessionView>& sessions) {
                                   return sessions.front().status != SessionStatus::created;
                               },
                           .on_change = nullptr});
    if (!watched) return watched.error();
    return std::move(watched->sessions.front());
}

// While it runs elsewhere the log grows there; once it has ended its files stand at the origin.
bool is_away(Context& context, const SessionView& session) {
    if (is_final(session.status) || session.origin.empty() || session.host.empty()) return false;
    if (session.host != session.origin.host) return true;
    if (session.host != context.host()) return false;
    return Runners(context).root_of(session) != session.origin.root;
}

std::string host_of_log(Context& context, const SessionView& session) {
    if (session.origin.empty() || is_away(context, session)) return session.host;
    return session.origin.host;
}

std::string folder_of_log(Context& context, const SessionView& session) {
    if (!is_away(context, session)) return session_folder(session);
    const workspace::ProjectPaths project(Runners(context).root_of(session));
    const std::string folder = project.workspace(session.id);
    return io::exists(folder) ? folder : std::string();
}

std::string fetch_hint(const SessionView& session) {
    if (!session.deliverables) return {};
    return ", or `ictl fetch " + session.id.str() + " output.log` here";
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return terminal.fail(broker.error());
    Result<Resolved> from = resolve(**broker, {options.id}, false);
    if (!from) return terminal.fail(from.error());
    SessionView session = from->sessions.front();
    if (options.follow) {
        Result<SessionView> started = wait_for_start(context, **broker, std::move(*from));
        if (!started) return terminal.fail(started.error());
        session = std::move(*started);
    }
    if (is_final(session.status)) refresh_workspace(context, session);
    const std::string host = host_of_log(context, session);
    if (!host.empty() && host != context.host()) {
        return terminal.fail(kExitFailure, "the log of " + session.id.str() + " stands on host " +
                                               host + "; run `ictl logs` there" +
                                               fetch_hint(session));
    }
    const std::string folder = folder_of_log(context, session);
    if (folder.empty()) {
        const Result<std::string> packed = read_compressed_output(session, options.lines);
        if (packed) {
            Printer(terminal, options.raw).print(*packed);
            return kExitOk;
        }
        if (packed.error().code != ErrorCode::not_found) return terminal.fail(packed.error());
        return terminal.fail(kExitFailure, "the workspace of " + session.id.str() +
                                               " is not on this host any more; was it removed?");
    }
    Printer printer(terminal, options.raw);
    OutputFollower follower(folder, output_size(folder));
    const Result<std::string> text = read_output(folder, options.lines);
    if (text) printer.print(*text);
    const bool goes_on = options.follow && !is_final(session.status);
    if (goes_on) return follow(context, **broker, session, folder, printer, follower);
    if (text) return kExitOk;
    return terminal.fail(kExitFailure, session.id.str() + " (" + status_words(session) +
                                           "): " + text.error().message);
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("id", options->id, "the session")->required();
    app.add_flag("-f,--follow", options->follow, "go on until the session has ended");
    app.add_flag("--raw", options->raw, "with control sequences, as the terminal got it");
    CLI::Option* lines =
        app.add_option("-n,--lines", options->lines_text, "only the last N lines")->type_name("N");
    return [options, lines](Context& context) {
        if (lines->count() > 0 && options->lines_text < 0) {
            return context.terminal().fail(
                kExitUsage, "bad -n " + std::to_string(options->lines_text) + "; give 0 or more");
        }
        if (lines->count() > 0) options->lines = static_cast<std::size_t>(options->lines_text);
        return run(context, *options);
    };
}

}  // namespace

Command logs_command() {
    return {.name = "logs",
            .group = kGroupSessions,
            .summary = "Print or follow a session's terminal output",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
