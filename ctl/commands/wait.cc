#include <CLI/CLI.hpp>
#include <memory>

#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/reporting.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Waits for all of the sessions (default), any, or a number of them, and prints a line for
each that ended. It is woken by the broker and polls nothing. Ctrl+C stops the waiting, not
the sessions. --json prints {"sessions": [...], "ended": [ids, the first end first],
"timed_out", "exit_code"}.

Examples:
  ictl wait $ID
  ictl wait $A $B $C --any --timeout 10m
  FIRST=$(ictl wait $A $B $C --any --json | jq -r '.ended[0]')
  ictl wait $A $B --by-result && echo both succeeded

Exit codes: the worst over those that ended of 0 completed, 1 failed, 2 killed, 3 lost or
expired; 4 no such session; 64 wrong arguments; 69 no broker; 75 it cannot be told, repeat;
77 denied; 124 timeout; 130 interrupted.
)";

struct Options {
    std::vector<std::string> ids;
    bool all = false;
    bool any = false;
    int count = 0;
    bool given_count = false;
    std::string timeout;
    bool by_result = false;
    bool json = false;
};

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    WaitRequest request{.ids = options.ids, .by_result = options.by_result, .json = options.json};
    if (static_cast<int>(options.all) + static_cast<int>(options.any) +
            static_cast<int>(options.given_count) >
        1) {
        return terminal.fail(kExitUsage, "--all, --any and --count exclude each other; give one");
    }
    if (options.given_count && options.count < 1) {
        return terminal.fail(kExitUsage,
                             "bad --count " + std::to_string(options.count) + "; give 1 or more");
    }
    if (options.any) request.count = 1;
    if (options.given_count) request.count = static_cast<std::size_t>(options.count);
    if (!options.timeout.empty()) {
        const Result<Duration> timeout = parse_duration(options.timeout);
        if (!timeout) return terminal.fail(kExitUsage, "--timeout: " + timeout.error().message);
        request.timeout = *timeout;
    }
    return wait_and_report(context, request);
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("id", options->ids, "the sessions")->required();
    app.add_flag("--all", options->all, "until all have ended (default)");
    app.add_flag("--any", options->any, "until one has ended");
    CLI::Option* count =
        app.add_option("--count", options->count, "until this many have ended")->type_name("N");
    app.add_option("--timeout", options->timeout, "at most this long")->type_name("D");
    app.add_flag("--by-result", options->by_result, "judge by the status in result.json");
    app.add_flag("--json", options->json, "print JSON at the end");
    return [options, count](Context& context) {
        options->given_count = count->count() > 0;
        return run(context, *options);
    };
}

}  // namespace

Command wait_command() {
    return {.name = "wait",
            .group = kGroupSessions,
            .summary = "Wait until sessions end",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
