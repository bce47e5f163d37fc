#pragma once

// Random names and content hashes (libsodium).

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace iw::io {

// `bytes` bytes of the system's random source as twice as many hex characters.
std::string random_hex(std::size_t bytes);
// A new UUIDv7 (RFC 9562) as 36 characters; sorts by the millisecond in which it was made.
std::string make_uuid7();
std::string sha256_hex(std::string_view bytes);
std::array<std::uint8_t, 32> sha256(std::string_view bytes);

// SHA-256 of what does not fit in memory at once.
class Sha256 {
  public:
    Sha256();
    ~Sha256();
    Sha256(Sha256&&) noexcept;
    Sha256& operator=(Sha256&&) noexcept;
    void add(std::string_view bytes);
    std::string finish_hex();  // once; nothing may be added afterwards

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace iw::io
