#include "common/io/entropy.h"

#include <sodium.h>

#include "common/base/check.h"
#include "common/base/text.h"
#include "common/io/system_clock.h"

namespace iw::io {
namespace {

// May be called again at no cost, from any thread; without it the random source is not set up.
void start_sodium() {
    IW_CHECK(sodium_init() >= 0);
}

std::string random_bytes(std::size_t count) {
    start_sodium();
    std::string bytes(count, '\0');
    randombytes_buf(bytes.data(), bytes.size());
    return bytes;
}

}  // namespace

std::string random_hex(std::size_t bytes) {
    return to_hex(random_bytes(bytes));
}

std::string make_uuid7() {
    constexpr std::size_t kTimeBytes = 6;
    std::string bytes = random_bytes(16);
    auto ms = static_cast<std::uint64_t>(to_ms(wall_now()));
    for (std::size_t i = kTimeBytes; i > 0; --i, ms >>= 8) {
        bytes[i - 1] = static_cast<char>(ms & 0xff);
    }
    bytes[6] = static_cast<char>((bytes[6] & 0x0f) | 0x70);  // version 7
    bytes[8] = static_cast<char>((bytes[8] & 0x3f) | 0x80);  // variant of RFC 9562
    std::string text = to_hex(bytes);
    for (const std::size_t dash : {8, 13, 18, 23})
        text.insert(dash, 1, '-');
    return text;
}

std::array<std::uint8_t, 32> sha256(std::string_view bytes) {
    start_sodium();
    std::array<std::uint8_t, crypto_hash_sha256_BYTES> hash{};
    static_assert(hash.size() == 32);
    crypto_hash_sha256(hash.data(), reinterpret_cast<const unsigned char*>(bytes.data()),
                       bytes.size());
    return hash;
}

std::string sha256_hex(std::string_view bytes) {
    const std::array<std::uint8_t, 32> hash = sha256(bytes);
    return to_hex(std::string_view(reinterpret_cast<const char*>(hash.data()), hash.size()));
}

struct Sha256::State {
    crypto_hash_sha256_state hash;
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
    start_sodium();
    crypto_hash_sha256_init(&state_->hash);
}

Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::add(std::string_view bytes) {
    crypto_hash_sha256_update(&state_->hash, reinterpret_cast<const unsigned char*>(bytes.data()),
                              bytes.size());
}

std::string Sha256::finish_hex() {
    std::array<unsigned char, crypto_hash_sha256_BYTES> hash{};
    crypto_hash_sha256_final(&state_->hash, hash.data());
    return to_hex(std::string_view(reinterpret_cast<const char*>(hash.data()), hash.size()));
}

}  // namespace iw::io
