#pragma once

// What agents are going to do. A plan is named by its prompt, so that an agent that got another
// prompt than was submitted would be noticed.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/sim/world.h"

namespace iw::sim {

struct Plan {
    std::string prompt;
    Duration run{0};  // without what it waits for
    int code = 0;     // 128+n: by a signal of its own
    bool ignores_term = false;
    bool cannot_start = false;
    std::vector<std::string> children;  // prompts, submitted one after the other
    Duration patience{0};               // for its children
};

class Plans {
  public:
    explicit Plans(World& world) : world_(world) {}

    // A new plan whose descendants reach at most `depth` further down.
    const Plan& make(int depth);
    const Plan& find(const std::string& prompt) const { return plans_.at(prompt); }

  private:
    World& world_;
    std::map<std::string, Plan> plans_;
};

}  // namespace iw::sim
