#include "broker/core/id_maker.h"

#include <gtest/gtest.h>

namespace iw::broker {
namespace {

constexpr std::int64_t kMs = 1'763'480'000'000;  // 2025-11-18 15:33:20 UTC

struct Maker {
    std::string make(std::int64_t ms, const std::string& agent) {
        const SessionId id = ids.next(wall_from_ms(ms), AgentName(agent));
        ids.note(id, AgentName(agent));
        return id.str();
    }
    IdMaker ids;
};

TEST(IdMaker, SecondAndAgent) {
    Maker maker;
    EXPECT_EQ(maker.make(kMs + 999, "grafana-agent"), "20251118-153320-grafana-agent");
    EXPECT_EQ(maker.make(kMs + 1000, "grafana-agent"), "20251118-153321-grafana-agent");
}

TEST(IdMaker, NumbersLaterOnesOfTheSecond) {
    Maker maker;
    EXPECT_EQ(maker.make(kMs, "foo"), "20251118-153320-foo");
    EXPECT_EQ(maker.make(kMs, "bar"), "20251118-153320-bar");
    EXPECT_EQ(maker.make(kMs + 1, "foo"), "20251118-153320-foo-2");
    EXPECT_EQ(maker.make(kMs + 2, "foo"), "20251118-153320-foo-3");
    EXPECT_EQ(maker.make(kMs + 2, "bar"), "20251118-153320-bar-2");
}

TEST(IdMaker, WholeIdsAreUnique) {
    Maker maker;
    EXPECT_EQ(maker.make(kMs, "foo"), "20251118-153320-foo");
    EXPECT_EQ(maker.make(kMs, "foo-2"), "20251118-153320-foo-2");
    EXPECT_EQ(maker.make(kMs, "foo"), "20251118-153320-foo-3");
    EXPECT_EQ(maker.make(kMs, "foo-2"), "20251118-153320-foo-2-2");
    Maker other;
    EXPECT_EQ(other.make(kMs, "foo"), "20251118-153320-foo");
    EXPECT_EQ(other.make(kMs, "foo"), "20251118-153320-foo-2");
    EXPECT_EQ(other.make(kMs, "foo-2"), "20251118-153320-foo-2-2");
}

TEST(IdMaker, SecondNeverGoesBack) {
    Maker maker;
    maker.make(kMs + 60'000, "foo");
    EXPECT_EQ(maker.make(kMs, "foo"), "20251118-153420-foo-2");
    EXPECT_EQ(maker.make(kMs - 3'600'000, "bar"), "20251118-153420-bar");
}

TEST(IdMaker, SkipsSecondsThatItCannotKnow) {
    Maker maker;
    maker.ids.skip_past(wall_from_ms(kMs + 10'500));
    EXPECT_EQ(maker.make(kMs, "foo"), "20251118-153331-foo");
    EXPECT_EQ(maker.make(kMs + 60'000, "foo"), "20251118-153420-foo");
}

TEST(IdMaker, ThousandsInASecond) {
    Maker maker;
    for (int i = 0; i < 5000; ++i)
        maker.make(kMs, "foo");
    EXPECT_EQ(maker.make(kMs, "foo"), "20251118-153320-foo-5001");
}

TEST(IdMaker, ReadsTheSecondOfAnId) {
    EXPECT_EQ(second_of(SessionId("20251118-153320-foo")), wall_from_ms(kMs));
    EXPECT_FALSE(second_of(SessionId("")).has_value());
    EXPECT_FALSE(second_of(SessionId("20251118153320-foo-foo")).has_value());
    EXPECT_FALSE(second_of(SessionId("2025x118-153320-foo")).has_value());
}

}  // namespace
}  // namespace iw::broker
