#include <CLI/CLI.hpp>
#include <memory>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/workspace/workspace.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/output_log.h"
#include "ctl/render.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Prints result.json byte for byte as the agent wrote it (on a terminal without control
characters).

Examples:
  ictl result $ID | jq .findings

Exit codes: 0; 1 there is none (yet); 4 no such session; 64 wrong arguments; 69 no broker;
77 denied.
)";

struct Options {
    std::string id;
    bool json = false;
};

void print(const Terminal& terminal, const std::string& bytes) {
    if (!terminal.out_is_terminal) return terminal.print(bytes);
    const std::string text = printable(bytes, false);
    terminal.print(text.ends_with('\n') ? text : text + "\n");
}

// The file on this host: what the broker does not hold, or not yet.
std::optional<std::string> local_result(const Context& context, const SessionView& session) {
    if (session.origin.host != context.host()) return std::nullopt;
    const std::string folder = session_folder(session);
    if (folder.empty()) return std::nullopt;
    const Result<std::optional<workspace::ResultFile>> file = workspace::read_result(folder);
    if (!file || !*file) return std::nullopt;
    if ((*file)->inlined) return (*file)->bytes;
    Result<std::string> bytes = io::read_file(folder + "/result.json", SIZE_MAX - 1);
    if (!bytes) return std::nullopt;
    return std::move(bytes).value();
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    if (trim(options.id).empty()) {
        return terminal.fail(kExitUsage,
                             "no session id given; did create fail? see logs/orchestrator.log");
    }
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return terminal.fail(broker.error());
    const Result<ResultReply> reply = (*broker)->call<ResultReply>(ResultRequest{.id = options.id});
    if (!reply) return terminal.fail(reply.error());
    const SessionView& session = reply->session;
    if (reply->held) {
        print(terminal, reply->result);
        return kExitOk;
    }
    // While the agent runs, its file is not a result yet: it may be half written.
    if (!is_final(session.status)) {
        return terminal.fail(kExitFailure, "no result yet: " + session.id.str() + " is " +
                                               status_words(session) + "; see `ictl wait`");
    }
    if (const std::optional<std::string> bytes = local_result(context, session)) {
        print(terminal, *bytes);
        return kExitOk;
    }
    if (session.result_size) {
        return terminal.fail(kExitFailure, "the result of " + session.id.str() + " has " +
                                               std::to_string(*session.result_size) +
                                               " bytes and stands on host " + session.origin.host +
                                               " in " + session.workspace + "/result.json");
    }
    return terminal.fail(kExitFailure, session.id.str() + " (" + status_words(session) +
                                           ") left no result.json; see `ictl logs " +
                                           session.id.str() + "`");
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("id", options->id, "the session")->required();
    app.add_flag("--json", options->json, "the same: a result is JSON");
    return [options](Context& context) { return run(context, *options); };
}

}  // namespace

Command result_command() {
    return {.name = "result",
            .group = kGroupSessions,
            .summary = "Print a session's result.json",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
