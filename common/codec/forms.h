#pragma once

// What texts of requests must look like beyond their length. Pure, total on any bytes.

#include <string_view>
#include <vector>

#include "common/base/statuses.h"

namespace iw::codec {

// Well-formed for one line of a terminal: no control characters (C0, DEL, C1).
bool is_line(std::string_view text);
// Begins with '/' and is a line. Whether it exists, or has "..", is its user's business.
bool is_absolute_path(std::string_view text);
// 64 lower-case hexadecimal digits.
bool is_sha256_hex(std::string_view text);
// One JSON object (RFC 8259) and nothing else, nested at most 32 deep. Kept as text and not decoded
// here: this only promises that whoever decodes it later can.
bool is_json_object(std::string_view text);
// The same, or no text at all, where that says that there is none any more.
bool is_session_id_or_empty(std::string_view text);
bool is_json_object_or_empty(std::string_view text);
// Ends of which a retry policy may speak: those that an agent can cause.
bool are_retry_causes(const std::vector<Detail>& causes);

}  // namespace iw::codec
