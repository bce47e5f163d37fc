// simulator FROM [TO] [--plant NAME] [--trace]: one line a seed. Exit 1 when a seed breaks a
// promise; a broken assumption of the cores aborts, and the line before says at which seed.

#include <unistd.h>

#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "common/base/planted.h"
#include "tests/sim/planted_names.h"
#include "tests/sim/simulation.h"

namespace {

int usage() {
    std::fprintf(stderr,
                 "usage: simulator FROM [TO] [--stride N] [--plant NAME] [--trace]\n"
                 "  seeds are numbers from 1; planted bugs:");
    for (const iw::sim::PlantedBug& bug : iw::sim::kPlants)
        std::fprintf(stderr, " %s", std::string(bug.name).c_str());
    std::fprintf(stderr, "\n");
    return 64;
}

bool run(std::uint64_t seed, bool is_traced) {
    // Should an assumption break, this names the seed.
    std::printf("seed %" PRIu64 " ", seed);
    std::fflush(stdout);
    if (is_traced) std::printf("\n");
    const iw::sim::Verdict verdict = iw::sim::Simulation(seed, is_traced).run();
    if (verdict.violation) {
        std::printf("broken: %s\n", verdict.violation->c_str());
    } else {
        std::printf("ok %016" PRIx64 " steps=%" PRIu64 " records=%zu faults=%zu minutes=%lld\n",
                    verdict.hash, verdict.steps, verdict.records, verdict.faults,
                    static_cast<long long>(verdict.lasted.count() / 60'000));
    }
    std::fflush(stdout);
    return !verdict.violation;
}

}  // namespace

int main(int argc, char** argv) {
    // Whole lines, so that nothing is missing should an assumption break.
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    std::vector<std::uint64_t> numbers;
    std::uint64_t stride = 1;
    bool is_traced = false;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (word == "--trace") {
            is_traced = true;
        } else if (word == "--plant" && i + 1 < argc) {
            const auto plant = iw::sim::find_plant(argv[++i]);
            if (!plant) return usage();
            iw::active_plant = *plant;
        } else if (word == "--stride" && i + 1 < argc) {
            stride = std::strtoull(argv[++i], nullptr, 10);
        } else {
            numbers.push_back(std::strtoull(word.c_str(), nullptr, 10));
        }
    }
    if (numbers.empty() || numbers.size() > 2 || numbers[0] == 0 || stride == 0) return usage();
    const std::uint64_t last = numbers.back();
    bool is_good = true;
    for (std::uint64_t seed = numbers[0]; seed <= last; seed += stride)
        is_good = run(seed, is_traced) && is_good;
    return is_good ? 0 : 1;
}
