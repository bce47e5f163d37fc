#pragma once

// `ibroker --restore FOLDER`: puts a backup in the place of the store, rolls it forward over the
// journal that is there when that one continues it, and begins a new epoch, in which nothing is
// assigned until an admin says so. The former store is moved aside, never deleted. A crash at any
// point leaves the old store, the new one, or a half that the broker refuses to start on and that
// the same command completes.

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/result.h"
#include "common/base/time.h"

namespace iw::broker {

struct RestorePlan {
    std::string data_dir;  // its lock is held by the caller
    std::string backup;    // folder of one backup
    std::size_t segment_bytes = limits::kSegmentBytesDefault;
    std::string principal;  // who asked: "uid:0"
    WallTime at;            // now
};

struct RestoreOutcome {
    Seq backup_seq = 0;  // newest record of the backup
    Seq seq = 0;         // newest record before the new epoch: higher when the journal went on
    std::string epoch;   // that begins
    std::uint32_t generation = 0;
    std::string aside;                 // where the former store is now; empty: there was none
    std::vector<std::string> remarks;  // for people: what was rolled forward, what was not, and why
};

// config: the backup is damaged, newer, or none; io, storage_low: the disk. Then the store is as it
// was, unless the message says that the restore has to be completed.
Result<RestoreOutcome> restore_backup(const RestorePlan& plan);

// conflict: a restore was cut off in its middle; the message says how to complete it. A broker must
// not open the store then.
Status check_no_restore_pending(const std::string& data_dir);

}  // namespace iw::broker
