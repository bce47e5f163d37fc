#include "ctl/dry_run.h"

#include <gtest/gtest.h>

#include "ctl/render.h"
#include "tests/unit/ctl/fake_broker.h"

namespace iw::ctl {
namespace {

using std::chrono::minutes;
using test::view;

constexpr const char* kPrompt =
    "**Priority**: HIGH\n**Issue**: TEF-123\n**Estimated Duration**: 5 minutes\n"
    "**Max Duration**: 1 hour\n";

WorkerView worker(const std::string& name, const std::string& host) {
    WorkerView worker;
    worker.name = WorkerName(name);
    worker.host = host;
    worker.root = "/srv/site";
    worker.project = "site";
    worker.state = "up";
    worker.slots = 2;
    worker.agents = {"claude"};
    return worker;
}

Submission submission() {
    Submission submission;
    submission.agent = AgentName("claude");
    submission.project = "site";
    submission.origin = {.host = "here", .root = "/home/ana/site"};
    return submission;
}

std::string value_of(const std::vector<SubmissionValue>& values, const std::string& name) {
    for (const SubmissionValue& value : values) {
        if (value.name == name) return value.value + " (" + value.origin + ")";
    }
    return "";
}

TEST(ApplyHeader, SaysWhatNoOptionSays) {
    PromptHeader header = parse_prompt_header(kPrompt);
    Submission made = submission();
    made.tags = {"nightly"};
    apply_header(header, {}, made);
    EXPECT_EQ(made.priority, 10);
    EXPECT_EQ(made.tags, (std::vector<std::string>{"nightly", "TEF-123"}));
    EXPECT_EQ(made.estimate, minutes(5));
    EXPECT_EQ(made.timeout, minutes(60));
    const GivenOptions given{.names = {"--tag"}};
    const std::vector<SubmissionValue> values = submission_values(made, header, given);
    EXPECT_EQ(value_of(values, "priority"), "10 (prompt line 1)");
    EXPECT_EQ(value_of(values, "tags"), "nightly, TEF-123 (--tag, prompt line 2)");
    EXPECT_EQ(value_of(values, "estimate"), "5m (prompt line 3)");
    EXPECT_EQ(value_of(values, "timeout"), "1h (prompt line 4)");
    EXPECT_EQ(value_of(values, "on lost"), "wait (default)");
    EXPECT_EQ(value_of(values, "host"), "");
}

TEST(ApplyHeader, OptionsCountMore) {
    PromptHeader header = parse_prompt_header(kPrompt);
    Submission made = submission();
    made.priority = -10;
    made.timeout = minutes(7);
    made.estimate = minutes(1);
    apply_header(header, {.keep_priority = true, .keep_timeout = true, .keep_estimate = true},
                 made);
    EXPECT_EQ(made.priority, -10);
    EXPECT_EQ(made.timeout, minutes(7));
    EXPECT_EQ(made.estimate, minutes(1));
    const GivenOptions given{.names = {"--priority", "--timeout", "--estimate"}};
    EXPECT_EQ(value_of(submission_values(made, header, given), "priority"), "-10 (--priority)");
    EXPECT_TRUE(header.warnings.empty());
}

TEST(ApplyHeader, TheLimitOfTheProjectIsTheUpperBound) {
    for (const auto& [limit, timeout, warnings] :
         {std::tuple(minutes(30), minutes(30), 1u), std::tuple(minutes(90), minutes(60), 0u)}) {
        PromptHeader header = parse_prompt_header(kPrompt);
        Submission made = submission();
        made.timeout = limit;
        apply_header(header, {.timeout_max = limit}, made);
        EXPECT_EQ(made.timeout, timeout);
        EXPECT_EQ(header.warnings.size(), warnings);
    }
}

TEST(ApplyHeader, MoreTagsThanThereMayBeAreLeftOut) {
    PromptHeader header = parse_prompt_header("**Issue**: TEF-1\n");
    Submission made = submission();
    for (std::size_t i = 0; i < limits::kTagsMax; ++i)
        made.tags.push_back("t" + std::to_string(i));
    apply_header(header, {}, made);
    EXPECT_EQ(made.tags.size(), limits::kTagsMax);
    EXPECT_EQ(header.warnings.size(), 1u);
}

TEST(DryRun, SaysForEachWorkerWhatSpeaksAgainstIt) {
    Submission made = submission();
    made.host = "hosta";
    made.require = {{"gpu", "yes"}};
    WorkerView fits = worker("fits", "hosta");
    fits.labels = {{"gpu", "yes"}};
    WorkerView wrong_host = worker("wrong", "hostb");
    const WorkerView no_label = worker("bare", "hosta");
    DryRun run;
    judge_submission(made, {fits, wrong_host, no_label}, FleetReply{}, run);
    ASSERT_EQ(run.workers.size(), 3u);
    EXPECT_TRUE(run.workers[0].can_run) << "its files travel: " << run.workers[0].why;
    EXPECT_EQ(run.workers[1].why, "is on host hostb");
    EXPECT_EQ(run.workers[2].why, "has no label gpu=yes");
    EXPECT_FALSE(run.refusal);
    // Without a project there is no worker that would fetch the files.
    made.project = "";
    run = DryRun();
    judge_submission(made, {fits}, FleetReply{}, run);
    EXPECT_EQ(run.workers[0].why, "is of another root");
}

TEST(DryRun, SaysWhatSubmitWouldRefuse) {
    struct Row {
        const char* agent;
        bool in_project;
        bool queue_anyway;
        FleetReply fleet;
        std::optional<ErrorCode> code;
    };
    FleetReply full;
    full.storage_low = true;
    FleetReply read_only;
    read_only.read_only = "somebody has seen more";
    const std::vector<Row> rows = {
        {"claude", false, false, {}, std::nullopt},
        {"cluade", false, false, {}, ErrorCode::unknown_agent},
        {"cluade", true, false, {}, std::nullopt},
        {"cluade", false, true, {}, std::nullopt},
        {"claude", false, false, full, ErrorCode::storage_low},
        {"claude", false, false, read_only, ErrorCode::read_only},
    };
    for (const Row& row : rows) {
        Submission made = submission();
        made.agent = AgentName(row.agent);
        made.agent_in_project = row.in_project;
        made.queue_anyway = row.queue_anyway;
        DryRun run;
        judge_submission(made, {worker("w", "h")}, row.fleet, run);
        EXPECT_EQ(run.refusal ? std::optional(run.refusal->code) : std::nullopt, row.code)
            << row.agent;
    }
    Submission first = submission();
    DryRun run;
    judge_submission(first, {}, FleetReply{}, run);
    EXPECT_FALSE(run.refusal) << "before any worker came it is queued";
}

TEST(Overdue, IsWhatRunsForLongerThanItsEstimate) {
    SessionView session = view("20251118-151000-a", SessionStatus::running, Detail::working);
    const WallTime now = session.created_at + minutes(10);
    EXPECT_FALSE(is_overdue(session, now));
    session.estimate = minutes(5);
    EXPECT_FALSE(is_overdue(session, now)) << "not started";
    session.started_at = session.created_at + minutes(5);
    EXPECT_FALSE(is_overdue(session, now)) << "just at its estimate";
    EXPECT_TRUE(is_overdue(session, now + Duration(1)));
    const std::string table =
        session_table({session}, now + minutes(1), {.place = true, .colours = false});
    EXPECT_NE(table.find(" (overdue)\n"), std::string::npos) << table;
    EXPECT_NE(session_particulars(session, now + minutes(1)).find("Estimate: 5m (overdue)\n"),
              std::string::npos);
    const Explanation found =
        explain(ExplainInput{.session = session, .dependencies = {}, .workers = {}, .fleet = {}},
                now + minutes(1));
    ASSERT_EQ(found.notes.size(), 1u);
    EXPECT_EQ(found.notes[0], "is overdue: estimated at 5m, runs for 6m 0s");
    session.status = SessionStatus::completed;
    EXPECT_FALSE(is_overdue(session, now + minutes(1)));
}

}  // namespace
}  // namespace iw::ctl
