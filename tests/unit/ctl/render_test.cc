#include "ctl/render.h"

#include <gtest/gtest.h>

#include "ctl/json.h"
#include "tests/unit/ctl/fake_broker.h"

namespace iw::ctl {
namespace {

using test::view;

constexpr WallTime kNow = WallTime(Duration(1'763'479'110'000));  // 2025-11-18T15:18:30Z

TEST(Table, ColumnsGrowAndNullIsADash) {
    const std::vector<std::vector<Cell>> rows = {{{"A"}, {"LONG"}, {"C"}},
                                                 {{"wider"}, {""}, {"x"}}};
    EXPECT_EQ(table(rows, false), "A      LONG  C\nwider  -     x\n");
}

TEST(Table, CountsCharactersNotBytes) {
    EXPECT_EQ(table({{{"é"}, {"x"}}, {{"ab"}, {"y"}}}, false), "é   x\nab  y\n");
}

TEST(Table, ColoursDoNotMoveColumns) {
    const std::string text = table({{{"a", Colour::red}, {"x"}}, {{"abc"}, {"y"}}}, true);
    EXPECT_EQ(text, "\x1b[31ma\x1b[0m    x\nabc  y\n");
}

TEST(SessionTable, HasTheColumnsOfTheContract) {
    SessionView session =
        view("20251118-151000-grafana-agent", SessionStatus::created, Detail::queued);
    EXPECT_EQ(session_table({session}, kNow, {.place = false, .colours = false}),
              "SESSION ID                     AGENT          STATUS   STARTED  ELAPSED\n"
              "20251118-151000-grafana-agent  grafana-agent  CREATED  -        -\n");
    session.status = SessionStatus::running;
    session.detail = Detail::working;
    session.started_at = session.created_at + Duration(10'000);
    session.host = "hosta";
    EXPECT_EQ(
        session_table({session}, kNow, {.place = true, .colours = false}),
        "SESSION ID                     AGENT          STATUS   STARTED           ELAPSED  HOST "
        "(REASON)\n"
        "20251118-151000-grafana-agent  grafana-agent  RUNNING  2025-11-18 15:10  8m 20s   "
        "hosta\n");
}

TEST(SessionTable, ShowsWhyItWaits) {
    SessionView session = view("20251118-151000-x", SessionStatus::created, Detail::no_worker);
    EXPECT_NE(session_table({session}, kNow, {.place = true, .colours = false}).find("(no-worker)"),
              std::string::npos);
    session.reason = "no worker offers\nthe agent\x1b[31m";
    const std::string text = session_table({session}, kNow, {.place = true, .colours = false});
    EXPECT_EQ(text.find('\x1b'), std::string::npos) << "text from outside is made harmless";
    EXPECT_NE(text.find("(no worker offers the agent"), std::string::npos) << text;
}

TEST(SessionTable, HeaderStandsAlone) {
    EXPECT_EQ(session_table({}, kNow, {.place = false, .colours = false}),
              "SESSION ID  AGENT  STATUS  STARTED  ELAPSED\n");
}

TEST(SessionDetails, LeavesOutWhatIsNotKnown) {
    SessionView session =
        view("20251118-151000-grafana-agent", SessionStatus::failed, Detail::exited);
    session.started_at = session.created_at;
    session.completed_at = session.created_at + Duration(3'723'000);
    session.exit_code = 3;
    const std::string text = session_details(session, false, kNow);
    EXPECT_EQ(text,
              "Session: 20251118-151000-grafana-agent\n"
              "Agent: grafana-agent\n"
              "Status: FAILED\n"
              "Created: 2025-11-18 15:10:00\n"
              "Started: 2025-11-18 15:10:00\n"
              "Completed: 2025-11-18 16:12:03\n"
              "Elapsed: 1h 02m 03s\n"
              "Exit code: 3\n"
              "Tmux: iw-20251118-151000-grafana-agent (inactive)\n");
}

TEST(StatusWords, NameTheDetailWhereItSaysMore) {
    EXPECT_EQ(status_words(view("x", SessionStatus::created, Detail::queued)), "CREATED (queued)");
    EXPECT_EQ(status_words(view("x", SessionStatus::running, Detail::working)), "RUNNING");
    EXPECT_EQ(status_words(view("x", SessionStatus::killed, Detail::timeout)), "KILLED (timeout)");
}

TEST(Elapsed, NeverRunsBackwards) {
    SessionView session = view("x", SessionStatus::created, Detail::queued);
    EXPECT_EQ(elapsed_since_created(session, session.created_at - Duration(5)), Duration(0));
    EXPECT_FALSE(elapsed_since_started(session, kNow).has_value());
}

TEST(WorkerTable, ShowsSlotsAndSilence) {
    WorkerView worker{.name = WorkerName("w1"),
                      .host = "hosta",
                      .state = "up",
                      .slots = 5,
                      .used = 2,
                      .agents = {"claude", "codex"},
                      .heard_at = kNow - Duration(7'000)};
    EXPECT_EQ(worker_table({worker}, kNow, false),
              "WORKER  HOST   STATE  SLOTS  HEARD   PROJECT  AGENTS\n"
              "w1      hosta  up     2/5    7s ago  -        claude codex\n");
}

}  // namespace
TEST(SafeJson, EscapesWhatATerminalWouldActOn) {
    EXPECT_EQ(safe_json("{\"a\": \"x\xC2\x9By\x7F\"}"), "{\"a\": \"x\\u009by\\u007f\"}");
    EXPECT_EQ(safe_json("\"\xC2\xA0 \xC3\x9B\""), "\"\xC2\xA0 \xC3\x9B\"");
}

}  // namespace iw::ctl
