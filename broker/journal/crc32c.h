#pragma once

// CRC-32C (Castagnoli, RFC 3720 appendix B.4): finds every burst of up to 32 flipped bits, and
// processors have an instruction for it. Guards against accidents, not against people.

#include <cstdint>
#include <string_view>

namespace iw::broker {

// Of `bytes`, continuing from `crc`, the result over the bytes before them (0 for none).
std::uint32_t crc32c(std::uint32_t crc, std::string_view bytes);

// The same without the processor's instruction; for machines that lack it, and for the test of
// both.
std::uint32_t crc32c_portable(std::uint32_t crc, std::string_view bytes);

}  // namespace iw::broker
