#pragma once

// The journal: what was acknowledged is here. Append-only segments of one size, preallocated,
// recycled by renaming; one commit is one checksummed unit, one write and one fdatasync. Format:
// broker/STORE.md.

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
    // Multiple of 512. A configuration offers limits::kSegmentBytesMin and more: then every record
    // fits. Tests go down to 64 KiB, where a larger record is refused (too_large).
    std::size_t segment_bytes = limits::kSegmentBytesDefault;
    std::size_t keep_bytes = 1u << 30;  // segments kept behind the database for roll-forward
    Seq first = 1;                      // record that a new journal begins with
};

class Journal {
  public:
    virtual ~Journal() = default;

    // Returns after the records are on disk. After an error the outcome is unknown: the caller
    // sends nothing and ends; the journal refuses all further commits. Records must continue head()
    // (checked).
    virtual Status commit(std::span<const Record> records) = 0;
    // Every record after `after`, in order; stops at the first error the callback returns. GONE
    // when records after `after` have been recycled already; io when a segment on the way is
    // damaged. A caller whose database has applied more than head() has lost the journal's end:
    // that is damage too, and its to see.
    virtual Status read(Seq after, const std::function<Status(const Record&)>& each) = 0;
    // The database holds everything up to `seq` safely: older segments may be used again, beyond
    // keep_bytes.
    virtual void release(Seq seq) = 0;
    virtual Seq head() const = 0;
    // Made with the journal, 32 hexadecimal digits: tells whether a backup belongs to it.
    virtual std::string id() const = 0;
};

// Opens or makes the journal. A torn end is cut and the tail rewritten and synced; damage before
// valid commits is an error (io) that says how to restore. Only the last segment is read whole
// here; the ones before it when read() comes by them. A newer format is an error of code config.
// The folder's lock is the caller's.
Result<std::unique_ptr<Journal>> open_journal(JournalOptions options);

}  // namespace iw::broker
