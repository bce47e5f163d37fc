#include "broker/journal/crc32c.h"

#include <array>
#include <cstddef>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace iw::broker {
namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78u;  // 0x1EDC6F41 with its bits reversed

using Table = std::array<std::uint32_t, 256>;

constexpr Table make_first_table() {
    Table table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
        std::uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit)
            value = (value >> 1) ^ ((value & 1u) ? kPolynomial : 0u);
        table[i] = value;
    }
    return table;
}

// Table k steps a byte that has k more bytes behind it, so that four bytes take one round of
// look-ups.
constexpr std::array<Table, 4> make_tables() {
    std::array<Table, 4> tables{};
    tables[0] = make_first_table();
    for (std::size_t k = 1; k < tables.size(); ++k) {
        for (std::size_t i = 0; i < 256; ++i) {
            const std::uint32_t before = tables[k - 1][i];
            tables[k][i] = (before >> 8) ^ tables[0][before & 0xffu];
        }
    }
    return tables;
}

constexpr std::array<Table, 4> kTables = make_tables();

std::uint32_t load_little_endian(const char* at) {
    std::uint32_t value = 0;
    for (unsigned i = 0; i < 4; ++i) {
        value |= std::uint32_t{static_cast<unsigned char>(at[i])} << (8 * i);
    }
    return value;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t crc32c_sse42(std::uint32_t crc,
                                                             std::string_view bytes) {
    std::uint64_t state = ~crc;
    const char* at = bytes.data();
    std::size_t left = bytes.size();
    for (; left >= 8; at += 8, left -= 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, at, sizeof word);
        state = _mm_crc32_u64(state, word);
    }
    auto rest = static_cast<std::uint32_t>(state);
    for (; left > 0; ++at, --left)
        rest = _mm_crc32_u8(rest, static_cast<unsigned char>(*at));
    return ~rest;
}
#endif

}  // namespace

std::uint32_t crc32c_portable(std::uint32_t crc, std::string_view bytes) {
    std::uint32_t state = ~crc;
    const char* at = bytes.data();
    std::size_t left = bytes.size();
    for (; left >= 4; at += 4, left -= 4) {
        state ^= load_little_endian(at);
        state = kTables[3][state & 0xffu] ^ kTables[2][(state >> 8) & 0xffu] ^
                kTables[1][(state >> 16) & 0xffu] ^ kTables[0][state >> 24];
    }
    for (; left > 0; ++at, --left) {
        state = (state >> 8) ^ kTables[0][(state ^ static_cast<unsigned char>(*at)) & 0xffu];
    }
    return ~state;
}

std::uint32_t crc32c(std::uint32_t crc, std::string_view bytes) {
#if defined(__x86_64__)
    // The release build must run on any x86-64, so the instruction is looked for at run time.
    static const bool has_instruction = __builtin_cpu_supports("sse4.2") != 0;
    if (has_instruction) return crc32c_sse42(crc, bytes);
#endif
    return crc32c_portable(crc, bytes);
}

}  // namespace iw::broker
