#pragma once

// What can still be read of a journal, damaged or not, without changing anything in its folder: for
// a restore, which takes what is good and says where that ends.

#include <functional>
#include <string>

#include "broker/core/record.h"
#include "common/base/result.h"

namespace iw::broker {

struct Salvage {
    std::string id;  // of the journal; empty: there is none that can be read
    Seq first = 0;  // first and last of the records that follow one another without a gap, from the
    Seq last = 0;   // oldest segment on; last < first: none
    // Why it does not go on behind `last`, for people; empty: the journal ends there.
    std::string damage;
};

// Calls `each` for every good record in order; an error of `each` ends it and is returned. A folder
// without segments, or none at all, is an empty journal.
Result<Salvage> salvage_journal(const std::string& folder,
                                const std::function<Status(const Record&)>& each);

}  // namespace iw::broker
