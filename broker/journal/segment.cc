#include "broker/journal/segment.h"

#include <algorithm>

#include "broker/journal/crc32c.h"
#include "broker/journal/little_endian.h"

namespace iw::broker {
namespace {

constexpr std::string_view kSegmentMagic = "IWJOURN\n";
constexpr std::uint32_t kUnitMagic = 0x54495749;  // "IWIT"

// Offsets in a segment's header.
constexpr std::size_t kHeaderFormat = 8;
constexpr std::size_t kHeaderJournal = 16;
constexpr std::size_t kHeaderNumber = 32;
constexpr std::size_t kHeaderFirst = 40;
constexpr std::size_t kHeaderBytes = 48;
constexpr std::size_t kHeaderReplaces = 56;
constexpr std::size_t kHeaderCrc = 64;

// Offsets in a unit.
constexpr std::size_t kUnitCrc = 4;
constexpr std::size_t kUnitPayloadBytes = 8;
constexpr std::size_t kUnitCount = 12;
constexpr std::size_t kUnitSegment = 16;
constexpr std::size_t kUnitFirst = 24;

// The journal's id is not in the unit but in its checksum: nobody who has not read the files can
// compose text that, stored as a prompt, would pass for a unit.
std::uint32_t unit_crc(std::string_view unit, const JournalId& journal) {
    const std::uint32_t crc = crc32c(0, std::string_view(journal.data(), journal.size()));
    return crc32c(crc, unit.substr(kUnitPayloadBytes));
}

}  // namespace

std::string encode_header(const SegmentHeader& header) {
    std::string bytes(kSegmentHeaderBytes, '\0');
    std::ranges::copy(kSegmentMagic, bytes.begin());
    put_at(bytes, kHeaderFormat, kJournalFormat);
    std::ranges::copy(header.journal, bytes.begin() + kHeaderJournal);
    put_at(bytes, kHeaderNumber, header.number);
    put_at(bytes, kHeaderFirst, header.first);
    put_at(bytes, kHeaderBytes, header.bytes);
    put_at(bytes, kHeaderReplaces, header.replaces);
    put_at(bytes, kHeaderCrc, crc32c(0, std::string_view(bytes).substr(0, kHeaderCrc)));
    return bytes;
}

Result<SegmentHeader> decode_header(std::string_view bytes, const std::string& path) {
    if (bytes.size() < kSegmentHeaderBytes || !bytes.starts_with(kSegmentMagic)) {
        return make_error(
            ErrorCode::config,
            "journal segment " + path +
                " is damaged at offset 0: restore a backup with `ictl restore FOLDER`");
    }
    // A newer format may lay out and check the rest in another way, so its number comes first.
    const auto format = get_at<std::uint32_t>(bytes, kHeaderFormat);
    if (format > kJournalFormat) {
        return make_error(ErrorCode::config,
                          "journal segment " + path + " has format " + std::to_string(format) +
                              ", this version reads up to " + std::to_string(kJournalFormat) +
                              ": install the newer version");
    }
    if (get_at<std::uint32_t>(bytes, kHeaderCrc) != crc32c(0, bytes.substr(0, kHeaderCrc))) {
        return make_error(
            ErrorCode::config,
            "journal segment " + path +
                " is damaged in its header: restore a backup with `ictl restore FOLDER`");
    }
    SegmentHeader header;
    std::ranges::copy(bytes.substr(kHeaderJournal, header.journal.size()), header.journal.begin());
    header.number = get_at<std::uint64_t>(bytes, kHeaderNumber);
    header.first = get_at<std::uint64_t>(bytes, kHeaderFirst);
    header.bytes = get_at<std::uint64_t>(bytes, kHeaderBytes);
    header.replaces = get_at<std::uint64_t>(bytes, kHeaderReplaces);
    return header;
}

std::size_t unit_size(std::size_t payload_bytes) {
    return (kUnitHeaderBytes + payload_bytes + kUnitAlign - 1) / kUnitAlign * kUnitAlign;
}

void seal_unit(std::string& unit, const SegmentHeader& segment, Seq first, std::uint32_t count) {
    const std::size_t payload_bytes = unit.size() - kUnitHeaderBytes;
    put_at(unit, 0, kUnitMagic);
    put_at(unit, kUnitPayloadBytes, static_cast<std::uint32_t>(payload_bytes));
    put_at(unit, kUnitCount, count);
    put_at(unit, kUnitSegment, segment.number);
    put_at(unit, kUnitFirst, first);
    put_at(unit, kUnitCrc, unit_crc(unit, segment.journal));
    unit.resize(unit_size(payload_bytes), '\0');
}

std::optional<Unit> unit_at(std::string_view segment, const SegmentHeader& header,
                            std::size_t offset) {
    if (offset > segment.size() || segment.size() - offset < kUnitHeaderBytes) return std::nullopt;
    const std::string_view rest = segment.substr(offset);
    if (get_at<std::uint32_t>(rest, 0) != kUnitMagic) return std::nullopt;
    if (get_at<std::uint64_t>(rest, kUnitSegment) != header.number) return std::nullopt;
    const std::size_t payload_bytes = get_at<std::uint32_t>(rest, kUnitPayloadBytes);
    if (unit_size(payload_bytes) > rest.size()) return std::nullopt;
    const std::string_view unit = rest.substr(0, kUnitHeaderBytes + payload_bytes);
    if (get_at<std::uint32_t>(rest, kUnitCrc) != unit_crc(unit, header.journal))
        return std::nullopt;
    return Unit{.first = get_at<std::uint64_t>(rest, kUnitFirst),
                .count = get_at<std::uint32_t>(rest, kUnitCount),
                .payload = unit.substr(kUnitHeaderBytes)};
}

Result<Scan> scan_segment(std::string_view segment, const SegmentHeader& header,
                          const std::function<Status(const Unit&)>& each) {
    Scan scan;
    scan.next = header.first;
    while (true) {
        const std::optional<Unit> unit = unit_at(segment, header, scan.end);
        // A good unit that is not the next one means that others stood before it.
        if (!unit || unit->first != scan.next) break;
        const Status taken = each(*unit);
        if (!taken) return taken.error();
        scan.next += unit->count;
        scan.end += unit_size(unit->payload.size());
    }
    for (std::size_t offset = scan.end; offset < segment.size(); offset += kUnitAlign) {
        if (!unit_at(segment, header, offset)) continue;
        scan.later = offset;
        break;
    }
    return scan;
}

void restamp_units(std::string& segment, const SegmentHeader& from, const SegmentHeader& to,
                   std::size_t end) {
    for (std::size_t offset = kSegmentHeaderBytes; offset < end;) {
        const std::optional<Unit> unit = unit_at(segment, from, offset);
        IW_CHECK(unit.has_value());
        const std::size_t bytes = kUnitHeaderBytes + unit->payload.size();
        put_at(segment, offset + kUnitSegment, to.number);
        put_at(segment, offset + kUnitCrc,
               unit_crc(std::string_view(segment).substr(offset, bytes), to.journal));
        offset += unit_size(unit->payload.size());
    }
}

}  // namespace iw::broker
