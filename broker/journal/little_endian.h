#pragma once

// Whole numbers as little-endian bytes, whatever the machine's own order.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace iw::broker {

template <typename Number>
void put_at(std::string& bytes, std::size_t offset, Number value) {
    for (std::size_t i = 0; i < sizeof(Number); ++i) {
        bytes[offset + i] = static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
    }
}

// The caller has checked that the bytes are there.
template <typename Number>
Number get_at(std::string_view bytes, std::size_t offset) {
    Number value = 0;
    for (std::size_t i = 0; i < sizeof(Number); ++i) {
        const auto byte = static_cast<unsigned char>(bytes[offset + i]);
        value = static_cast<Number>(value | static_cast<Number>(Number{byte} << (8 * i)));
    }
    return value;
}

}  // namespace iw::broker
