#pragma once

// The journal: what was acknowledged is here. Append-only segments of one size, preallocated, recycled by
// renaming; one commit is one checksummed unit, one write and one fdatasync. Format: broker/STORE.md.

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "broker/core/record.h"
#include "common/base/result.h"

namespace iw::broker {

struct JournalOptions {
    std::string folder;
    std::size_t segment_bytes = limits::kSegmentBytesDefault;
    std::size_t keep_bytes = 1u << 30;  // segments kept behind the database for roll-forward
};

class Journal {
  public:
    virtual ~Journal() = default;

    // Returns after the records are on disk. After an error the outcome is unknown: the caller sends nothing
    // and ends. Records must continue head().
    virtual Status commit(std::span<const Record> records) = 0;
    // Every record after `after`, in order; stops at the first error the callback returns. GONE when records
    // after `after` have been recycled already.
    virtual Status read(Seq after, const std::function<Status(const Record&)>& each) = 0;
    // The database holds everything up to `seq` safely: older segments may be used again.
    virtual void release(Seq seq) = 0;
    virtual Seq head() const = 0;
};

// Opens or makes the journal. A torn end is cut and the tail rewritten and synced; damage before valid
// commits is an error (io) that says how to restore. The folder's lock is the caller's.
Result<std::unique_ptr<Journal>> open_journal(JournalOptions options);

}  // namespace iw::broker
