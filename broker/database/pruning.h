#pragma once

// Drops what is past its retention, a bounded piece at a time.

#include <cstdint>

#include "broker/core/record.h"
#include "broker/database/sqlite.h"
#include "common/base/result.h"

namespace iw::broker {

struct Retention {
    Duration events{0};
    Duration sessions{0};           // of final ones, and of their keys
    std::int64_t sessions_max = 0;  // final ones; the oldest beyond it go before their time
};

struct Pruned {
    Seq events_after = 0;       // events up to here are gone
    std::int64_t sessions = 0;  // that were dropped
    bool more = false;          // there may be
};

// One piece, in the caller's transaction. `events_after` as it stands, `sessions` final ones there
// are.
Result<Pruned> prune_piece(sqlite::Connection& connection, const Retention& retention, WallTime now,
                           Seq events_after, std::int64_t sessions);

}  // namespace iw::broker
