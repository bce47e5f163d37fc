#include "tests/sim/plans.h"

namespace iw::sim {

const Plan& Plans::make(int depth) {
    Plan plan;
    plan.prompt = "plan " + std::to_string(plans_.size() + 1);
    plans_[plan.prompt] = plan;  // taken, before the children's are
    const bool is_long = world_.one_in(6);
    plan.run = is_long ? world_.between(60_s, 1'200_s) : world_.between(Duration(20), 60_s);
    if (world_.one_in(4)) plan.code = world_.one_in(3) ? 128 + 11 : 1;
    plan.ignores_term = world_.one_in(6);
    plan.cannot_start = world_.one_in(40);
    plan.patience = world_.between(60_s, 1'800_s);
    if (depth > 0 && world_.one_in(3)) {
        for (std::uint64_t count = 1 + world_.below(2); count > 0; --count)
            plan.children.push_back(make(depth - 1).prompt);
    }
    return plans_[plan.prompt] = plan;
}

}  // namespace iw::sim
