#include "ctl/prompt_header.h"

#include <gtest/gtest.h>

#include "common/base/limits.h"

namespace iw::ctl {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr const char* kFirstExample =
    "# Task: Validate Grafana Deployment\n"
    "\n"
    "**Issue**: TEF-123\n"
    "**Priority**: HIGH\n"
    "**Estimated Duration**: 5 minutes\n"
    "**Max Duration**: 1 hour\n"
    "\n"
    "## Objective\n"
    "\n"
    "**Priority**: LOW\n";

TEST(PromptHeader, ReadsTheUsersOwnExample) {
    const PromptHeader header = parse_prompt_header(kFirstExample);
    ASSERT_TRUE(header.priority && header.tags && header.estimate && header.timeout);
    EXPECT_EQ(header.priority->value, 10);
    EXPECT_EQ(header.priority->text, "HIGH");
    EXPECT_EQ(header.priority->line, 4);
    EXPECT_EQ(header.tags->value, std::vector<std::string>{"TEF-123"});
    EXPECT_EQ(header.estimate->value, minutes(5));
    EXPECT_EQ(header.timeout->value, hours(1));
    EXPECT_TRUE(header.warnings.empty());
}

TEST(PromptHeader, OtherFormsOfALine) {
    const PromptHeader header = parse_prompt_header(
        "  **priority:** -20  \r\n"
        "**ISSUE**: [TEF-1](https://issues.example/TEF-1), `TEF-2`, TEF-1\r\n"
        "**Estimated Duration** : 1h 30m\r\n");
    ASSERT_TRUE(header.priority && header.tags && header.estimate);
    EXPECT_EQ(header.priority->value, -20);
    EXPECT_EQ(header.tags->value, (std::vector<std::string>{"TEF-1", "TEF-2"}));
    EXPECT_EQ(header.estimate->value, minutes(90));
    EXPECT_TRUE(header.warnings.empty());
}

TEST(PromptHeader, LeavesOutWhatIsNoHeader) {
    struct Row {
        const char* what;
        std::string prompt;
    };
    const std::vector<Row> rows = {
        {"nothing", ""},
        {"below a heading", "# T\n## Steps\n**Priority**: HIGH\n"},
        {"beyond 50 lines", std::string(50, '\n') + "**Priority**: HIGH\n"},
        {"in a fence", "```\n**Priority**: HIGH\n```\n"},
        {"in a fence of tildes", "~~~ text\n```\n**Priority**: HIGH\n~~~\n"},
        {"in a fence that holds a shorter one", "````\n```\n**Priority**: HIGH\n````\n"},
        {"in a fence that nobody closes", "```bash\n**Priority**: HIGH\n"},
        {"no colon", "**Priority** HIGH\n"},
        {"in the middle of a line", "The **Priority**: HIGH\n"},
        {"never closed", "**Priority: HIGH\n"},
        {"another field", "**Owner**: ana\n"},
    };
    for (const Row& row : rows) {
        const PromptHeader header = parse_prompt_header(row.prompt);
        EXPECT_FALSE(header.priority) << row.what;
        EXPECT_TRUE(header.warnings.empty()) << row.what;
    }
}

TEST(PromptHeader, GoesOnBehindAFenceAndCodeInALine) {
    for (const char* before : {"```\ncode\n```\n", "```code``` and more\n", "`` `\n"}) {
        EXPECT_TRUE(parse_prompt_header(std::string(before) + "**Priority**: LOW\n").priority)
            << before;
    }
    EXPECT_TRUE(parse_prompt_header(std::string(49, '\n') + "**Priority**: LOW").priority);
}

TEST(PromptHeader, WarnsAboutWhatItCannotRead) {
    const std::string long_name(limits::kTagBytesMax + 1, 'x');
    struct Row {
        std::string line;
        std::string says;
    };
    const std::vector<Row> rows = {
        {"**Priority**: URGENT", "priority \"URGENT\" is left out; write LOW, NORMAL, HIGH"},
        {"**Priority**: 101", "priority \"101\""},
        {"**Priority**:", "priority \"\" is left out"},
        {"**Issue**: " + long_name, "issue \"xxxx"},
        {"**Issue**: a,,b", "issue \"a,,b\""},
        {"**Issue**: \x1b[31mred", "issue"},
        {"**Estimated Duration**: soon", "estimated duration \"soon\""},
        {"**Max Duration**: 5", "max duration \"5\" is left out; write as in 1 hour"},
        {"**Max Duration**: 0 minutes", "max duration"},
    };
    for (const Row& row : rows) {
        const PromptHeader header = parse_prompt_header("\n" + row.line + "\n");
        ASSERT_EQ(header.warnings.size(), 1u) << row.line;
        EXPECT_TRUE(header.warnings.front().starts_with("prompt line 2: ")) << row.line;
        EXPECT_NE(header.warnings.front().find(row.says), std::string::npos)
            << header.warnings.front();
        EXPECT_EQ(header.warnings.front().find('\x1b'), std::string::npos);
        EXPECT_FALSE(header.priority || header.tags || header.estimate || header.timeout);
    }
}

TEST(PromptHeader, OfTwoLinesTheFirstCounts) {
    const PromptHeader header = parse_prompt_header("**Priority**: HIGH\n**Priority**: LOW\n");
    EXPECT_EQ(header.priority->value, 10);
    ASSERT_EQ(header.warnings.size(), 1u);
    EXPECT_NE(header.warnings.front().find("line 1 says it already"), std::string::npos);
}

TEST(SpokenDuration, TableOfForms) {
    struct Row {
        const char* text;
        std::optional<Duration> value;
    };
    const std::vector<Row> rows = {
        {"5 minutes", minutes(5)},
        {"1 hour", hours(1)},
        {"1 Hour 30 Min.", minutes(90)},
        {"1.5h", minutes(90)},
        {"0.25 hours", minutes(15)},
        {"90s", seconds(90)},
        {" 2 days ", hours(48)},
        {"1h30m", minutes(90)},
        {"3650 days", hours(87'600)},
        {"3651 days", std::nullopt},
        {"9999999999999999999 days", std::nullopt},
        {"", std::nullopt},
        {"5", std::nullopt},
        {"minutes", std::nullopt},
        {"5-10 minutes", std::nullopt},
        {"-5 minutes", std::nullopt},
        {"0 minutes", std::nullopt},
        {"1. h", std::nullopt},
        {"1.2345 h", std::nullopt},
        {"5 fortnights", std::nullopt},
    };
    for (const Row& row : rows)
        EXPECT_EQ(parse_spoken_duration(row.text), row.value) << row.text;
}

}  // namespace
}  // namespace iw::ctl
