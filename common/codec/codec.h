#pragma once

// Bytes to messages and back; the only user of msgpack. Everything from a peer passes decode_*,
// which caps sizes before it allocates, refuses trailing bytes, duplicate keys, text that is not
// UTF-8 and nesting over limits::kDecodeDepthMax, and never throws. Layout: common/PROTOCOL.md.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/result.h"
#include "common/messages/messages.h"

namespace iw {

// All text in a frame must be UTF-8 (printable() makes any bytes so) and the frame at most
// limits::kMessageMax: encode writes what it is given, and the other side refuses the rest.
std::string encode(const RequestFrame& frame);
// `verb` is that of the request; it need not be one that is known.
std::string encode(const ReplyFrame& frame, std::string_view verb);
std::string encode(const PushFrame& frame);

// What of a bad request could still be read, so that it can be answered by name.
struct BadFrame {
    std::string id;    // empty when not even that could be read
    std::string verb;  // printable, possibly empty
    Error error;       // BAD_REQUEST, UNKNOWN_VERB, VERSION or TOO_LARGE
};
// The form of every field is checked here (types, ranges, lengths, names, paths, metadata being
// JSON); what depends on state is the broker's. The frame's `k` ends up as the key of the one
// submission or of the retry.
std::variant<RequestFrame, BadFrame> decode_request(std::string_view bytes);

// What a client or worker receives. As strict about form as for requests, but not about limits, so
// that a newer broker may raise one. Words it may have added are read as their nearest meaning: an
// unknown status as RUNNING (never as an end), an unknown detail as queued, working, done, exited
// or killed after the status, an unknown stop cause as killed, an unknown error code as INTERNAL.
using Incoming = std::variant<ReplyFrame, PushFrame>;
Result<Incoming> decode_incoming(std::string_view bytes);

// Canonical bytes of a submission without its key: what a body hash covers. Fields in a fixed
// order; those that are empty, zero or false are left out, so that a field added later leaves older
// hashes as they were.
std::string canonical(const Submission& submission);

// Limits under the names and with the values that the welcome announces.
std::map<std::string, std::uint64_t> announced_limits();

// Names that appear on the wire, for the test that compares them with PROTOCOL.md.
struct WireNames {
    std::vector<std::string> verbs;
    std::vector<std::string> fields;
    std::vector<std::string> errors;
    std::vector<std::string> limits;
};
WireNames wire_names();

}  // namespace iw
