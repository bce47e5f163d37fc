#pragma once

// Frames as a client in another language may write them, and wrong ones: values are encoded one by
// one into bytes, without any of our field lists.

#include <bit>
#include <cstdint>
#include <msgpack.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace iw::raw {

struct Sink {
    std::string bytes;
    void write(const char* data, std::size_t size) { bytes.append(data, size); }
};

template <typename Function>
std::string packed(Function function) {
    Sink sink;
    msgpack::packer<Sink> packer(sink);
    function(packer);
    return std::move(sink.bytes);
}

inline std::string text(std::string_view value) {
    return packed([&](auto& p) {
        p.pack_str(static_cast<std::uint32_t>(value.size()));
        p.pack_str_body(value.data(), static_cast<std::uint32_t>(value.size()));
    });
}
inline std::string bytes(std::string_view value) {
    return packed([&](auto& p) {
        p.pack_bin(static_cast<std::uint32_t>(value.size()));
        p.pack_bin_body(value.data(), static_cast<std::uint32_t>(value.size()));
    });
}
inline std::string number(std::int64_t value) {
    return packed([&](auto& p) { p.pack_int64(value); });
}
inline std::string big(std::uint64_t value) {
    return packed([&](auto& p) { p.pack_uint64(value); });
}
// By hand, because the packer writes a whole number as an integer.
inline std::string real(double value) {
    const auto bits = std::bit_cast<std::uint64_t>(value);
    std::string result = "\xcb";
    for (int shift = 56; shift >= 0; shift -= 8)
        result += static_cast<char>(bits >> shift & 0xff);
    return result;
}
inline std::string boolean(bool value) {
    return value ? "\xc3" : "\xc2";
}
inline std::string nil() {
    return "\xc0";
}

inline std::string array(const std::vector<std::string>& elements) {
    std::string result =
        packed([&](auto& p) { p.pack_array(static_cast<std::uint32_t>(elements.size())); });
    for (const std::string& element : elements)
        result += element;
    return result;
}

// Keys are text; values are encoded already. A key may stand there twice.
using Entries = std::vector<std::pair<std::string, std::string>>;
inline std::string map(const Entries& entries) {
    std::string result =
        packed([&](auto& p) { p.pack_map(static_cast<std::uint32_t>(entries.size())); });
    for (const auto& [key, value] : entries)
        result += text(key) + value;
    return result;
}

// A request with the id "r1".
inline std::string request(std::string_view verb, std::string body) {
    return map({{"v", number(1)}, {"m", text(verb)}, {"id", text("r1")}, {"b", std::move(body)}});
}
// A submit of one session: agent and prompt, and what is given besides.
inline std::string submit(const Entries& more) {
    Entries session = {{"agent", text("tester")}, {"prompt", text("do it")}};
    for (const auto& entry : more) {
        std::erase_if(session, [&](const auto& own) { return own.first == entry.first; });
        session.push_back(entry);
    }
    return request("submit", map({{"sessions", array({map(session)})}}));
}

}  // namespace iw::raw
