// What is written is read back, for random messages, for frames of other writers, and for the
// canonical bytes under a body hash.

#include <gtest/gtest.h>

#include <limits>
#include <utility>

#include "common/base/text.h"
#include "common/codec/codec.h"
#include "common/codec/forms.h"
#include "tests/protocol/fill.h"
#include "tests/protocol/raw.h"
#include "tests/protocol/samples.h"

namespace iw {
namespace {

constexpr int kRounds = 300;

std::string why_not(std::string_view bytes) {
    const auto decoded = decode_request(bytes);
    const auto* bad = std::get_if<BadFrame>(&decoded);
    return bad == nullptr ? std::string() : bad->error.message;
}

TEST(RoundTrip, RandomRequests) {
    Random random(1);
    for (int round = 0; round < kRounds; ++round) {
        for (Request body : samples::requests()) {
            Fill fill(random);
            std::visit([&](auto& message) { fill.fill(message = {}); }, body);
            const std::string bytes = encode(RequestFrame{.id = "r1", .body = body});
            ASSERT_EQ(why_not(bytes), "") << verb(body) << " in round " << round;
            ASSERT_EQ(samples::encoded_again(bytes, true), bytes)
                << verb(body) << " in round " << round;
        }
    }
}

TEST(RoundTrip, RandomRepliesAndPushes) {
    Random random(2);
    for (int round = 0; round < kRounds; ++round) {
        Fill fill(random);
        for (Reply body : samples::replies()) {
            std::visit([&](auto& message) { fill.fill(message = {}); }, body);
            const std::string bytes = encode(ReplyFrame{.id = "r1", .body = body}, verb(body));
            ASSERT_EQ(samples::encoded_again(bytes, false), bytes)
                << verb(body) << " in round " << round;
        }
        for (Push body : samples::pushes()) {
            std::visit([&](auto& message) { fill.fill(message = {}); }, body);
            const std::string bytes = encode(PushFrame{.body = body});
            ASSERT_EQ(samples::encoded_again(bytes, false), bytes)
                << verb(body) << " in round " << round;
        }
        ErrorReply refusal;
        fill.fill(refusal);
        const std::string bytes = encode(ReplyFrame{.id = "r1", .body = refusal}, "status");
        ASSERT_EQ(samples::encoded_again(bytes, false), bytes) << "error in round " << round;
    }
}

TEST(RoundTrip, EmptyMessagesKeepTheirDefaults) {
    const auto decoded = decode_request(raw::submit({}));
    const Submission got =
        std::get<SubmitRequest>(std::get<RequestFrame>(decoded).body).sessions.at(0);
    Submission expected;
    expected.agent = AgentName("tester");
    expected.prompt = "do it";
    EXPECT_EQ(canonical(got), canonical(expected));
    EXPECT_EQ(got.timeout, limits::kRunTimeoutDefault);
    EXPECT_EQ(got.on_lost, OnLost::wait);
    EXPECT_FALSE(got.expires);
    const auto list = decode_request(raw::request("list", raw::map({})));
    EXPECT_EQ(std::get<ListRequest>(std::get<RequestFrame>(list).body).rows_max,
              limits::kPageRowsMax);
    const auto goodbye = decode_request(raw::request("goodbye", raw::nil()));
    EXPECT_TRUE(std::get<GoodbyeRequest>(std::get<RequestFrame>(goodbye).body).returning);
}

// Other writers choose other widths, orders and nils, and know keys that we do not.
TEST(RoundTrip, FramesOfOtherWriters) {
    const std::string session = raw::map({{"unknown", raw::map({{"x", raw::real(1.5)}})},
                                          {"prompt", raw::text("p")},
                                          {"priority", std::string("\xd3\0\0\0\0\0\0\0\x05", 9)},
                                          {"tags", raw::nil()},
                                          {"parent", raw::text("")},
                                          {"timeout", std::string("\xcf\0\0\0\0\0\0\0\x07", 9)},
                                          {"agent", std::string("\xdb\0\0\0\1a", 6)}});
    const std::string frame = raw::map({{"b", raw::map({{"sessions", raw::array({session})}})},
                                        {"id", raw::bytes("\xff\x01")},
                                        {"future", raw::boolean(false)},
                                        {"m", raw::text("submit")},
                                        {"v", raw::number(1)}});
    const auto decoded = decode_request(frame);
    ASSERT_TRUE(std::holds_alternative<RequestFrame>(decoded))
        << std::get<BadFrame>(decoded).error.message;
    const auto& request = std::get<RequestFrame>(decoded);
    EXPECT_EQ(request.id, "\xff\x01");
    const Submission& got = std::get<SubmitRequest>(request.body).sessions.at(0);
    EXPECT_EQ(got.agent.str(), "a");
    EXPECT_EQ(got.priority, 5);
    EXPECT_EQ(got.timeout, Duration(7));
    EXPECT_TRUE(got.parent.empty());
}

TEST(RoundTrip, LargestNumbers) {
    EventsRequest events{.after = static_cast<Seq>(std::numeric_limits<std::int64_t>::max())};
    const std::string bytes = encode(RequestFrame{.id = "r1", .body = events});
    EXPECT_EQ(samples::encoded_again(bytes, true), bytes);
    ListReply list{.seq = std::numeric_limits<Seq>::max()};
    const std::string reply = encode(ReplyFrame{.id = "r1", .body = list}, "list");
    EXPECT_EQ(samples::encoded_again(reply, false), reply);
}

TEST(RoundTrip, LargestMessages) {
    Submission large = samples::submission();
    large.prompt.assign(limits::kPromptMax, '"');
    const std::string submit =
        encode(RequestFrame{.id = "r1", .body = SubmitRequest{.sessions = {large}}});
    EXPECT_EQ(why_not(submit), "");
    HelloRequest hello = samples::worker_hello();
    hello.worker->inventory.assign(limits::kInventoryMax, samples::attempt());
    EXPECT_EQ(why_not(encode(RequestFrame{.id = "r1", .body = hello})), "");
    HeartbeatRequest beat{.attempts = hello.worker->inventory};
    EXPECT_EQ(why_not(encode(RequestFrame{.id = "r1", .body = beat})), "");
    beat.closed = std::exchange(beat.attempts, {});
    EXPECT_EQ(why_not(encode(RequestFrame{.id = "r1", .body = beat})), "");
    ListReply page{.sessions = std::vector(limits::kPageRowsMax, samples::view())};
    EXPECT_TRUE(decode_incoming(encode(ReplyFrame{.id = "r1", .body = page}, "list")).ok());
}

// ---- Canonical bytes
// ------------------------------------------------------------------------------------

TEST(Canonical, LeavesOutTheKeyAlone) {
    Submission one = samples::submission();
    Submission two = one;
    two.key = "another";
    EXPECT_EQ(canonical(one), canonical(two));
    EXPECT_EQ(canonical(one).find("key-1"), std::string::npos);
}

TEST(Canonical, DiffersWithEveryOtherField) {
    const std::string base = canonical(samples::submission());
    const auto changed = [&](auto change) {
        Submission other = samples::submission();
        change(other);
        EXPECT_NE(canonical(other), base);
    };
    changed([](Submission& s) { s.agent = AgentName("other"); });
    changed([](Submission& s) { s.prompt += " "; });
    changed([](Submission& s) { s.project.clear(); });
    changed([](Submission& s) { s.origin.root = "/"; });
    changed([](Submission& s) { s.agent_in_project = false; });
    changed([](Submission& s) { s.queue_anyway = false; });
    changed([](Submission& s) { s.priority = 0; });
    changed([](Submission& s) { s.delay = Duration(0); });
    changed([](Submission& s) { s.expires.reset(); });
    changed([](Submission& s) { s.timeout = limits::kRunTimeoutDefault; });
    changed([](Submission& s) { s.disk_limit.reset(); });
    changed([](Submission& s) { s.on_lost = OnLost::fail; });
    changed([](Submission& s) { s.retry.reset(); });
    changed([](Submission& s) { s.retry->attempts_max = 4; });
    changed([](Submission& s) { s.retry->backoff += Duration(1); });
    changed([](Submission& s) { s.retry->causes.pop_back(); });
    changed([](Submission& s) { s.after.pop_back(); });
    changed([](Submission& s) { s.after[0].on = AfterCondition::any_end; });
    changed([](Submission& s) { s.keep_children = false; });
    changed([](Submission& s) { s.parent = SessionId(); });
    changed([](Submission& s) { s.retry_of = SessionId(); });
    changed([](Submission& s) { s.host.clear(); });
    changed([](Submission& s) { s.require.clear(); });
    changed([](Submission& s) { s.tags.pop_back(); });
    changed([](Submission& s) { s.metadata.clear(); });
    changed([](Submission& s) { s.result_schema.clear(); });
    changed([](Submission& s) { s.estimate.reset(); });
}

// The hash of a body is kept for as long as its key: these bytes must never change.
TEST(Canonical, BytesAreFixed) {
    Submission plain;
    plain.agent = AgentName("a");
    plain.prompt = "p";
    EXPECT_EQ(to_hex(canonical(plain)),
              "de0004a56167656e74a161a670726f6d7074a170a774696d656f7574ce05265c00a76f6e5f6c6f7374a4"
              "77616974");
}

// ---- Forms
// ----------------------------------------------------------------------------------------------

TEST(Forms, JsonObject) {
    for (const char* good :
         {"{}", " {\"a\":1}\n", R"({"a":[-0.5e+10,"\u00FF\n",{"b":null}],"c":true})"}) {
        EXPECT_TRUE(codec::is_json_object(good)) << good;
    }
    for (const char* bad : {"",
                            "[]",
                            "1",
                            "{",
                            "{}}",
                            "{\"a\"}",
                            "{\"a\":}",
                            "{\"a\":1,}",
                            "{a:1}",
                            "{\"a\":01}",
                            "{\"a\":1.}",
                            "{\"a\":+1}",
                            "{\"a\":\"\\x\"}",
                            "{\"a\":\"\\u12g4\"}",
                            "{\"a\":\"\n\"}",
                            "{\"a\":nul}",
                            "{\"a\":[1 2]}",
                            "{\"a\":1}x",
                            "{\"a\":-}",
                            "{,}"}) {
        EXPECT_FALSE(codec::is_json_object(bad)) << bad;
    }
    const auto deep = [](std::size_t depth) {
        return "{\"a\":" + std::string(depth, '[') + std::string(depth, ']') + "}";
    };
    EXPECT_TRUE(codec::is_json_object(deep(31)));
    EXPECT_FALSE(codec::is_json_object(deep(32)));
    EXPECT_FALSE(codec::is_json_object("{\"a\":" + std::string(60'000, '[')));
}

TEST(Forms, LinesAndPaths) {
    EXPECT_TRUE(codec::is_line("caf\xc3\xa9 \xc2\xa0"));
    for (const char* bad : {"a\nb", "\x7f", "\xc2\x80", "\x1b[0m"})
        EXPECT_FALSE(codec::is_line(bad));
    EXPECT_TRUE(codec::is_absolute_path("/"));
    EXPECT_FALSE(codec::is_absolute_path(""));
    EXPECT_FALSE(codec::is_absolute_path("a/b"));
    EXPECT_FALSE(codec::is_absolute_path("/a\tb"));
}

}  // namespace
}  // namespace iw
