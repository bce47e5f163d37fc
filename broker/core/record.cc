#include "broker/core/record.h"

#include "common/base/check.h"
#include "common/base/overloaded.h"

namespace iw::broker {

// Numbers stand on disks: a new kind takes a new number, and none is used twice.
std::uint8_t kind(const RecordBody& body) {
    return std::visit(overloaded{
                          [](const SessionCreated&) -> std::uint8_t { return 1; },
                          [](const AttemptAssigned&) -> std::uint8_t { return 2; },
                          [](const AttemptStarted&) -> std::uint8_t { return 3; },
                          [](const AttemptReturned&) -> std::uint8_t { return 4; },
                          [](const SessionEnded&) -> std::uint8_t { return 5; },
                          [](const SessionClosed&) -> std::uint8_t { return 6; },
                          [](const KillWished&) -> std::uint8_t { return 7; },
                          [](const ReportSuperseded&) -> std::uint8_t { return 8; },
                          [](const WorkerRegistered&) -> std::uint8_t { return 9; },
                          [](const WorkerNoted&) -> std::uint8_t { return 10; },
                          [](const TimeoutChanged&) -> std::uint8_t { return 11; },
                          [](const HoldChanged&) -> std::uint8_t { return 12; },
                          [](const EpochBegun&) -> std::uint8_t { return 13; },
                          [](const RestoreReleased&) -> std::uint8_t { return 14; },
                          [](const AttemptAdopted&) -> std::uint8_t { return 15; },
                          [](const SessionEdited&) -> std::uint8_t { return 16; },
                      },
                      body);
}

std::string_view name(const RecordBody& body) {
    return std::visit(overloaded{
                          [](const SessionCreated&) { return "session_created"; },
                          [](const AttemptAssigned&) { return "attempt_assigned"; },
                          [](const AttemptStarted&) { return "attempt_started"; },
                          [](const AttemptReturned&) { return "attempt_returned"; },
                          [](const SessionEnded&) { return "session_ended"; },
                          [](const SessionClosed&) { return "session_closed"; },
                          [](const KillWished&) { return "kill_wished"; },
                          [](const ReportSuperseded&) { return "report_superseded"; },
                          [](const WorkerRegistered&) { return "worker_registered"; },
                          [](const WorkerNoted&) { return "worker_noted"; },
                          [](const TimeoutChanged&) { return "timeout_changed"; },
                          [](const HoldChanged&) { return "hold_changed"; },
                          [](const EpochBegun&) { return "epoch_begun"; },
                          [](const RestoreReleased&) { return "restore_released"; },
                          [](const AttemptAdopted&) { return "attempt_adopted"; },
                          [](const SessionEdited&) { return "session_edited"; },
                      },
                      body);
}

const SessionId* session_of(const RecordBody& body) {
    using Id = const SessionId*;
    return std::visit(overloaded{
                          [](const WorkerRegistered&) -> Id { return nullptr; },
                          [](const WorkerNoted&) -> Id { return nullptr; },
                          [](const HoldChanged&) -> Id { return nullptr; },
                          [](const EpochBegun&) -> Id { return nullptr; },
                          [](const RestoreReleased&) -> Id { return nullptr; },
                          [](const auto& of_session) -> Id { return &of_session.id; },
                      },
                      body);
}

bool is_attempt_used(const SessionEnded& ended) {
    if (!ended.started_at) return false;
    return ended.detail != Detail::lost && ended.detail != Detail::start_failed;
}

bool is_bound(const Record& before, const Record& after) {
    const auto* created = std::get_if<SessionCreated>(&before.body);
    const auto* ended = std::get_if<SessionEnded>(&after.body);
    return created != nullptr && ended != nullptr && created->id == ended->id;
}

std::optional<StatusChange> status_after(const RecordBody& body,
                                         std::optional<StatusChange> outcome,
                                         SessionStatus before) {
    using Change = std::optional<StatusChange>;
    return std::visit(
        overloaded{
            [](const SessionCreated& created) -> Change {
                if (!created.submission.after.empty()) {
                    return StatusChange{SessionStatus::created, Detail::blocked};
                }
                const bool delayed = created.not_before.has_value();
                return StatusChange{SessionStatus::created,
                                    delayed ? Detail::delayed : Detail::queued};
            },
            [](const AttemptAssigned&) -> Change {
                return StatusChange{SessionStatus::created, Detail::assigned};
            },
            [](const AttemptStarted&) -> Change {
                return StatusChange{SessionStatus::running, Detail::working};
            },
            [](const AttemptReturned&) -> Change {
                return StatusChange{SessionStatus::created, Detail::retrying};
            },
            // The files are not written yet: the status stays what it was until they are.
            [before](const SessionEnded&) -> Change {
                return StatusChange{before, Detail::delivering};
            },
            [&outcome](const SessionClosed&) -> Change {
                IW_CHECK(outcome.has_value());
                IW_CHECK(is_final(outcome->status));
                return outcome;
            },
            [before](const KillWished&) -> Change {
                if (before != SessionStatus::running) return std::nullopt;
                return StatusChange{SessionStatus::running, Detail::stopping};
            },
            [](const ReportSuperseded&) -> Change { return std::nullopt; },
            [](const WorkerRegistered&) -> Change { return std::nullopt; },
            [](const WorkerNoted&) -> Change { return std::nullopt; },
            [](const TimeoutChanged&) -> Change { return std::nullopt; },
            [](const HoldChanged&) -> Change { return std::nullopt; },
            [](const EpochBegun&) -> Change { return std::nullopt; },
            [](const RestoreReleased&) -> Change { return std::nullopt; },
            [](const AttemptAdopted&) -> Change {
                return StatusChange{SessionStatus::created, Detail::assigned};
            },
            [](const SessionEdited&) -> Change { return std::nullopt; },
        },
        body);
}

}  // namespace iw::broker
