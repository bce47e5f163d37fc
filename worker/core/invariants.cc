#include "common/base/check.h"
#include "worker/core/core_state.h"

// What holds between any two steps. Broken, the process ends, and the next one continues from the
// files.

namespace iw::worker {

void WorkerCore::State::check_invariants_of(const AttemptRef& ref, const Attempt& attempt) const {
    const AttemptSnapshot& facts = attempt.facts;
    IW_CHECK(facts.attempt == ref);
    IW_CHECK(ref.fence.attempt > 0);
    // Open or closed, never both: a closed attempt is answered, an open one is worked on.
    IW_CHECK(!facts.closed_at && !closed_.contains(ref));
    // A prompt of two megabytes for every attempt would be kept in memory for nothing.
    IW_CHECK(!facts.assignment || facts.assignment->prompt.empty());
    // Only what nobody has claimed can wait to be assigned again.
    IW_CHECK(!attempt.dormant || attempt.unclaimed());
    IW_CHECK(!attempt.dormant || !attempt.launched);
    // Nothing is started without the assignment on disk.
    IW_CHECK(!attempt.launched || facts.assignment || facts.holder != StartHolder::nobody);
    // A stop is wished or recorded; a second cause would change the outcome.
    IW_CHECK(!attempt.stop_wish || !facts.stop);
    IW_CHECK(!attempt.stop_unrecorded || attempt.stop_wish);
    // A result belongs to an end, final files to an outcome.
    IW_CHECK(!attempt.deliverables || facts.end);
    IW_CHECK(!attempt.final_written || facts.outcome);
    // What waits for a result is not woken by time.
    IW_CHECK(!attempt.busy || !attempt.wake);
}

void WorkerCore::State::check_invariants() const {
    for (const auto& [ref, attempt] : live_)
        check_invariants_of(ref, attempt);
    IW_CHECK(forget_.size() == closed_.size());
    for (const auto& [ref, end] : foreign_) {
        IW_CHECK(end.outcome.id == ref.session);
        IW_CHECK(!end.written || !end.busy);
    }
    IW_CHECK(!link_.up() || link_.serial() > 0);
    // What is on disk never claims more of an epoch than was seen.
    IW_CHECK(!seen_recorded_ || !seen_ || seen_recorded_->epoch != seen_->epoch ||
             seen_recorded_->seq <= seen_->seq);
    IW_CHECK(offer_known_ <= offer_ && offer_sent_ <= offer_);
}

}  // namespace iw::worker
