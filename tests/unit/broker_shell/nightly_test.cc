#include "broker/nightly.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>

namespace iw::broker {
namespace {

constexpr Duration kHour{3'600'000};
constexpr Duration kMinute{60'000};
constexpr int kThree = 3 * 60;

class NightlyTest : public ::testing::Test {
  protected:
    NightlyTest() {
        ::setenv("TZ", "Europe/Berlin", 1);
        ::tzset();
    }
    ~NightlyTest() override {
        ::unsetenv("TZ");
        ::tzset();
    }

    static WallTime at(const char* text) { return *parse_utc(text); }
    // A machine that runs: both clocks go on alike.
    Now now() const { return now_; }
    void pass(Duration time) {
        now_.steady += time;
        now_.wall += time;
    }

    Now now_{.steady = Timestamp(Duration(1'000'000)), .wall = at("2025-11-18T12:00:00Z")};
};

TEST_F(NightlyTest, ReadsTimesOfTheDay) {
    EXPECT_EQ(parse_time_of_day("03:00"), 180);
    EXPECT_EQ(parse_time_of_day("23:59"), 23 * 60 + 59);
    EXPECT_EQ(parse_time_of_day("00:00"), 0);
    for (const char* wrong : {"", "3:00", "24:00", "12:60", "03:00:00", "03-00", "ab:cd", "-1:00"})
        EXPECT_EQ(parse_time_of_day(wrong), std::nullopt) << wrong;
}

TEST_F(NightlyTest, TheLastOccurrenceIsOfTheLocalClock) {
    // Winter: an hour before UTC.
    EXPECT_EQ(last_occurrence(at("2025-11-18T12:00:00Z"), kThree), at("2025-11-18T02:00:00Z"));
    EXPECT_EQ(last_occurrence(at("2025-11-18T02:00:00Z"), kThree), at("2025-11-18T02:00:00Z"));
    EXPECT_EQ(last_occurrence(at("2025-11-18T01:59:59Z"), kThree), at("2025-11-17T02:00:00Z"));
    // Summer: two hours. The day after the change is 25 hours long.
    EXPECT_EQ(last_occurrence(at("2025-07-01T12:00:00Z"), kThree), at("2025-07-01T01:00:00Z"));
    EXPECT_EQ(last_occurrence(at("2025-10-26T12:00:00Z"), kThree), at("2025-10-26T02:00:00Z"));
}

TEST_F(NightlyTest, ComesOnceANight) {
    Nightly nightly(kThree, at("2025-11-18T02:00:00Z"), now());
    int made = 0;
    for (int minute = 0; minute < 3 * 24 * 60; ++minute) {
        pass(kMinute);
        if (!nightly.is_due(now())) continue;
        nightly.began(now());
        ++made;
    }
    EXPECT_EQ(made, 3);
}

TEST_F(NightlyTest, AMissedNightIsMadeUpForOnceSoonAfterTheStart) {
    Nightly nightly(kThree, at("2025-11-10T02:00:00Z"), now());
    EXPECT_FALSE(nightly.is_due(now()));
    pass(2 * kMinute);
    EXPECT_TRUE(nightly.is_due(now()));
    nightly.began(now());
    pass(kHour);
    EXPECT_FALSE(nightly.is_due(now()));
}

TEST_F(NightlyTest, AStoreWithoutAnyBackupIsSavedSoon) {
    Nightly nightly(kThree, std::nullopt, now());
    pass(2 * kMinute);
    EXPECT_TRUE(nightly.is_due(now()));
}

TEST_F(NightlyTest, AClockSetBackDoesNotStopTheNights) {
    Nightly nightly(kThree, now().wall, now());
    pass(2 * kMinute);
    now_.wall -= 365 * 24 * kHour;
    EXPECT_FALSE(nightly.is_due(now()));
    pass(24 * kHour);
    EXPECT_TRUE(nightly.is_due(now()));
}

TEST_F(NightlyTest, AClockSetForwardBringsOneBackup) {
    Nightly nightly(kThree, now().wall, now());
    pass(2 * kMinute);
    now_.wall += 40 * 24 * kHour;
    EXPECT_TRUE(nightly.is_due(now()));
    nightly.began(now());
    pass(kHour);
    EXPECT_FALSE(nightly.is_due(now()));
}

TEST_F(NightlyTest, AFailureIsTriedAgainInAnHour) {
    Nightly nightly(kThree, at("2025-11-10T02:00:00Z"), now());
    pass(2 * kMinute);
    ASSERT_TRUE(nightly.is_due(now()));
    nightly.began(now());
    nightly.failed(now());
    pass(kHour - kMinute);
    EXPECT_FALSE(nightly.is_due(now()));
    pass(kMinute);
    EXPECT_TRUE(nightly.is_due(now()));
}

TEST_F(NightlyTest, NeverMeansNever) {
    Nightly nightly(std::nullopt, std::nullopt, now());
    pass(48 * kHour);
    EXPECT_FALSE(nightly.is_due(now()));
    EXPECT_EQ(nightly.next_look(now()), std::nullopt);
}

// A deadline that has passed and brings nothing would make the loop spin.
TEST_F(NightlyTest, TheNextLookIsAheadWheneverNothingIsDue) {
    Nightly nightly(kThree, now().wall, now());
    for (int step = 0; step < 10'000; ++step) {
        const auto next = nightly.next_look(now());
        ASSERT_TRUE(next.has_value());
        ASSERT_LE(*next, now().steady + kHour);
        if (nightly.is_due(now())) {
            nightly.began(now());
            continue;
        }
        ASSERT_GT(*next, now().steady);
        pass(*next - now().steady);
    }
}

}  // namespace
}  // namespace iw::broker
