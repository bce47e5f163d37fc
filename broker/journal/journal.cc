#include "broker/journal/journal.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include "broker/journal/file_bytes.h"
#include "broker/journal/little_endian.h"
#include "broker/journal/record_codec.h"
#include "broker/journal/segment.h"
#include "broker/journal/segment_files.h"
#include "broker/journal/unit_records.h"
#include "common/base/text.h"
#include "common/io/files.h"

namespace iw::broker {
namespace {

// The next segment is prepared in slices, each behind a commit: no thread is needed and no commit
// waits for a whole file. It begins once a quarter of a segment is used (a small fleet never gets
// there) and goes twice as fast as the commits, so it is done when less than three quarters are.
constexpr std::size_t kPrepareAfter = 4;
constexpr std::size_t kPrepareRetry = 16;
constexpr std::size_t kSliceBytesMin = 64u << 10;
constexpr std::size_t kSlicePerCommit = 2;
// A buffer that one large turn has blown up is not kept.
constexpr std::size_t kBufferKeptMax = 1u << 20;

Error damaged(const std::string& path, std::size_t offset) {
    return make_error(ErrorCode::config,
                      "journal segment " + path + " is damaged at offset " +
                          std::to_string(offset) +
                          ", with good commits behind it: restore a backup with `ictl restore "
                          "FOLDER`, or move this segment and all later ones aside and lose what "
                          "they hold");
}

JournalId make_journal_id() {
    JournalId id{};
    const std::array<std::uint8_t, 32> digest = io::sha256(io::random_hex(id.size()));
    std::copy_n(digest.begin(), id.size(), id.begin());
    return id;
}

class SegmentJournal final : public Journal {
  public:
    explicit SegmentJournal(const JournalOptions& options)
        : options_(options), files_(options.folder, options.segment_bytes) {}

    Status open();
    Status commit(std::span<const Record> records) override;
    Status read(Seq after, const std::function<Status(const Record&)>& each) override;
    void release(Seq seq) override;
    Seq head() const override { return head_; }
    std::string id() const override;

  private:
    Status start_new();
    Status recover_tail();
    Status write_records(std::span<const Record> records);
    Status write_unit(Seq first, std::uint32_t count);
    Status add_segment(const SegmentHeader& header, std::string_view units);
    Status next_segment(Seq first);
    Status read_segment(std::size_t index, Seq after,
                        const std::function<Status(const Record&)>& each);
    void prepare_next(std::size_t committed_bytes);
    std::size_t unit_bytes_max() const;

    JournalOptions options_;
    SegmentFiles files_;
    std::vector<Segment> segments_;  // oldest first; the last one is written
    io::UniqueFd fd_;                // of the last one
    std::size_t end_ = 0;            // where its next unit goes
    std::size_t prepare_at_ = 0;     // where in it work on the next one begins or goes on
    Seq head_ = 0;
    std::string unit_;  // under construction
    std::optional<Error> broken_;
};

Status SegmentJournal::open() {
    Result<std::vector<Segment>> segments = files_.open();
    if (!segments) return segments.error();
    segments_ = std::move(*segments);
    return segments_.empty() ? start_new() : recover_tail();
}

Status SegmentJournal::start_new() {
    head_ = options_.first - 1;
    return add_segment({.journal = make_journal_id(),
                        .number = 1,
                        .first = options_.first,
                        .bytes = options_.segment_bytes,
                        .replaces = 0},
                       {});
}

// Finds the end of the last segment. What stands there may never have reached the disk (the process
// before was killed between write and sync, and we read the page cache): it is written again, into
// another file, and synced before anybody builds on it. Earlier segments were synced whole before
// their successor was made.
Status SegmentJournal::recover_tail() {
    const Segment last = segments_.back();
    Result<std::string> bytes = files_.load(last);
    if (!bytes) return bytes.error();
    const Result<Scan> scan =
        scan_segment(*bytes, last.header, [](const Unit&) -> Status { return Done{}; });
    if (!scan) return scan.error();
    if (scan->later) return damaged(last.path, scan->end);
    head_ = scan->next - 1;

    SegmentHeader header = last.header;
    header.number = last.header.number + 1;
    header.bytes = std::max<std::uint64_t>(last.header.bytes, options_.segment_bytes);
    header.replaces = last.header.number;
    restamp_units(*bytes, last.header, header, scan->end);
    const Status added = add_segment(
        header,
        std::string_view(*bytes).substr(kSegmentHeaderBytes, scan->end - kSegmentHeaderBytes));
    if (!added) return added;
    segments_.erase(segments_.end() - 2);
    return files_.retire(last);
}

Status SegmentJournal::add_segment(const SegmentHeader& header, std::string_view units) {
    Result<io::UniqueFd> fd = files_.create(header, units);
    if (!fd) return fd.error();
    fd_ = std::move(*fd);
    end_ = kSegmentHeaderBytes + units.size();
    prepare_at_ = options_.segment_bytes / kPrepareAfter;
    segments_.push_back({.header = header, .path = files_.segment_path(header.number)});
    return Done{};
}

Status SegmentJournal::next_segment(Seq first) {
    const SegmentHeader& last = segments_.back().header;
    return add_segment({.journal = last.journal,
                        .number = last.number + 1,
                        .first = first,
                        .bytes = options_.segment_bytes,
                        .replaces = 0},
                       {});
}

// What is certain to fit the next segment, should it not fit the one in use.
std::size_t SegmentJournal::unit_bytes_max() const {
    return std::min(limits::kCommitBytesMax, options_.segment_bytes - kSegmentHeaderBytes);
}

Status SegmentJournal::commit(std::span<const Record> records) {
    if (broken_) return *broken_;
    if (records.empty()) return Done{};
    for (std::size_t i = 0; i < records.size(); ++i)
        IW_CHECK(records[i].seq == head_ + 1 + i);
    const Status written = write_records(records);
    if (unit_.capacity() > kBufferKeptMax) unit_ = std::string();
    if (written) return Done{};
    // The kernel drops the pages of a failed sync, so trying again could report what is not there.
    // And a segment with a hole must never get good units behind the hole.
    broken_ = written.error();
    return written;
}

// Nearly always one unit. A turn that does not fit one is cut; each part is synced before the next
// is written, so that after a power cut no whole unit can stand behind a torn one.
Status SegmentJournal::write_records(std::span<const Record> records) {
    unit_.assign(kUnitHeaderBytes, '\0');
    Seq first = records.front().seq;
    for (const Record& record : records) {
        const std::size_t start = unit_.size();
        unit_.append(kRecordLengthBytes, '\0');
        encode_record(record, unit_);
        const std::size_t size = unit_.size() - start - kRecordLengthBytes;
        put_at(unit_, start, static_cast<std::uint32_t>(size));
        if (unit_.size() <= unit_bytes_max()) continue;
        if (start == kUnitHeaderBytes) {
            return make_error(ErrorCode::too_large, "record " + std::to_string(record.seq) +
                                                        " does not fit a segment of the journal");
        }
        const std::string overhang = unit_.substr(start);
        unit_.resize(start);
        const Status written = write_unit(first, static_cast<std::uint32_t>(record.seq - first));
        if (!written) return written;
        first = record.seq;
        unit_.assign(kUnitHeaderBytes, '\0');
        unit_ += overhang;
    }
    return write_unit(first, static_cast<std::uint32_t>(records.back().seq + 1 - first));
}

Status SegmentJournal::write_unit(Seq first, std::uint32_t count) {
    const std::size_t size = unit_size(unit_.size() - kUnitHeaderBytes);
    if (end_ + size > segments_.back().header.bytes) {
        const Status switched = next_segment(first);
        if (!switched) return switched;
    }
    const Segment& segment = segments_.back();
    IW_CHECK(end_ + size <= segment.header.bytes);
    seal_unit(unit_, segment.header, first, count);
    const Status written = write_bytes(fd_.get(), end_, unit_, segment.path);
    if (!written) return written;
    if (::fdatasync(fd_.get()) != 0) return io::system_error("cannot sync", segment.path);
    end_ += unit_.size();
    head_ = first + count - 1;
    prepare_next(unit_.size());
    return Done{};
}

// A failure (a full disk) is not reported: the segment in use still has room, and a little further
// on it is tried again. Only when the next segment is needed and cannot be made does a commit fail.
void SegmentJournal::prepare_next(std::size_t committed_bytes) {
    if (files_.has_spare() || end_ < prepare_at_) return;
    if (files_.prepare(std::max(kSliceBytesMin, kSlicePerCommit * committed_bytes))) return;
    prepare_at_ = end_ + options_.segment_bytes / kPrepareRetry;
}

Status SegmentJournal::read(Seq after, const std::function<Status(const Record&)>& each) {
    if (after + 1 < segments_.front().header.first) {
        return make_error(ErrorCode::gone,
                          "the journal in " + options_.folder + " begins with record " +
                              std::to_string(segments_.front().header.first) + ", record " +
                              std::to_string(after + 1) +
                              " is wanted: restore a backup with `ictl restore FOLDER`");
    }
    for (std::size_t i = 0; i < segments_.size(); ++i) {
        const bool is_last = i + 1 == segments_.size();
        if (!is_last && segments_[i + 1].header.first <= after + 1) continue;
        const Status done = read_segment(i, after, each);
        if (!done) return done;
    }
    return Done{};
}

Status SegmentJournal::read_segment(std::size_t index, Seq after,
                                    const std::function<Status(const Record&)>& each) {
    const Segment& segment = segments_[index];
    const Result<std::string> bytes = files_.load(segment);
    if (!bytes) return bytes.error();
    const auto newer = [&](const Record& record) -> Status {
        if (record.seq <= after) return Done{};
        return each(record);
    };
    const Result<Scan> scan = scan_segment(*bytes, segment.header, [&](const Unit& unit) -> Status {
        if (unit.first + unit.count <= after + 1) return Done{};
        return each_record(unit, newer);
    });
    if (!scan) return scan.error();
    const bool is_last = index + 1 == segments_.size();
    const Seq next = is_last ? head_ + 1 : segments_[index + 1].header.first;
    if (scan->next != next || scan->later) return damaged(segment.path, scan->end);
    return Done{};
}

std::string SegmentJournal::id() const {
    const JournalId& id = segments_.back().header.journal;
    return to_hex(std::string_view(id.data(), id.size()));
}

void SegmentJournal::release(Seq seq) {
    std::size_t bytes_behind = 0;
    for (const Segment& segment : segments_)
        bytes_behind += segment.header.bytes;
    while (segments_.size() > 1 && segments_[1].header.first <= seq + 1) {
        bytes_behind -= segments_.front().header.bytes;
        if (bytes_behind < options_.keep_bytes) return;
        // What cannot be renamed now stays a segment; the next release tries again.
        if (!files_.retire(segments_.front())) return;
        segments_.erase(segments_.begin());
    }
}

}  // namespace

Result<std::unique_ptr<Journal>> open_journal(JournalOptions options) {
    if (options.segment_bytes < kSegmentBytesTechnicalMin ||
        options.segment_bytes % kUnitAlign != 0) {
        return make_error(ErrorCode::config, "a journal segment of " +
                                                 std::to_string(options.segment_bytes) +
                                                 " bytes is not possible: take a multiple of " +
                                                 std::to_string(kUnitAlign) + " of at least " +
                                                 std::to_string(limits::kSegmentBytesMin));
    }
    auto journal = std::make_unique<SegmentJournal>(options);
    const Status opened = journal->open();
    if (!opened) return opened.error();
    return std::unique_ptr<Journal>(std::move(journal));
}

}  // namespace iw::broker
