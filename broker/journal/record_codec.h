#pragma once

// One record as bytes: version, kind, time, and its fields by number. Independent of the wire's
// encoding, so that a change of the protocol never changes what is on disk. How to change a record:
// broker/STORE.md.

#include <string>
#include <string_view>

#include "broker/core/record.h"
#include "common/base/result.h"

namespace iw::broker {

inline constexpr std::uint8_t kRecordVersion = 1;

// Appends the record without its seq, which follows from where it stands.
void encode_record(const Record& record, std::string& bytes);
// config: written by a newer version (the message names what is unknown), or not a record at all.
Result<Record> decode_record(std::string_view bytes, Seq seq);

}  // namespace iw::broker
