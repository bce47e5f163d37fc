#pragma once

// Between the files of an attempt (attempt_store) and what the core decides by.

#include "worker/attempt_store/attempt_store.h"
#include "worker/core/action.h"
#include "worker/core/event.h"

namespace iw::worker {

// `closed_at` is the time of the file `closed`, since the record itself is empty. `boot_id`: of
// this machine now; only within one boot does a process's start say when it was on the boot clock.
AttemptSnapshot snapshot_of(const AttemptFacts& facts, const std::string& folder,
                            const std::string& boot_id);
ExitRecord exit_record_of(const EndFact& end);
StopRecord stop_record_of(const StopFact& stop, WallTime at);

}  // namespace iw::worker
