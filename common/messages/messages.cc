#include "common/messages/messages.h"

#include <array>

#include "common/base/overloaded.h"

namespace iw {

std::string_view name(AttemptPhase phase) {
    switch (phase) {
        case AttemptPhase::accepted:
            return "accepted";
        case AttemptPhase::running:
            return "running";
        case AttemptPhase::ended:
            return "ended";
        case AttemptPhase::closing:
            return "closing";
        case AttemptPhase::closed:
            return "closed";
        case AttemptPhase::declined:
            return "declined";
    }
    return "?";
}

std::optional<AttemptPhase> parse_attempt_phase(std::string_view text) {
    constexpr std::array kPhases = {AttemptPhase::accepted, AttemptPhase::running,
                                    AttemptPhase::ended,    AttemptPhase::closing,
                                    AttemptPhase::closed,   AttemptPhase::declined};
    for (const AttemptPhase phase : kPhases) {
        if (name(phase) == text) return phase;
    }
    return std::nullopt;
}

std::string_view name(EndCause cause) {
    switch (cause) {
        case EndCause::exited:
            return "exited";
        case EndCause::signal:
            return "signal";
        case EndCause::stopped:
            return "stopped";
        case EndCause::start_failed:
            return "start-failed";
        case EndCause::lost:
            return "lost";
        case EndCause::disk_limit:
            return "disk-limit";
        case EndCause::result_missing:
            return "result-missing";
        case EndCause::result_invalid:
            return "result-invalid";
    }
    return "?";
}

std::optional<EndCause> parse_end_cause(std::string_view text) {
    constexpr std::array kCauses = {
        EndCause::exited, EndCause::signal,     EndCause::stopped,        EndCause::start_failed,
        EndCause::lost,   EndCause::disk_limit, EndCause::result_missing, EndCause::result_invalid};
    for (const EndCause cause : kCauses) {
        if (name(cause) == text) return cause;
    }
    return std::nullopt;
}

std::string_view verb(const Request& request) {
    return std::visit(overloaded{[](const HelloRequest&) { return "hello"; },
                                 [](const SubmitRequest&) { return "submit"; },
                                 [](const StatusRequest&) { return "status"; },
                                 [](const ListRequest&) { return "list"; },
                                 [](const ResultRequest&) { return "result"; },
                                 [](const WorkersRequest&) { return "workers"; },
                                 [](const EventsRequest&) { return "events"; },
                                 [](const KillRequest&) { return "kill"; },
                                 [](const RetryRequest&) { return "retry"; },
                                 [](const HeartbeatRequest&) { return "heartbeat"; },
                                 [](const ReportRequest&) { return "report"; },
                                 [](const RelayRequest&) { return "relay"; },
                                 [](const GoodbyeRequest&) { return "goodbye"; },
                                 [](const ExtendRequest&) { return "extend"; },
                                 [](const HoldRequest&) { return "hold"; },
                                 [](const ConfirmDeadRequest&) { return "confirm_dead"; },
                                 [](const BackupRequest&) { return "backup"; },
                                 [](const ReleaseRequest&) { return "release"; },
                                 [](const FleetRequest&) { return "fleet"; },
                                 [](const EditRequest&) { return "edit"; },
                                 [](const GetRequest&) { return "get"; },
                                 [](const PutRequest&) { return "put"; }},
                      request);
}

std::string_view verb(const Reply& reply) {
    return std::visit(overloaded{[](const WelcomeReply&) { return "hello"; },
                                 [](const SubmitReply&) { return "submit"; },
                                 [](const StatusReply&) { return "status"; },
                                 [](const ListReply&) { return "list"; },
                                 [](const ResultReply&) { return "result"; },
                                 [](const WorkersReply&) { return "workers"; },
                                 [](const EventsReply&) { return "events"; },
                                 [](const KillReply&) { return "kill"; },
                                 [](const RetryReply&) { return "retry"; },
                                 [](const HeartbeatReply&) { return "heartbeat"; },
                                 [](const ReportReply&) { return "report"; },
                                 [](const RelayReply&) { return "relay"; },
                                 [](const GoodbyeReply&) { return "goodbye"; },
                                 [](const ExtendReply&) { return "extend"; },
                                 [](const HoldReply&) { return "hold"; },
                                 [](const ConfirmDeadReply&) { return "confirm_dead"; },
                                 [](const BackupReply&) { return "backup"; },
                                 [](const ReleaseReply&) { return "release"; },
                                 [](const FleetReply&) { return "fleet"; },
                                 [](const EditReply&) { return "edit"; },
                                 [](const GetReply&) { return "get"; },
                                 [](const PutReply&) { return "put"; }},
                      reply);
}

std::string_view verb(const Push& push) {
    return std::visit(
        overloaded{[](const AssignPush&) { return "assign"; },
                   [](const StopPush&) { return "stop"; }, [](const ClosePush&) { return "close"; },
                   [](const LimitsPush&) { return "limits"; },
                   [](const FollowPush&) { return "follow"; }},
        push);
}

}  // namespace iw
