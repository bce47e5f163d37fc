#include <CLI/CLI.hpp>
#include <memory>

#include "ctl/attachment.h"
#include "ctl/command.h"
#include "ctl/context.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Enters the session's tmux on this host. Ctrl+B D leaves it running. A session that still
waits is waited for (Ctrl+C leaves it queued); one that has ended shows its status and the
end of its log.

Examples:
  ictl attach $ID

Exit codes: 0; 1 no terminal, or it runs on another host; 2 tmux failed; 4 no such session;
64 wrong arguments; 69 no broker; 77 denied; 130 interrupted while waiting.
)";

struct Options {
    std::string id;
    std::string worker_state;
};

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("id", options->id, "the session")->required();
    app.add_option(
           "--worker-state", options->worker_state,
           "state folder of this host's worker (default: worker.state_dir of ictl.toml, else "
           "the embedded fleet's)")
        ->type_name("DIR");
    return [options](Context& context) {
        return attach_session(context, options->id, options->worker_state);
    };
}

}  // namespace

Command attach_command() {
    return {.name = "attach",
            .group = kGroupSessions,
            .summary = "Enter a session's terminal",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
