// Seeds in every run of the tests: a range that keeps every promise, what failed once, and the
// planted bugs, each of which the oracle must see.

#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/sim/planted_names.h"
#include "tests/sim/simulation.h"

namespace iw::sim {
namespace {

constexpr std::uint64_t kSeedsPerTest = 50;
constexpr std::uint64_t kSeedsForABug = 1'000;

// A broken assumption of a core ends the process: this says where.
std::uint64_t current_seed = 0;
void say_seed(int) {
    std::fprintf(stderr, "broken at seed %llu; replay: scripts/simulate %llu --trace\n",
                 static_cast<unsigned long long>(current_seed),
                 static_cast<unsigned long long>(current_seed));
}

Verdict run(std::uint64_t seed) {
    std::signal(SIGABRT, say_seed);
    current_seed = seed;
    return Simulation(seed, false).run();
}

void expect_kept(std::uint64_t seed) {
    const Verdict verdict = run(seed);
    EXPECT_FALSE(verdict.violation.has_value())
        << *verdict.violation << "\nreplay: scripts/simulate " << seed << " --trace";
}

class Seeds : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(Seeds, KeepEveryPromise) {
    const std::uint64_t first = GetParam() * kSeedsPerTest + 1;
    for (std::uint64_t seed = first; seed < first + kSeedsPerTest; ++seed)
        expect_kept(seed);
}

INSTANTIATE_TEST_SUITE_P(Simulation, Seeds, ::testing::Range<std::uint64_t>(0, 12));

TEST(Simulation, OneSeedIsOneRun) {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        const Verdict first = run(seed);
        const Verdict second = run(seed);
        EXPECT_EQ(first.hash, second.hash);
        EXPECT_EQ(first.steps, second.steps);
        EXPECT_GT(first.records, 0u);
    }
    EXPECT_NE(run(1).hash, run(2).hash);
}

// A line each: a seed, and what it broke when it did.
TEST(Simulation, PastFailuresStayAway) {
    std::ifstream file(std::string(IW_SOURCE_DIR) + "/tests/sim/past_failures.txt");
    ASSERT_TRUE(file.is_open());
    std::size_t seeds = 0;
    for (std::string line; std::getline(file, line);) {
        std::uint64_t seed = 0;
        if (line.empty() || line[0] == '#' || !(std::istringstream(line) >> seed)) continue;
        ++seeds;
        expect_kept(seed);
    }
    EXPECT_GT(seeds, 0u);
}

class Planted : public ::testing::TestWithParam<PlantedBug> {
  protected:
    void SetUp() override { active_plant = GetParam().plant; }
    void TearDown() override { active_plant = Plant::none; }
};

TEST_P(Planted, IsFound) {
    std::string other = "nothing";
    for (std::uint64_t seed = 1; seed <= kSeedsForABug; ++seed) {
        const Verdict verdict = run(seed);
        if (!verdict.violation) continue;
        // A bug may break other promises as well; which of them shows first is the workload's.
        other = *verdict.violation;
        if (!other.starts_with(GetParam().promise)) continue;
        RecordProperty("seed", static_cast<int>(seed));
        return;
    }
    FAIL() << "not found in " << kSeedsForABug << " seeds; seen instead: " << other;
}

INSTANTIATE_TEST_SUITE_P(Simulation, Planted, ::testing::ValuesIn(kPlants),
                         [](const auto& each) { return std::string(each.param.name); });

}  // namespace
}  // namespace iw::sim
