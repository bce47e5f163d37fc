#include "common/base/time.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace iw {
namespace {

constexpr std::int64_t kSecond = 1000;
constexpr std::int64_t kMinute = 60 * kSecond;
constexpr std::int64_t kHour = 60 * kMinute;
constexpr std::int64_t kDay = 24 * kHour;

TEST(ParseDuration, ReadsEveryUnitAndTheirSums) {
    const std::vector<std::pair<std::string, std::int64_t>> rows = {
        {"90s", 90 * kSecond},
        {"30m", 30 * kMinute},
        {"2h", 2 * kHour},
        {"1d", kDay},
        {"500ms", 500},
        {"1h30m", kHour + 30 * kMinute},
        {"1d2h3m4s5ms", kDay + 2 * kHour + 3 * kMinute + 4 * kSecond + 5},
        {"45", 45 * kSecond},
        {"007s", 7 * kSecond},
        {"3660d", 3660 * kDay},
    };
    for (const auto& [text, ms] : rows) {
        const Result<Duration> duration = parse_duration(text);
        ASSERT_TRUE(duration.ok()) << text;
        EXPECT_EQ(duration->count(), ms) << text;
    }
}

TEST(ParseDuration, RefusesEverythingElseAndNamesIt) {
    const std::vector<std::string> rows = {
        "",          "0",   "0s",  "-5s",  "5x",     "s",
        "1.5h",      "5 s", " 5s", "5s ",  "1h30",   "1hm",
        "3661d",     "+5s", "5S",  "1e3",  "0x10",   "99999999999999999999s",
        "\xC2\xB2s", "5ss", "inf", "5m\n", "forever"};
    for (const std::string& text : rows) {
        const Result<Duration> duration = parse_duration(text);
        ASSERT_FALSE(duration.ok()) << text;
        EXPECT_EQ(duration.error().code, ErrorCode::bad_request);
        EXPECT_NE(duration.error().message.find('"' + text + '"'), std::string::npos) << text;
    }
    EXPECT_FALSE(parse_duration(std::string_view("5s\0", 3)).ok());
}

TEST(FormatDuration, IsTheShortestTextThatReadsBack) {
    const std::vector<std::pair<std::int64_t, std::string>> rows = {
        {90 * kSecond, "90s"}, {30 * kMinute, "30m"}, {2 * kHour, "2h"},
        {kDay, "1d"},          {36 * kHour, "36h"},   {1500, "1500ms"}};
    for (const auto& [ms, text] : rows) {
        EXPECT_EQ(format_duration(Duration(ms)), text);
        EXPECT_EQ(parse_duration(text)->count(), ms);
    }
}

TEST(FormatElapsed, ShowsTheTwoOrThreeUnitsThatMatter) {
    const std::vector<std::pair<std::int64_t, std::string>> rows = {
        {-5 * kSecond, "0s"},
        {0, "0s"},
        {999, "0s"},
        {45 * kSecond, "45s"},
        {59 * kSecond + 999, "59s"},
        {kMinute, "1m 0s"},
        {8 * kMinute + 30 * kSecond, "8m 30s"},
        {kHour, "1h 00m 00s"},
        {kHour + 2 * kMinute + 3 * kSecond, "1h 02m 03s"},
        {100 * kHour, "100h 00m 00s"}};
    for (const auto& [ms, text] : rows)
        EXPECT_EQ(format_elapsed(Duration(ms)), text) << ms;
}

TEST(WallTime, IsWrittenInItsThreeForms) {
    const WallTime time = wall_from_ms(1'763'478'605'123);
    EXPECT_EQ(format_utc(time), "2025-11-18T15:10:05Z");
    EXPECT_EQ(format_display(time), "2025-11-18 15:10:05");
    EXPECT_EQ(format_id_second(time), "20251118-151005");
    // Before 1970 the second still begins where it begins.
    EXPECT_EQ(format_utc(wall_from_ms(-1)), "1969-12-31T23:59:59Z");
}

TEST(ParseUtc, ReadsBackWhatIsWritten) {
    for (const std::int64_t second : {0LL, 951'782'400LL, 1'763'478'605LL, 4'102'444'799LL}) {
        const WallTime time = wall_from_ms(second * kSecond);
        EXPECT_EQ(parse_utc(format_utc(time)), time) << second;
    }
}

TEST(ParseUtc, TakesAFractionToTheMillisecond) {
    const std::vector<std::pair<std::string, std::int64_t>> rows = {
        {"2025-11-18T15:10:05.1Z", 100},
        {"2025-11-18T15:10:05.123Z", 123},
        {"2025-11-18T15:10:05.123999Z", 123},
        {"2025-11-18T15:10:05.000000001Z", 0}};
    const std::int64_t base = 1'763'478'605'000;
    for (const auto& [text, ms] : rows) {
        ASSERT_TRUE(parse_utc(text).has_value()) << text;
        EXPECT_EQ(to_ms(*parse_utc(text)), base + ms) << text;
    }
}

TEST(ParseUtc, RefusesEverythingElse) {
    const std::vector<std::string> rows = {"",
                                           "2025-11-18",
                                           "2025-11-18T15:10:05",
                                           "2025-11-18 15:10:05Z",
                                           "2025-11-18T15:10:05z",
                                           "2025-11-18T15:10:05+01:00",
                                           "2025-11-18T15:10:05.Z",
                                           "2025-11-18T15:10:05.1.2Z",
                                           "2025-11-18T15:10:05.1xZ",
                                           "2025-11-18T15:10:05ZZ",
                                           "2025-11-18T15:10:05Z ",
                                           " 2025-11-18T15:10:05Z",
                                           "2025-1-8T15:10:05Z",
                                           "2025-02-31T15:10:05Z",
                                           "2025-13-01T15:10:05Z",
                                           "2025-11-18T24:10:05Z",
                                           "2025-11-18T15:10:60Z",
                                           "now"};
    for (const std::string& text : rows)
        EXPECT_FALSE(parse_utc(text).has_value()) << text;
}

}  // namespace
}  // namespace iw
