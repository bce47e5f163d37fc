// The records of attempts: what is written comes back, and what is broken is seen and hides nothing
// else.

#include <gtest/gtest.h>

#include <fstream>

#include "common/io/files.h"
#include "tests/support/temp_dir.h"
#include "worker/attempt_store/attempt_store.h"

namespace iw::test {
namespace {

using worker::AttemptFacts;
using worker::AttemptStore;
using worker::Claim;

class LauncherRecords : public testing::Test {
  protected:
    LauncherRecords() : store_(std::move(*AttemptStore::open(dir_.path()))) {}

    static AttemptRef attempt(const std::string& agent) {
        return {.session = SessionId("20251118-153042-" + agent),
                .fence = {.generation = 2, .attempt = 3}};
    }
    Assignment assignment(const std::string& agent) const {
        Assignment result;
        result.session = attempt(agent).session;
        result.fence = attempt(agent).fence;
        result.agent = AgentName(agent);
        result.project = "p";
        result.origin = {.host = "h", .root = "/r \xFF"};
        result.prompt = "pro\0mpt\r\n";
        result.created_at = wall_from_ms(1'763'480'000'123);
        result.timeout = Duration{1'800'000};
        result.disk_limit = 500u << 20;
        result.parent = SessionId("20251118-153000-boss");
        result.priority = -7;
        result.tags = {"a", "\"b\""};
        result.metadata = R"({"x": [1]})";
        return result;
    }
    void overwrite(const std::string& agent, const std::string& file, const std::string& text) {
        std::ofstream(store_.folder(attempt(agent)) + "/" + file) << text;
    }

    TempDir dir_;
    AttemptStore store_;
};

TEST_F(LauncherRecords, KeepAnAssignment) {
    const Assignment written = assignment("a");
    ASSERT_TRUE(store_.accept(written).ok());
    EXPECT_EQ(store_.accept(written).error().code, ErrorCode::conflict);
    const auto facts = store_.load(attempt("a"));
    ASSERT_TRUE(facts.ok()) << facts.error().message;
    ASSERT_TRUE(facts->assignment.has_value());
    const Assignment& read = *facts->assignment;
    EXPECT_EQ(read.session, written.session);
    EXPECT_EQ(read.fence, written.fence);
    EXPECT_EQ(read.agent, written.agent);
    EXPECT_EQ(read.origin, written.origin);
    EXPECT_EQ(read.prompt, "");
    EXPECT_EQ(read.created_at, written.created_at);
    EXPECT_EQ(read.timeout, written.timeout);
    EXPECT_EQ(read.disk_limit, written.disk_limit);
    EXPECT_EQ(read.parent, written.parent);
    EXPECT_TRUE(read.retry_of.empty());
    EXPECT_EQ(read.priority, written.priority);
    EXPECT_EQ(read.tags, written.tags);
    EXPECT_EQ(read.metadata, written.metadata);
    EXPECT_EQ(*io::read_file(store_.folder(attempt("a")) + "/prompt.md", 100), written.prompt);
    EXPECT_FALSE(facts->claim || facts->process || facts->stop || facts->exit || facts->outcome);
    EXPECT_FALSE(facts->log_done || facts->closed);
}

TEST_F(LauncherRecords, KeepAPlanOfAnyBytes) {
    ASSERT_TRUE(store_.accept(assignment("a")).ok());
    EXPECT_EQ(store_.read_plan(attempt("a")).error().code, ErrorCode::not_found);
    worker::LaunchPlan plan;
    plan.attempt = attempt("a");
    plan.folder = "/r\xC3\x28";
    plan.workspace = "/w\n\"";
    plan.argv = {"x", "", "\xFF\xFE", "{\"hex\": 1}"};
    plan.environment = {{"A", "1=2"}, {"B", "\x80"}, {"hex", "00"}};
    plan.stdin_file = "/p";
    plan.log_bytes_max = 7;
    plan.stop_grace = Duration{1234};
    plan.settle = Duration{77};
    ASSERT_TRUE(store_.write_plan(plan).ok());
    const auto read = store_.read_plan(attempt("a"));
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->attempt, plan.attempt);
    EXPECT_EQ(read->folder, plan.folder);
    EXPECT_EQ(read->workspace, plan.workspace);
    EXPECT_EQ(read->argv, plan.argv);
    EXPECT_EQ(read->environment, plan.environment);
    EXPECT_EQ(read->stdin_file, plan.stdin_file);
    EXPECT_EQ(read->log_bytes_max, plan.log_bytes_max);
    EXPECT_EQ(read->stop_grace, plan.stop_grace);
    EXPECT_EQ(read->settle, plan.settle);
}

TEST_F(LauncherRecords, KeepALife) {
    const AttemptRef a = attempt("a");
    ASSERT_TRUE(store_.accept(assignment("a")).ok());
    ASSERT_TRUE(store_.claim(a, Claim::launcher, "because").ok());
    EXPECT_EQ(store_.claim(a, Claim::stopped, "").error().code, ErrorCode::conflict);
    ASSERT_TRUE(store_
                    .write_process(a, {.launcher = {.pid = 1, .start_ticks = 2},
                                       .agent = {.pid = 3, .start_ticks = 4},
                                       .boot_id = "b",
                                       .started_at = wall_from_ms(5)})
                    .ok());
    ASSERT_TRUE(
        store_.write_stop(a, {.cause = Detail::timeout, .reason = "late", .at = wall_from_ms(6)})
            .ok());
    ASSERT_TRUE(
        store_.write_stop(a, {.cause = Detail::killed, .reason = "second", .at = wall_from_ms(7)})
            .ok());
    ASSERT_TRUE(store_
                    .write_exit(a, {.cause = EndCause::stopped,
                                    .exit_code = 143,
                                    .stop_sent = true,
                                    .reason = "r",
                                    .evidence = "e",
                                    .ended_at = wall_from_ms(8),
                                    .swept = 9})
                    .ok());
    EXPECT_EQ(store_.write_exit(a, {}).error().code, ErrorCode::conflict);
    ASSERT_TRUE(store_.write_log_done(a, 10, 11).ok());
    SessionView outcome;
    outcome.id = a.session;
    outcome.status = SessionStatus::killed;
    outcome.detail = Detail::timeout;
    outcome.completed_at = wall_from_ms(12);
    outcome.exit_code = 143;
    outcome.result_size = 13;
    outcome.revision = 14;
    ASSERT_TRUE(store_.write_outcome(a, outcome).ok());
    ASSERT_TRUE(store_.write_reported(a, 2).ok());
    ASSERT_TRUE(store_.write_closed(a).ok());

    const auto all = store_.load_all();
    ASSERT_TRUE(all.ok());
    ASSERT_EQ(all->size(), 1u);
    const AttemptFacts& facts = all->front();
    EXPECT_EQ(facts.error, "");
    EXPECT_EQ(facts.attempt, a);
    EXPECT_EQ(facts.claim, Claim::launcher);
    EXPECT_EQ(facts.claim_reason, "because");
    EXPECT_EQ(facts.process->agent.start_ticks, 4u);
    EXPECT_EQ(facts.stop->cause, Detail::timeout);
    EXPECT_EQ(facts.stop->reason, "late");
    EXPECT_EQ(facts.exit->cause, EndCause::stopped);
    EXPECT_EQ(facts.exit->exit_code, 143);
    EXPECT_TRUE(facts.exit->stop_sent);
    EXPECT_FALSE(facts.exit->started_at.has_value());
    EXPECT_EQ(facts.exit->swept, 9u);
    EXPECT_TRUE(facts.log_done);
    EXPECT_EQ(facts.outcome->status, SessionStatus::killed);
    EXPECT_EQ(facts.outcome->completed_at, wall_from_ms(12));
    EXPECT_EQ(facts.outcome->result_size, 13u);
    EXPECT_EQ(facts.reported, 2u);
    EXPECT_TRUE(facts.closed);
    ASSERT_TRUE(store_.remove(a).ok());
    EXPECT_TRUE(store_.load_all()->empty());
    EXPECT_EQ(store_.load(a).error().code, ErrorCode::not_found);
    EXPECT_TRUE(store_.remove(a).ok());
}

TEST_F(LauncherRecords, KeepTheNewestLimits) {
    const AttemptRef a = attempt("a");
    ASSERT_TRUE(store_.accept(assignment("a")).ok());
    EXPECT_FALSE(store_.load(a)->timeout.has_value());
    for (const Duration timeout : {Duration{5'000}, Duration{0}, Duration{86'400'000}}) {
        ASSERT_TRUE(store_.write_limits(a, timeout).ok());
        EXPECT_EQ(store_.load(a)->timeout, timeout);
        EXPECT_EQ(store_.load_all()->front().timeout, timeout);
    }
    // The assignment's counts then, until the broker repeats the change; no attempt is given up
    // over it.
    for (const char* text : {"", "{", "[]", "{\"timeout_ms\": \"5\"}", "{\"timeout\": 5}"}) {
        overwrite("a", "limits.json", text);
        const auto facts = store_.load(a);
        ASSERT_TRUE(facts.ok()) << text;
        EXPECT_FALSE(facts->timeout.has_value()) << text;
    }
}

TEST_F(LauncherRecords, KeepAVerdictWithAResultOfAnyBytes) {
    const AttemptRef a = attempt("a");
    ASSERT_TRUE(store_.accept(assignment("a")).ok());
    EXPECT_FALSE(store_.read_judged(a).has_value());
    const worker::JudgedRecord with_result{.success = true,
                                           .reason = "r \"\n",
                                           .result_status = "failure",
                                           .result_size = 5,
                                           .result_sha256 = "abc",
                                           .result_inline = true,
                                           .result = std::string("\0\xFF\xC3(}", 5)};
    const worker::JudgedRecord without{.success = false, .reason = "no result.json"};
    for (const worker::JudgedRecord& written : {with_result, without}) {
        ASSERT_TRUE(store_.write_judged(a, written).ok());
        const auto read = store_.read_judged(a);
        ASSERT_TRUE(read.has_value());
        EXPECT_EQ(read->success, written.success);
        EXPECT_EQ(read->reason, written.reason);
        EXPECT_EQ(read->result_status, written.result_status);
        EXPECT_EQ(read->result_size, written.result_size);
        EXPECT_EQ(read->result_sha256, written.result_sha256);
        EXPECT_EQ(read->result_inline, written.result_inline);
        EXPECT_EQ(read->result, written.result);
    }
    // It is judged once more then; the facts stay whole.
    for (const char* text : {"", "{", "{\"success\": 1}", "{\"success\": true}"}) {
        overwrite("a", "judged.json", text);
        EXPECT_FALSE(store_.read_judged(a).has_value()) << text;
        EXPECT_TRUE(store_.load(a).ok()) << text;
    }
}

TEST_F(LauncherRecords, RemoveOnlyWhatIsClosed) {
    ASSERT_TRUE(store_.accept(assignment("a")).ok());
    EXPECT_EQ(store_.remove(attempt("a")).error().code, ErrorCode::conflict);
    EXPECT_TRUE(store_.load(attempt("a")).ok());
}

TEST_F(LauncherRecords, TakeAStopOfAnUnknownAttempt) {
    ASSERT_TRUE(
        store_.write_stop(attempt("a"), {.cause = Detail::killed, .reason = "", .at = {}}).ok());
    const auto all = store_.load_all();
    ASSERT_EQ(all->size(), 1u);
    EXPECT_TRUE(all->front().stop.has_value());
    // The assignment that comes later is recorded beside it.
    EXPECT_TRUE(store_.accept(assignment("a")).ok());
    EXPECT_TRUE(store_.load(attempt("a"))->stop.has_value());
}

TEST_F(LauncherRecords, ShowWhatIsBroken) {
    for (const char* agent : {"a", "b", "c"}) {
        ASSERT_TRUE(store_.accept(assignment(agent)).ok());
        ASSERT_TRUE(store_.write_exit(attempt(agent), {}).ok());
    }
    const std::vector<std::string> broken = {"",
                                             "{",
                                             "null",
                                             "[]",
                                             "{\"cause\": \"sleepy\"}",
                                             "{\"cause\": 3}",
                                             std::string(100'000, '[')};
    for (const std::string& text : broken) {
        overwrite("b", "exit.json", text);
        const auto one = store_.load(attempt("b"));
        ASSERT_FALSE(one.ok()) << text.substr(0, 20);
        EXPECT_NE(one.error().message.find(store_.folder(attempt("b")) + "/exit.json"),
                  std::string::npos);
        const auto all = store_.load_all();
        ASSERT_TRUE(all.ok());
        ASSERT_EQ(all->size(), 3u);
        EXPECT_EQ((*all)[0].error, "");
        EXPECT_TRUE((*all)[0].exit.has_value());
        EXPECT_NE((*all)[1].error, "");
        EXPECT_FALSE((*all)[1].exit.has_value());
        EXPECT_TRUE((*all)[1].assignment.has_value());
        EXPECT_TRUE((*all)[2].exit.has_value());
    }
}

TEST_F(LauncherRecords, LeaveOutWhatIsNotTheirs) {
    for (const char* name : {"notes", ".removed-20251118-153042-a-1-1", "20251118-153042-a-1-01",
                             "20251118-153042-z-1-1"}) {
        ASSERT_TRUE(io::make_folders(dir_.path("attempts/") + name, 0700).ok());
    }
    EXPECT_TRUE(store_.load_all()->empty());
}

TEST_F(LauncherRecords, ReadNamesBack) {
    for (const char* agent : {"a", "foo-2", "foo-2-3", "x_y"}) {
        EXPECT_EQ(AttemptStore::parse_name(attempt_name(attempt(agent))), attempt(agent));
    }
    for (const char* name : {"", "-", "--", "a-1-1", "20251118-153042-a", "20251118-153042-a-1",
                             "20251118-153042-a--1", "20251118-153042-a-1-",
                             "20251118-153042-a-1--1", "20251118-153042-a-+1-1",
                             "../20251118-153042-a-1-1", "20251118-153042-a-1-99999999999"}) {
        EXPECT_FALSE(AttemptStore::parse_name(name).has_value()) << name;
    }
}

}  // namespace
}  // namespace iw::test
