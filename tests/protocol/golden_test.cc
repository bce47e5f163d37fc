// The bytes of every message stay what they are. The files under golden/ hold one frame each, in
// hexadecimal. After a wanted change of the format write them anew and look at the difference:
//     IW_WRITE_GOLDEN=1 protocol_test --gtest_filter='Golden.*'

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "common/base/text.h"
#include "tests/protocol/samples.h"

namespace iw {
namespace {

namespace fs = std::filesystem;

const fs::path kFolder = fs::path(IW_SOURCE_DIR) / "tests/protocol/golden";
const fs::path kFirstFolder = fs::path(IW_SOURCE_DIR) / "tests/protocol/golden_first";
constexpr std::size_t kDigitsPerLine = 80;

std::string read_hex(const fs::path& path) {
    std::ifstream file(path);
    std::string digits;
    for (std::string line; std::getline(file, line);)
        digits += line;
    return digits;
}

void write_hex(const fs::path& path, const std::string& digits) {
    std::ofstream file(path);
    for (std::size_t i = 0; i < digits.size(); i += kDigitsPerLine)
        file << digits.substr(i, kDigitsPerLine) << '\n';
}

std::string from_hex(const std::string& digits) {
    std::string bytes;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
        bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
    }
    return bytes;
}

TEST(Golden, EveryMessageHasTheBytesItHad) {
    const bool write = std::getenv("IW_WRITE_GOLDEN") != nullptr;
    for (const samples::Named& frame : samples::frames()) {
        const fs::path path = kFolder / (frame.name + ".hex");
        if (write) write_hex(path, to_hex(frame.bytes));
        ASSERT_TRUE(fs::exists(path))
            << path << " is missing; the head of this file says how to write it";
        EXPECT_EQ(read_hex(path), to_hex(frame.bytes)) << frame.name;
    }
}

TEST(Golden, EveryFileIsReadBackWhole) {
    for (const samples::Named& frame : samples::frames()) {
        const std::string bytes = from_hex(read_hex(kFolder / (frame.name + ".hex")));
        EXPECT_EQ(to_hex(samples::encoded_again(bytes, frame.request)), to_hex(bytes))
            << frame.name;
    }
}

// Frames of the first version, which knew fewer fields: golden_first/ is never written again.
TEST(Golden, FramesOfEarlierSoftwareAreRead) {
    int frames = 0;
    for (const auto& entry : fs::directory_iterator(kFirstFolder)) {
        const std::string name = entry.path().filename();
        const std::string bytes = from_hex(read_hex(entry.path()));
        EXPECT_NE(samples::encoded_again(bytes, name.starts_with("request-")), "") << name;
        ++frames;
    }
    EXPECT_EQ(frames, 30);
}

TEST(Golden, EveryVerbHasItsFiles) {
    std::set<std::string> expected = {"error.hex"};
    for (const samples::Named& frame : samples::frames())
        expected.insert(frame.name + ".hex");
    EXPECT_EQ(samples::requests().size(), std::variant_size_v<Request>);
    EXPECT_EQ(samples::replies().size(), std::variant_size_v<Reply>);
    EXPECT_EQ(samples::pushes().size(), std::variant_size_v<Push>);
    std::set<std::string> found;
    for (const auto& entry : fs::directory_iterator(kFolder))
        found.insert(entry.path().filename());
    EXPECT_EQ(found, expected);
}

// One field by field, so that not all rests on encoding again what was decoded.
TEST(Golden, SubmissionIsReadFieldByField) {
    const auto decoded = decode_request(from_hex(read_hex(kFolder / "request-submit.hex")));
    ASSERT_TRUE(std::holds_alternative<RequestFrame>(decoded));
    const Submission got =
        std::get<SubmitRequest>(std::get<RequestFrame>(decoded).body).sessions.at(0);
    const Submission sent = samples::submission();
    EXPECT_EQ(got.key, sent.key);
    EXPECT_EQ(got.agent, sent.agent);
    EXPECT_EQ(got.prompt, sent.prompt);
    EXPECT_EQ(got.project, sent.project);
    EXPECT_EQ(got.origin, sent.origin);
    EXPECT_EQ(got.agent_in_project, sent.agent_in_project);
    EXPECT_EQ(got.queue_anyway, sent.queue_anyway);
    EXPECT_EQ(got.priority, sent.priority);
    EXPECT_EQ(got.delay, sent.delay);
    EXPECT_EQ(got.expires, sent.expires);
    EXPECT_EQ(got.timeout, sent.timeout);
    EXPECT_EQ(got.disk_limit, sent.disk_limit);
    EXPECT_EQ(got.on_lost, sent.on_lost);
    ASSERT_TRUE(got.retry.has_value());
    EXPECT_EQ(got.retry->attempts_max, sent.retry->attempts_max);
    EXPECT_EQ(got.retry->backoff, sent.retry->backoff);
    EXPECT_EQ(got.retry->backoff_max, sent.retry->backoff_max);
    EXPECT_EQ(got.retry->causes, sent.retry->causes);
    ASSERT_EQ(got.after.size(), sent.after.size());
    for (std::size_t i = 0; i < got.after.size(); ++i) {
        EXPECT_EQ(got.after[i].id, sent.after[i].id);
        EXPECT_EQ(got.after[i].on, sent.after[i].on);
    }
    EXPECT_EQ(got.keep_children, sent.keep_children);
    EXPECT_EQ(got.parent, sent.parent);
    EXPECT_EQ(got.retry_of, sent.retry_of);
    EXPECT_EQ(got.host, sent.host);
    EXPECT_EQ(got.require, sent.require);
    EXPECT_EQ(got.tags, sent.tags);
    EXPECT_EQ(got.metadata, sent.metadata);
    EXPECT_EQ(got.result_schema, sent.result_schema);
    EXPECT_EQ(got.estimate, sent.estimate);
}

}  // namespace
}  // namespace iw
