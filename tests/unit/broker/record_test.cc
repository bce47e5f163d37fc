#include "broker/core/record.h"

#include <gtest/gtest.h>

#include <set>

#include "broker/core/session.h"

namespace iw::broker {
namespace {

std::vector<RecordBody> every_body() {
    return {SessionCreated{},   AttemptAssigned{}, AttemptStarted{}, AttemptReturned{},
            SessionEnded{},     SessionClosed{},   KillWished{},     ReportSuperseded{},
            WorkerRegistered{}, WorkerNoted{},     TimeoutChanged{}, HoldChanged{},
            EpochBegun{},       RestoreReleased{}, AttemptAdopted{}, SessionEdited{}};
}

TEST(Record, KindsAreNumberedOnceAndForAll) {
    std::vector<int> kinds;
    std::set<std::string_view> names;
    for (const RecordBody& body : every_body()) {
        kinds.push_back(kind(body));
        names.insert(name(body));
    }
    EXPECT_EQ(kinds, (std::vector<int>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}));
    EXPECT_EQ(names.size(), kinds.size());
    EXPECT_EQ(kinds.size(), std::variant_size_v<RecordBody>);
}

TEST(Record, KnowsItsSession) {
    EXPECT_EQ(session_of(WorkerRegistered{}), nullptr);
    EXPECT_EQ(session_of(WorkerNoted{}), nullptr);
    const RecordBody body = SessionClosed{.id = SessionId("20251118-153042-a"), .by = "w"};
    ASSERT_NE(session_of(body), nullptr);
    EXPECT_EQ(session_of(body)->str(), "20251118-153042-a");
}

std::string text(std::optional<StatusChange> change) {
    return change ? status_text(*change) : "-";
}

TEST(Record, SaysWhatTheSessionShowsAfterIt) {
    const StatusChange done{SessionStatus::completed, Detail::done};
    const auto after = [&](const RecordBody& body, SessionStatus before) {
        return text(status_after(body, done, before));
    };
    SessionCreated delayed;
    delayed.not_before = wall_from_ms(1);
    EXPECT_EQ(after(SessionCreated{}, SessionStatus::created), "CREATED/queued");
    EXPECT_EQ(after(delayed, SessionStatus::created), "CREATED/delayed");
    EXPECT_EQ(after(AttemptAssigned{}, SessionStatus::created), "CREATED/assigned");
    EXPECT_EQ(after(AttemptStarted{}, SessionStatus::created), "RUNNING/working");
    EXPECT_EQ(after(AttemptReturned{}, SessionStatus::running), "CREATED/retrying");
    EXPECT_EQ(after(SessionEnded{}, SessionStatus::running), "RUNNING/delivering");
    EXPECT_EQ(after(SessionEnded{}, SessionStatus::created), "CREATED/delivering");
    EXPECT_EQ(after(SessionClosed{}, SessionStatus::running), "COMPLETED/done");
    EXPECT_EQ(after(KillWished{}, SessionStatus::running), "RUNNING/stopping");
    EXPECT_EQ(after(KillWished{}, SessionStatus::created), "-");
    EXPECT_EQ(after(ReportSuperseded{}, SessionStatus::running), "-");
    EXPECT_EQ(after(WorkerNoted{}, SessionStatus::running), "-");
    EXPECT_EQ(after(TimeoutChanged{}, SessionStatus::running), "-");
    EXPECT_EQ(after(SessionEdited{}, SessionStatus::running), "-");
    EXPECT_EQ(after(AttemptAdopted{}, SessionStatus::running), "CREATED/assigned");
    SessionCreated blocked;
    blocked.submission.after.push_back({.id = SessionId("20251118-153042-a")});
    EXPECT_EQ(after(blocked, SessionStatus::created), "CREATED/blocked");
    EXPECT_EQ(after(WorkerRegistered{}, SessionStatus::running), "-");
}

// Every phase against every kind of record: what is not here must not happen.
TEST(Record, TableOfPhases) {
    const std::map<std::pair<Phase, std::string>, Phase> legal = {
        {{Phase::queued, "attempt_assigned"}, Phase::assigned},
        {{Phase::queued, "session_ended"}, Phase::closing},
        {{Phase::queued, "report_superseded"}, Phase::queued},
        {{Phase::queued, "session_edited"}, Phase::queued},
        {{Phase::assigned, "session_edited"}, Phase::assigned},
        {{Phase::running, "session_edited"}, Phase::running},
        {{Phase::closing, "session_edited"}, Phase::closing},
        {{Phase::assigned, "attempt_started"}, Phase::running},
        {{Phase::assigned, "attempt_returned"}, Phase::queued},
        {{Phase::assigned, "session_ended"}, Phase::closing},
        {{Phase::assigned, "kill_wished"}, Phase::assigned},
        {{Phase::assigned, "report_superseded"}, Phase::assigned},
        {{Phase::running, "attempt_returned"}, Phase::queued},
        {{Phase::running, "session_ended"}, Phase::closing},
        {{Phase::running, "kill_wished"}, Phase::running},
        {{Phase::running, "report_superseded"}, Phase::running},
        {{Phase::queued, "timeout_changed"}, Phase::queued},
        {{Phase::assigned, "timeout_changed"}, Phase::assigned},
        {{Phase::running, "timeout_changed"}, Phase::running},
        {{Phase::queued, "attempt_adopted"}, Phase::assigned},
        {{Phase::assigned, "attempt_adopted"}, Phase::assigned},
        {{Phase::running, "attempt_adopted"}, Phase::assigned},
        {{Phase::closing, "session_closed"}, Phase::closing},
        {{Phase::closing, "report_superseded"}, Phase::closing},
    };
    for (const Phase phase : {Phase::queued, Phase::assigned, Phase::running, Phase::closing}) {
        for (const RecordBody& body : every_body()) {
            const auto row = legal.find({phase, std::string(name(body))});
            const std::optional<Phase> expected =
                row == legal.end() ? std::nullopt : std::optional(row->second);
            EXPECT_EQ(phase_after(phase, body), expected)
                << static_cast<int>(phase) << " " << name(body);
        }
    }
}

}  // namespace
}  // namespace iw::broker
