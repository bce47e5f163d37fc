#include "common/io/logging.h"

#include <gtest/gtest.h>

#include <regex>
#include <string>

namespace iw::io {
namespace {

// What one line of log puts on stderr.
std::string logged(const LogOptions& options, LogLevel level, std::string_view message,
                   std::initializer_list<LogField> fields) {
    start_logging(options);
    testing::internal::CaptureStderr();
    log(level, message, fields);
    return testing::internal::GetCapturedStderr();
}

constexpr const char* kTime = R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)";

void expect_text(const std::string& line, const std::string& rest) {
    ASSERT_TRUE(std::regex_search(line, std::regex(std::string("^") + kTime + " "))) << line;
    EXPECT_EQ(line.substr(25), rest + "\n");
}

TEST(Log, WritesKeysAndValuesOnOneLine) {
    const LogOptions text{.program = "ibroker", .level = "debug", .format = "text"};
    expect_text(
        logged(text, LogLevel::info, "listening", {{"endpoint", "ipc:///x"}, {"peers", "3"}}),
        "info listening endpoint=ipc:///x peers=3");
    expect_text(logged(text, LogLevel::warn, "slow", {}), "warn slow");
    expect_text(logged(text, LogLevel::error, "x", {{"path", "a b"}, {"none", ""}, {"q", "\"\\="}}),
                R"(error x path="a b" none="" q="\"\\=")");
}

TEST(Log, LetsNoValueForgeALineOrReachTheTerminal) {
    const LogOptions text{.program = "ibroker", .level = "debug", .format = "text"};
    expect_text(logged(text, LogLevel::debug, "got", {{"v", "a\nerror forged\x1b[31m{}"}}),
                "debug got v=\"a error forged\xEF\xBF\xBD[31m{}\"");
}

TEST(Log, WritesOneJsonObjectALine) {
    const LogOptions json{.program = "iworker", .level = "info", .format = "json"};
    const std::string line =
        logged(json, LogLevel::warn, "lost", {{"worker", "a \"b\" \\ c\n\x01"}, {"n", "3"}});
    const std::regex expected(std::string("^\\{\"time\":\"") + kTime + "\",\"level\":\"warn\",");
    ASSERT_TRUE(std::regex_search(line, expected)) << line;
    EXPECT_NE(line.find(R"("program":"iworker","message":"lost","worker":"a \"b\" \\ c )"
                        "\xEF\xBF\xBD\",\"n\":\"3\"}\n"),
              std::string::npos)
        << line;
}

TEST(Log, IsSilentBelowItsLevel) {
    LogOptions options{.program = "ibroker", .level = "warn", .format = "text"};
    EXPECT_EQ(logged(options, LogLevel::info, "x", {}), "");
    EXPECT_NE(logged(options, LogLevel::error, "x", {}), "");
    testing::internal::CaptureStderr();
    set_log_level("debug");
    log(LogLevel::debug, "now heard", {});
    set_log_level("no such level");  // changes nothing
    log(LogLevel::debug, "still heard", {});
    const std::string lines = testing::internal::GetCapturedStderr();
    EXPECT_NE(lines.find("now heard"), std::string::npos);
    EXPECT_NE(lines.find("still heard"), std::string::npos);
}

}  // namespace
}  // namespace iw::io
