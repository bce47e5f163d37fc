// Success rules on outputs as the agent CLIs write them: exit codes alone lie.

#include <gtest/gtest.h>

#include <fstream>

#include "common/base/text.h"
#include "tests/support/temp_dir.h"
#include "worker/agents/agents.h"

namespace iw::worker {
namespace {

TEST(Judge, ExitCodeDecidesForScripts) {
    EXPECT_TRUE(judge(SuccessRule::exit_code, 0, false, "").success);
    const Judgement failed = judge(SuccessRule::exit_code, 3, true, "");
    EXPECT_FALSE(failed.success);
    EXPECT_EQ(failed.reason, "exit code 3");
}

TEST(Judge, ResultFileMustExist) {
    EXPECT_TRUE(judge(SuccessRule::result_file, 0, true, "").success);
    EXPECT_FALSE(judge(SuccessRule::result_file, 0, false, "").success);
    EXPECT_FALSE(judge(SuccessRule::result_file, 1, true, "").success);
}

constexpr const char* kClaudeStart =
    "{\"type\":\"system\",\"subtype\":\"init\"}\r\n{\"type\":\"assistant\",\"message\":{"
    "\"content\":\"is_error\"}}\r\n";

TEST(Judge, ClaudeSucceeds) {
    const std::string good =
        std::string(kClaudeStart) +
        "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"ok\"}\r\n";
    EXPECT_TRUE(judge(SuccessRule::claude_json, 0, false, good).success);
    // Terminals and wrappers print more.
    EXPECT_TRUE(judge(SuccessRule::claude_json, 0, false,
                      "{\"cut\":\r\n" + good + "bye\r\n\r\n{not json}\r\n")
                    .success);
    EXPECT_FALSE(judge(SuccessRule::claude_json, 1, false, good).success);
}

TEST(Judge, ClaudeErrorBehindAWordOfSuccess) {
    const Judgement refused =
        judge(SuccessRule::claude_json, 0, true,
              std::string(kClaudeStart) +
                  "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,"
                  "\"api_error_status\":401,\"result\":\"Invalid \\u001b[31mkey\"}\r\n");
    EXPECT_FALSE(refused.success);
    EXPECT_NE(refused.reason.find("Invalid"), std::string::npos) << refused.reason;
    EXPECT_EQ(refused.reason.find('\x1b'), std::string::npos);
}

TEST(Judge, ClaudeWithoutAResult) {
    for (const std::string& output :
         {std::string(), std::string(kClaudeStart), std::string("{\"type\":\"result\""),
          std::string("{\"type\":\"result\"}"), std::string("{\"type\":[\"result\"]}"),
          std::string("{\"type\":\"result\",\"is_error\":\"false\"}")}) {
        EXPECT_FALSE(judge(SuccessRule::claude_json, 0, true, output).success) << output;
    }
}

TEST(Judge, CodexLastTurnCounts) {
    const std::string start = "{\"type\":\"thread.started\"}\n{\"type\":\"turn.started\"}\n";
    const std::string done = "{\"type\":\"turn.completed\",\"usage\":{}}\n";
    const std::string failed = "{\"type\":\"turn.failed\",\"error\":{\"message\":\"no quota\"}}\n";
    EXPECT_TRUE(judge(SuccessRule::codex_json, 0, false, start + done).success);
    EXPECT_TRUE(judge(SuccessRule::codex_json, 0, false, start + failed + start + done).success);
    EXPECT_FALSE(judge(SuccessRule::codex_json, 0, false, start).success);
    EXPECT_FALSE(judge(SuccessRule::codex_json, 0, false, start + done + start).success);
    EXPECT_FALSE(judge(SuccessRule::codex_json, 0, false, "").success);
    const Judgement judgement = judge(SuccessRule::codex_json, 0, true, start + failed);
    EXPECT_FALSE(judgement.success);
    EXPECT_NE(judgement.reason.find("no quota"), std::string::npos) << judgement.reason;
}

TEST(Judge, LongWordsAreCutAtACharacter) {
    std::string words;
    while (words.size() < 5000)
        words += "\xF0\x9F\x9A\x80";
    const Judgement judgement =
        judge(SuccessRule::claude_json, 0, false,
              "{\"type\":\"result\",\"is_error\":true,\"result\":\"" + words + "\"}");
    EXPECT_LT(judgement.reason.size(), 400u);
    EXPECT_TRUE(is_utf8(judgement.reason));
}

TEST(Judge, ReadsOverTheSeamOfALog) {
    const test::TempDir dir;
    const std::string seam =
        "[output.log rotated: 9 bytes of earlier output are in output.log.1, 0 bytes are gone]\n";
    EXPECT_EQ(output_tail(dir.path(), 100), "");
    std::ofstream(dir.path("output.log")) << "plain\n";
    EXPECT_EQ(output_tail(dir.path(), 100), "plain\n");
    EXPECT_EQ(output_tail(dir.path(), 3), "in\n");
    std::ofstream(dir.path("output.log.1")) << "{\"type\":\"result\",\"is_";
    std::ofstream(dir.path("output.log")) << seam << "error\":false}\n";
    EXPECT_EQ(output_tail(dir.path(), 1000), "{\"type\":\"result\",\"is_error\":false}\n");
    EXPECT_TRUE(judge(SuccessRule::claude_json, 0, false, output_tail(dir.path(), 1000)).success);
    // Only the end of the second file fits: its seam is out of sight, and so is the first file.
    EXPECT_EQ(output_tail(dir.path(), 8), ":false}\n");
}

TEST(Judge, DeepNestingEndsNothing) {
    EXPECT_FALSE(judge(SuccessRule::claude_json, 0, false, "{\"type\":" + std::string(200'000, '['))
                     .success);
}

}  // namespace
}  // namespace iw::worker
