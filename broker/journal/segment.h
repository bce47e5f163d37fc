#pragma once

// The bytes of a segment: its header and its commit units, without any file. A segment is one block
// of kUnitAlign bytes with the header, then units that each begin at a multiple of kUnitAlign;
// behind the last unit stands anything (zeros, or what an earlier use of the file left). Layout:
// broker/STORE.md.

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/ids.h"
#include "common/base/result.h"

namespace iw::broker {

// The smallest piece that disks write whole: a unit never shares one with the unit before it, so a
// torn write of the one cannot harm the other.
inline constexpr std::size_t kUnitAlign = 512;
inline constexpr std::size_t kUnitHeaderBytes = 32;
inline constexpr std::size_t kSegmentHeaderBytes = kUnitAlign;
inline constexpr std::uint32_t kJournalFormat = 1;
// Below this the parts of the format do not fit together; a broker's configuration asks for more.
inline constexpr std::size_t kSegmentBytesTechnicalMin = 64u << 10;

using JournalId = std::array<char, 16>;

struct SegmentHeader {
    JournalId journal{};       // random, made with the journal
    std::uint64_t number = 0;  // of this segment, from 1, never used twice in a journal
    Seq first = 0;             // of the first record that the segment holds or will hold
    std::uint64_t bytes = 0;   // size of the file
    std::uint64_t replaces =
        0;  // number of the segment that this one is the rewritten copy of; 0: none
};

// kSegmentHeaderBytes bytes.
std::string encode_header(const SegmentHeader& header);
// config: not a segment header, damaged, or of a newer format. `path` is for the message.
Result<SegmentHeader> decode_header(std::string_view bytes, const std::string& path);

// Bytes that a unit with this much payload takes in its segment.
std::size_t unit_size(std::size_t payload_bytes);
// Makes a unit of `unit`, which holds kUnitHeaderBytes of room and then the payload: fills in the
// header and pads. The payload is `count` times a length (4 bytes, little endian) and as many bytes
// of one record.
void seal_unit(std::string& unit, const SegmentHeader& segment, Seq first, std::uint32_t count);

struct Unit {
    Seq first = 0;
    std::uint32_t count = 0;
    std::string_view payload;
};
// The unit at an offset of the segment's bytes, if a whole one of this very segment is there.
std::optional<Unit> unit_at(std::string_view segment, const SegmentHeader& header,
                            std::size_t offset);

struct Scan {
    std::size_t end = kSegmentHeaderBytes;  // behind the last good unit
    Seq next = 0;                           // the seq that would come next
    std::optional<std::size_t> later;  // offset of a good unit behind the end: damage lies between
};
// Walks the units in order. An error of `each` ends it and is returned.
Result<Scan> scan_segment(std::string_view segment, const SegmentHeader& header,
                          const std::function<Status(const Unit&)>& each);

// Turns the units in [kSegmentHeaderBytes, end) of a scanned segment into units of the segment
// `to`.
void restamp_units(std::string& segment, const SegmentHeader& from, const SegmentHeader& to,
                   std::size_t end);

}  // namespace iw::broker
