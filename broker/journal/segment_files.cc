#include "broker/journal/segment_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "broker/journal/file_bytes.h"
#include "common/io/files.h"

namespace iw::broker {
namespace {

constexpr std::string_view kSegmentSuffix = ".segment";
constexpr std::string_view kSpareSuffix = ".spare";
constexpr std::string_view kPreparing = "preparing";
constexpr std::size_t kNumberDigits = 16;
constexpr std::size_t kFillChunk = 256u << 10;
// Spares beyond these are given back to the file system when a journal is opened, where a large
// unlink stalls nobody.
constexpr std::size_t kSparesMax = 2;
constexpr mode_t kFileMode = 0600;
constexpr mode_t kFolderMode = 0700;

std::string numbered(std::uint64_t number, std::string_view suffix) {
    std::string digits = std::to_string(number);
    if (digits.size() < kNumberDigits) digits.insert(0, kNumberDigits - digits.size(), '0');
    return digits + std::string(suffix);
}

Result<io::UniqueFd> open_file(const std::string& path, int flags) {
    io::UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, kFileMode));
    if (!fd.valid()) return io::system_error("cannot open", path);
    return fd;
}

Result<std::size_t> file_size(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return io::system_error("cannot look at", path);
    return static_cast<std::size_t>(status.st_size);
}

Status rename_file(const std::string& from, const std::string& to) {
    if (std::rename(from.c_str(), to.c_str()) != 0) return io::system_error("cannot rename", from);
    return Done{};
}

Error damaged(const std::string& path, const std::string& what) {
    return make_error(ErrorCode::config, "journal segment " + path + " " + what +
                                             ": restore a backup with `ictl restore FOLDER`");
}

}  // namespace

SegmentFiles::SegmentFiles(std::string folder, std::size_t segment_bytes)
    : folder_(std::move(folder)), segment_bytes_(segment_bytes) {}

std::string SegmentFiles::path(std::string_view name) const {
    return folder_ + "/" + std::string(name);
}

std::string SegmentFiles::segment_path(std::uint64_t number) const {
    return path(numbered(number, kSegmentSuffix));
}

bool SegmentFiles::has_spare() const {
    return !spares_.empty() || prepared_bytes_ == segment_bytes_;
}

Result<std::vector<Segment>> SegmentFiles::open() {
    const Status made = io::make_durable_folders(folder_, kFolderMode);
    if (!made) return made.error();
    const std::vector<std::string> names = io::list_folder(folder_);
    std::vector<Segment> segments;
    for (const std::string& name : names) {
        if (!name.ends_with(kSegmentSuffix)) continue;
        Result<Segment> segment = read_segment(name);
        if (!segment) return segment.error();
        segments.push_back(std::move(*segment));
    }
    for (const Segment& segment : segments) {
        if (segment.header.journal == segments.front().header.journal) continue;
        return damaged(segment.path, "is of another journal than " + segments.front().path);
    }
    const Status cleared = clear_away(names);
    if (!cleared) return cleared.error();
    const Status retired = retire_replaced(segments);
    if (!retired) return retired.error();
    // A rename of the process before may not have reached the disk; what follows builds on it.
    const Status synced = io::sync_folder(folder_);
    if (!synced) return synced.error();
    return segments;
}

Result<Segment> SegmentFiles::read_segment(const std::string& name) const {
    Segment segment;
    segment.path = path(name);
    Result<io::UniqueFd> fd = open_file(segment.path, O_RDONLY);
    if (!fd) return fd.error();
    Result<std::string> bytes = read_bytes(fd->get(), 0, kSegmentHeaderBytes, segment.path);
    if (!bytes) return bytes.error();
    Result<SegmentHeader> header = decode_header(*bytes, segment.path);
    if (!header) return header.error();
    segment.header = *header;
    if (segment.path != segment_path(segment.header.number)) {
        return damaged(segment.path,
                       "says that it is number " + std::to_string(segment.header.number));
    }
    const Result<std::size_t> size = file_size(segment.path);
    if (!size) return size.error();
    if (*size != segment.header.bytes) {
        return damaged(segment.path, "has " + std::to_string(*size) + " bytes instead of " +
                                         std::to_string(segment.header.bytes));
    }
    return segment;
}

Status SegmentFiles::clear_away(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
        const bool spare = name.ends_with(kSpareSuffix);
        if (!spare && name != kPreparing) continue;
        const std::string full = path(name);
        const Result<std::size_t> size = file_size(full);
        if (spare && size.ok() && *size == segment_bytes_ && spares_.size() < kSparesMax) {
            spares_.push_back(full);
            continue;
        }
        const Status removed = io::remove_file(full);
        if (!removed) return removed;
    }
    return Done{};
}

Status SegmentFiles::retire_replaced(std::vector<Segment>& segments) {
    std::vector<Segment> kept;
    for (const Segment& segment : segments) {
        const bool replaced = std::ranges::any_of(segments, [&](const Segment& other) {
            return other.header.replaces == segment.header.number;
        });
        if (!replaced) {
            kept.push_back(segment);
            continue;
        }
        const Status retired = retire(segment);
        if (!retired) return retired;
    }
    segments = std::move(kept);
    return Done{};
}

Status SegmentFiles::begin_preparing(std::size_t size) {
    const std::string where = path(kPreparing);
    Result<io::UniqueFd> fd = open_file(where, O_RDWR | O_CREAT | O_TRUNC);
    if (!fd) return fd.error();
    const int failed = ::posix_fallocate(fd->get(), 0, static_cast<off_t>(size));
    if (failed != 0) {
        // What could be reserved is of use to others on a full disk.
        const Status removed = io::remove_file(where);
        if (!removed) return removed;
        errno = failed;
        return io::system_error("cannot reserve a journal segment at", where);
    }
    preparing_ = std::move(*fd);
    prepared_bytes_ = 0;
    return Done{};
}

Status SegmentFiles::prepare(std::size_t bytes) {
    if (!preparing_.valid()) {
        const Status begun = begin_preparing(segment_bytes_);
        if (!begun) return begun;
    }
    static const std::string zeros(kFillChunk, '\0');
    while (bytes > 0 && prepared_bytes_ < segment_bytes_) {
        const std::size_t step = std::min({bytes, zeros.size(), segment_bytes_ - prepared_bytes_});
        const Status written = write_bytes(preparing_.get(), prepared_bytes_,
                                           std::string_view(zeros).substr(0, step), folder_);
        if (!written) return written;
        // Sets the disk to work without waiting for it; what it leaves over, the sync at the end
        // does.
        ::sync_file_range(preparing_.get(), static_cast<off_t>(prepared_bytes_),
                          static_cast<off_t>(step), SYNC_FILE_RANGE_WRITE);
        prepared_bytes_ += step;
        bytes -= step;
    }
    return Done{};
}

Status SegmentFiles::finish_preparing(std::size_t size) {
    if (size == segment_bytes_) return prepare(segment_bytes_);
    // The copy of a segment that is larger than today's setting.
    const Status begun = begin_preparing(size);
    if (!begun) return begun;
    return write_bytes(preparing_.get(), 0, std::string(size, '\0'), folder_);
}

Result<std::string> SegmentFiles::take_blank(std::size_t size) {
    if (size == segment_bytes_ && !spares_.empty()) {
        const std::string spare = spares_.back();
        spares_.pop_back();
        return spare;
    }
    const Status prepared = finish_preparing(size);
    if (!prepared) return prepared.error();
    preparing_.reset();
    prepared_bytes_ = 0;
    return path(kPreparing);
}

Result<io::UniqueFd> SegmentFiles::create(const SegmentHeader& header, std::string_view units) {
    const Result<std::string> blank = take_blank(header.bytes);
    if (!blank) return blank.error();
    Result<io::UniqueFd> fd = open_file(*blank, O_RDWR);
    if (!fd) return fd;
    const Status headed = write_bytes(fd->get(), 0, encode_header(header), *blank);
    if (!headed) return headed.error();
    const Status filled = write_bytes(fd->get(), kSegmentHeaderBytes, units, *blank);
    if (!filled) return filled.error();
    // All of it, size and extents too: from here on fdatasync finds no metadata to write.
    if (::fsync(fd->get()) != 0) return io::system_error("cannot sync", *blank);
    const Status named = rename_file(*blank, segment_path(header.number));
    if (!named) return named.error();
    const Status synced = io::sync_folder(folder_);
    if (!synced) return synced.error();
    return fd;
}

Status SegmentFiles::retire(const Segment& segment) {
    const std::string spare = path(numbered(segment.header.number, kSpareSuffix));
    const Status renamed = rename_file(segment.path, spare);
    if (!renamed) return renamed;
    // Only once the new name is on disk may its content be written over: else a power cut could
    // bring the old name back with the content of another segment.
    const Status synced = io::sync_folder(folder_);
    if (!synced) return synced;
    if (segment.header.bytes == segment_bytes_) spares_.push_back(spare);
    return Done{};
}

Result<std::string> SegmentFiles::load(const Segment& segment) const {
    Result<io::UniqueFd> fd = open_file(segment.path, O_RDONLY);
    if (!fd) return fd.error();
    return read_bytes(fd->get(), 0, segment.header.bytes, segment.path);
}

}  // namespace iw::broker
