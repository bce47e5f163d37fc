#pragma once

// Bytes to messages and back; the only user of msgpack. Everything from a peer passes decode_*, which caps
// sizes before it allocates, refuses trailing bytes, duplicate keys, text that is not UTF-8 and nesting over
// limits::kDecodeDepthMax, and never throws. Layout: common/PROTOCOL.md.

#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/messages/messages.h"

namespace iw {

std::string encode(const RequestFrame& frame);
std::string encode(const ReplyFrame& frame, std::string_view verb);
std::string encode(const PushFrame& frame);

// What of a bad request could still be read, so that it can be answered by name.
struct BadFrame {
    std::string id;    // empty when not even that could be read
    std::string verb;  // printable, possibly empty
    Error error;       // BAD_REQUEST, UNKNOWN_VERB, VERSION or TOO_LARGE
};
std::variant<RequestFrame, BadFrame> decode_request(std::string_view bytes);

// What a client or worker receives.
using Incoming = std::variant<ReplyFrame, PushFrame>;
Result<Incoming> decode_incoming(std::string_view bytes);

// Canonical bytes of a submission without its key: what a body hash covers.
std::string canonical(const Submission& submission);

// Names that appear on the wire, for the test that compares them with PROTOCOL.md.
struct WireNames {
    std::vector<std::string> verbs;
    std::vector<std::string> fields;
    std::vector<std::string> errors;
    std::vector<std::string> limits;
};
WireNames wire_names();

}  // namespace iw
