#pragma once

// The folder of a journal: which files there are, and the steps that make, name and recycle them,
// each safe against a crash at any point. Files:
//   <number>.segment  holds units; complete from the moment it bears the name
//   <number>.spare    was a segment and may be written over; as large as a segment and fully
//   allocated preparing         a new file that is being filled with zeros; worthless after a crash

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/journal/segment.h"
#include "common/base/result.h"
#include "common/io/unique_fd.h"

namespace iw::broker {

// A segment on disk as its header describes it.
struct Segment {
    SegmentHeader header;
    std::string path;
};

class SegmentFiles {
  public:
    SegmentFiles(std::string folder, std::size_t segment_bytes);

    // Makes the folder when it is missing, reads the headers of all segments, clears away what a
    // crash left (unfinished files, segments whose rewritten copy is there) and surplus spares. In
    // order of number.
    Result<std::vector<Segment>> open();

    // Whether a file for the next segment is at hand without more work.
    bool has_spare() const;
    // Fills up to `bytes` more of a new file with zeros; nothing to do once it is full. Reserves
    // its whole size first, so that a full disk shows a segment ahead of the need.
    Status prepare(std::size_t bytes);

    // Makes the segment with this header and these units (the bytes behind the header, possibly
    // none) out of a spare, the file in preparation or a new file, and syncs file and folder. Open
    // for writing.
    Result<io::UniqueFd> create(const SegmentHeader& header, std::string_view units);
    // Makes a segment a spare and syncs the folder: from then on nobody reads it again.
    Status retire(const Segment& segment);

    Result<std::string> load(const Segment& segment) const;
    std::string segment_path(std::uint64_t number) const;

  private:
    std::string path(std::string_view name) const;
    Result<Segment> read_segment(const std::string& name) const;
    Status retire_replaced(std::vector<Segment>& segments);
    Status clear_away(const std::vector<std::string>& names);
    Status begin_preparing(std::size_t size);
    Status finish_preparing(std::size_t size);
    // A file of this size that is allocated throughout, and where it stands.
    Result<std::string> take_blank(std::size_t size);

    std::string folder_;
    std::size_t segment_bytes_;
    std::vector<std::string> spares_;  // paths, each of segment_bytes_
    io::UniqueFd preparing_;
    std::size_t prepared_bytes_ = 0;
};

}  // namespace iw::broker
