// Mutations of good frames, from a seed: whatever they become is either refused with a named error
// or read as a message that is written and read again the same way.

#include <gtest/gtest.h>

#include "common/base/random.h"
#include "common/base/text.h"
#include "common/codec/codec.h"
#include "tests/protocol/samples.h"

namespace iw {
namespace {

constexpr int kRounds = 60'000;

void mutate(Random& random, std::string& bytes) {
    const std::size_t at = random.below(bytes.size() + 1);
    // Values at which msgpack and our limits change their mind.
    constexpr unsigned char kEdges[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf,
                                        0xc0, 0xc1, 0xc4, 0xca, 0xcb, 0xd3, 0xcf, 0xd9,
                                        0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xff};
    switch (random.below(6)) {
        case 0:
            if (at < bytes.size()) bytes[at] = static_cast<char>(random.next());
            return;
        case 1:
            if (at < bytes.size())
                bytes[at] = static_cast<char>(kEdges[random.below(sizeof kEdges)]);
            return;
        case 2:
            bytes.insert(at, 1, static_cast<char>(kEdges[random.below(sizeof kEdges)]));
            return;
        case 3:
            bytes.erase(at, 1 + random.below(8));
            return;
        case 4:
            bytes.resize(at);
            return;
        default:
            bytes.insert(at, bytes.substr(random.below(bytes.size() + 1), 1 + random.below(64)));
            return;
    }
}

void expect_sane_request(const std::string& bytes) {
    const auto decoded = decode_request(bytes);
    if (const auto* frame = std::get_if<RequestFrame>(&decoded)) {
        const std::string again = encode(*frame);
        ASSERT_EQ(samples::encoded_again(again, true), again) << to_hex(bytes);
        return;
    }
    const BadFrame& bad = std::get<BadFrame>(decoded);
    ASSERT_LE(bad.id.size(), limits::kRequestIdMax);
    ASSERT_FALSE(bad.error.message.empty());
    ASSERT_TRUE(is_utf8(bad.error.message) && is_utf8(bad.verb)) << to_hex(bytes);
    // The refusal itself is always a frame that can be read.
    ASSERT_TRUE(
        decode_incoming(encode({.id = bad.id, .body = ErrorReply{bad.error}}, bad.verb)).ok());
}

TEST(Fuzz, MutatedFrames) {
    const std::vector<samples::Named> frames = samples::frames();
    Random random(4711);
    for (int round = 0; round < kRounds; ++round) {
        const samples::Named& origin = frames[random.below(frames.size())];
        std::string bytes = origin.bytes;
        const std::uint64_t mutations = 1 + random.below(4);
        for (std::uint64_t i = 0; i < mutations; ++i)
            mutate(random, bytes);
        if (origin.request) {
            ASSERT_NO_FATAL_FAILURE(expect_sane_request(bytes))
                << origin.name << " in round " << round;
        } else if (const Result<Incoming> decoded = decode_incoming(bytes); !decoded) {
            ASSERT_TRUE(is_utf8(decoded.error().message)) << origin.name << " in round " << round;
        }
    }
}

}  // namespace
}  // namespace iw
