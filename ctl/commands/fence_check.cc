#include <CLI/CLI.hpp>
#include <memory>

#include "common/base/text.h"
#include "common/io/files.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/json.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Inside a session: whether this attempt is still the one that counts, with nobody wanting
it stopped. For an agent's own hooks, before it does what cannot be undone. What is not
certain is no yes: a hook that pushes must not push then.

Examples, .git/hooks/pre-push:
  ictl fence-check || exit 1

Exit codes: 0 this attempt is current; 1 it is not, and why; 64 not inside a session; 75
cannot be known now.
)";

struct Verdict {
    int code = kExitOk;
    std::string why;
};

std::optional<std::uint32_t> number_of(const char* variable) {
    long long value = 0;
    if (!parse_int(io::environment(variable), 0, UINT32_MAX, value)) return std::nullopt;
    return static_cast<std::uint32_t>(value);
}

Verdict judge(const SessionView& session, std::uint32_t attempt,
              std::optional<std::uint32_t> generation) {
    const std::string named = "session " + session.id.str();
    if (is_final(session.status)) {
        return {kExitFailure, named + " has ended (" + std::string(name(session.status)) + ")"};
    }
    const bool same_generation = !generation || *generation == session.generation;
    if (session.attempt != attempt || !same_generation) {
        return {kExitFailure, "this is attempt " + std::to_string(attempt) + ", but attempt " +
                                  std::to_string(session.attempt) + " (generation " +
                                  std::to_string(session.generation) + ") of " + named +
                                  " is the one that counts"};
    }
    // Then the broker shows the silence and not whether a stop is wished.
    if (session.detail == Detail::unreachable)
        return {kExitTryAgain, named + ": " + session.reason};
    if (session.detail == Detail::stopping)
        return {kExitFailure, named + " is being stopped: " + session.reason};
    if (session.status != SessionStatus::running || session.detail == Detail::delivering)
        return {kExitFailure, named + " is not running: " + std::string(name(session.detail))};
    return {kExitOk, "attempt " + std::to_string(attempt) + " of " + named + " is current"};
}

Verdict look(Context& context, const SessionId& id, std::uint32_t attempt) {
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return {kExitTryAgain, broker.error().message};
    const Result<StatusReply> status = (*broker)->status(id.str(), true);
    if (status) return judge(status->session, attempt, number_of("IW_GENERATION"));
    const ErrorCode code = status.error().code;
    const bool is_certain = code == ErrorCode::not_found || code == ErrorCode::gone ||
                            code == ErrorCode::stale_fence || code == ErrorCode::forbidden;
    return {is_certain ? kExitFailure : kExitTryAgain, status.error().message};
}

int run(Context& context, bool json) {
    const Terminal& terminal = context.terminal();
    const SessionId id = context.inside_session();
    const std::optional<std::uint32_t> attempt = number_of("IW_ATTEMPT");
    if (id.empty() || !attempt) {
        return terminal.fail(kExitUsage,
                             "not inside a session: IW_SESSION_ID and IW_ATTEMPT are not set");
    }
    const Verdict verdict = look(context, id, *attempt);
    if (json) {
        terminal.print(fields_json({{"session_id", id.str()},
                                    {"current", verdict.code == kExitOk        ? "true"
                                                : verdict.code == kExitFailure ? "false"
                                                                               : "unknown"},
                                    {"why", verdict.why}}));
        return verdict.code;
    }
    if (verdict.code != kExitOk) return terminal.fail(verdict.code, verdict.why);
    if (terminal.out_is_terminal) terminal.say(verdict.why);
    return kExitOk;
}

Runner declare(CLI::App& app) {
    auto json = std::make_shared<bool>(false);
    app.add_flag("--json", *json, "print JSON");
    return [json](Context& context) { return run(context, *json); };
}

}  // namespace

Command fence_check_command() {
    return {.name = "fence-check",
            .group = kGroupSessions,
            .summary = "Inside a session: whether this attempt still counts",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
