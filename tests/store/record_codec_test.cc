// Records and commit units as bytes.

#include <gtest/gtest.h>

#include "broker/journal/crc32c.h"
#include "broker/journal/record_codec.h"
#include "broker/journal/segment.h"
#include "tests/store/store_support.h"

namespace iw::broker {
namespace {

using test::every_kind;
using test::record;
using test::text_of;

std::string encoded(const Record& record) {
    std::string bytes;
    encode_record(record, bytes);
    return bytes;
}

template <typename Body>
Body round_trip(const Body& body) {
    const Result<Record> decoded = decode_record(encoded(record(9, body)), 9);
    EXPECT_TRUE(decoded.ok()) << (decoded.ok() ? "" : decoded.error().message);
    EXPECT_EQ(decoded->seq, 9u);
    EXPECT_EQ(decoded->time, record(9, body).time);
    return std::get<Body>(decoded->body);
}

// RFC 3720, appendix B.4.
TEST(Crc32c, KnownValues) {
    for (const auto& crc : {crc32c, crc32c_portable}) {
        EXPECT_EQ(crc(0, std::string(32, '\0')), 0x8a9136aau);
        EXPECT_EQ(crc(0, std::string(32, '\xff')), 0x62a8ab43u);
        EXPECT_EQ(crc(0, "123456789"), 0xe3069283u);
        EXPECT_EQ(crc(0, ""), 0u);
        EXPECT_EQ(crc(crc(0, "12345"), "6789"), 0xe3069283u);
    }
}

TEST(Crc32c, BothWaysAgreeOnAnyLengthAndAlignment) {
    std::string bytes;
    for (int i = 0; i < 300; ++i)
        bytes.push_back(static_cast<char>(i * 37));
    for (std::size_t from = 0; from < 9; ++from) {
        for (std::size_t size = 0; size < 40; ++size) {
            const std::string_view part = std::string_view(bytes).substr(from, size);
            EXPECT_EQ(crc32c(7, part), crc32c_portable(7, part));
        }
    }
}

TEST(RecordCodec, EveryKindSurvives) {
    for (const Record& each : every_kind()) {
        const Result<Record> decoded = decode_record(encoded(each), each.seq);
        ASSERT_TRUE(decoded.ok()) << decoded.error().message;
        EXPECT_EQ(text_of(*decoded), text_of(each)) << name(each.body);
        EXPECT_EQ(decoded->body.index(), each.body.index());
    }
}

TEST(RecordCodec, SubmissionSurvivesFieldByField) {
    SessionCreated before = test::full_created(7);
    before.submission.result_schema = R"({"type":"object"})";
    before.submission.estimate = Duration(300'000);
    const SessionCreated after = round_trip(before);
    const Submission& a = after.submission;
    const Submission& b = before.submission;
    EXPECT_EQ(after.id, before.id);
    EXPECT_EQ(after.principal, before.principal);
    EXPECT_EQ(after.body_hash, before.body_hash);
    EXPECT_EQ(after.not_before, before.not_before);
    EXPECT_EQ(after.expires_at, before.expires_at);
    EXPECT_EQ(a.key, b.key);
    EXPECT_EQ(a.agent, b.agent);
    EXPECT_EQ(a.prompt, b.prompt);
    EXPECT_EQ(a.project, b.project);
    EXPECT_EQ(a.origin, b.origin);
    EXPECT_EQ(a.agent_in_project, b.agent_in_project);
    EXPECT_EQ(a.queue_anyway, b.queue_anyway);
    EXPECT_EQ(a.priority, b.priority);
    EXPECT_EQ(a.delay, b.delay);
    EXPECT_EQ(a.expires, b.expires);
    EXPECT_EQ(a.timeout, b.timeout);
    EXPECT_EQ(a.disk_limit, b.disk_limit);
    EXPECT_EQ(a.on_lost, b.on_lost);
    EXPECT_EQ(a.parent, b.parent);
    EXPECT_EQ(a.retry_of, b.retry_of);
    EXPECT_EQ(a.host, b.host);
    EXPECT_EQ(a.require, b.require);
    EXPECT_EQ(a.tags, b.tags);
    EXPECT_EQ(a.metadata, b.metadata);
    EXPECT_EQ(a.result_schema, b.result_schema);
    EXPECT_EQ(a.estimate, b.estimate);
}

TEST(RecordCodec, OutcomeSurvivesFieldByField) {
    SessionEnded before = test::full_ended(test::session_id(7), {.generation = 3, .attempt = 9});
    before.deliverables =
        Delivered{.manifest = std::string(64, 'd'), .files = 3, .bytes = 1u << 30};
    const SessionEnded after = round_trip(before);
    EXPECT_EQ(after.id, before.id);
    EXPECT_EQ(after.fence, before.fence);
    EXPECT_EQ(after.status, before.status);
    EXPECT_EQ(after.detail, before.detail);
    EXPECT_EQ(after.reason, before.reason);
    EXPECT_EQ(after.kill_reason, before.kill_reason);
    EXPECT_EQ(after.exit_code, before.exit_code);
    EXPECT_EQ(after.started_at, before.started_at);
    EXPECT_EQ(after.completed_at, before.completed_at);
    EXPECT_EQ(after.workspace, before.workspace);
    EXPECT_EQ(after.result_status, before.result_status);
    EXPECT_EQ(after.result_size, before.result_size);
    EXPECT_EQ(after.result_sha256, before.result_sha256);
    EXPECT_EQ(after.result_inline, before.result_inline);
    EXPECT_EQ(after.result, before.result);
    EXPECT_EQ(after.evidence, before.evidence);
    EXPECT_EQ(after.deliverables, before.deliverables);
}

TEST(RecordCodec, EditsSurviveWithWhatIsEmptyAndWhatIsAbsent) {
    for (const Record& each : test::every_kind_to_16()) {
        const auto* before = std::get_if<SessionEdited>(&each.body);
        if (before == nullptr) continue;
        const SessionEdited after = round_trip(*before);
        EXPECT_EQ(after.id, before->id);
        EXPECT_EQ(after.principal, before->principal);
        EXPECT_EQ(after.parent, before->parent);
        EXPECT_EQ(after.ancestors, before->ancestors);
        EXPECT_EQ(after.below, before->below);
        EXPECT_EQ(after.tags, before->tags);
        EXPECT_EQ(after.metadata, before->metadata);
    }
}

TEST(RecordCodec, OtherKindsSurviveFieldByField) {
    const WorkerRegistered worker = round_trip(test::registered("alpha"));
    EXPECT_EQ(worker.labels, test::registered("alpha").labels);
    EXPECT_EQ(worker.agents, test::registered("alpha").agents);
    EXPECT_EQ(worker.start_count, 3u);
    EXPECT_EQ(worker.slots, 5u);
    EXPECT_EQ(worker.boot_id, "boot-alpha");
    const AttemptReturned returned = round_trip(AttemptReturned{.id = test::session_id(1),
                                                                .fence = {2, 4},
                                                                .cause = Detail::lost,
                                                                .platform_fault = false,
                                                                .reason = "r",
                                                                .evidence = "e"});
    EXPECT_EQ(returned.fence, (Fence{2, 4}));
    EXPECT_EQ(returned.cause, Detail::lost);
    EXPECT_FALSE(returned.platform_fault);
    EXPECT_EQ(returned.reason, "r");
    EXPECT_EQ(returned.evidence, "e");
    const ReportSuperseded late = round_trip(
        ReportSuperseded{.id = test::session_id(1), .fence = {1, 1}, .number = 3, .what = "w"});
    EXPECT_EQ(late.number, 3u);
    EXPECT_EQ(late.what, "w");
}

TEST(RecordCodec, ExtremesSurvive) {
    SessionEnded ended;
    ended.exit_code = -2147483647 - 1;
    ended.result_size = ~std::uint64_t{0};
    ended.completed_at = wall_from_ms(-1);
    ended.fence = {.generation = ~0u, .attempt = ~0u};
    const SessionEnded after = round_trip(ended);
    EXPECT_EQ(after.exit_code, ended.exit_code);
    EXPECT_EQ(after.result_size, ended.result_size);
    EXPECT_EQ(after.completed_at, ended.completed_at);
    EXPECT_EQ(after.fence, ended.fence);
}

TEST(RecordCodec, RefusesWhatANewerVersionWrote) {
    const std::string good =
        encoded(record(3, SessionClosed{.id = test::session_id(1), .by = "x"}));
    const auto refused = [&](std::string bytes, const std::string& what) {
        const Result<Record> decoded = decode_record(bytes, 3);
        ASSERT_FALSE(decoded.ok()) << what;
        EXPECT_EQ(decoded.error().code, ErrorCode::config);
        EXPECT_NE(decoded.error().message.find("record 3 "), std::string::npos);
        EXPECT_NE(decoded.error().message.find(what), std::string::npos) << decoded.error().message;
    };
    std::string version = good;
    version[0] = 2;
    refused(version, "version 2");
    std::string unknown_kind = good;
    unknown_kind[1] = 99;
    refused(unknown_kind, "kind 99");
    refused(good + std::string("\x09\x01x", 3), "field 9 of kind 6 (session_closed)");
    refused(good.substr(0, 5), "no front");
}

TEST(RecordCodec, NeverReadsBeyondCutBytes) {
    for (const Record& each : every_kind()) {
        const std::string whole = encoded(each);
        for (std::size_t size = 0; size < whole.size(); ++size) {
            // A cut between two fields is a shorter record; anything else is refused. Neither may
            // crash.
            const Result<Record> decoded = decode_record(std::string(whole.substr(0, size)), 1);
            if (decoded.ok()) continue;
            EXPECT_EQ(decoded.error().code, ErrorCode::config);
        }
    }
}

TEST(RecordCodec, RefusesWordsThatDoNotExist) {
    Record wish = record(1, KillWished{.id = test::session_id(1),
                                       .principal = "",
                                       .cause = static_cast<Detail>(999),
                                       .reason = ""});
    EXPECT_FALSE(decode_record(encoded(wish), 1).ok());
}

// ---- Units
// ----------------------------------------------------------------------------------------------

SegmentHeader header(std::uint64_t number) {
    SegmentHeader result;
    result.journal.fill('j');
    result.number = number;
    result.first = 5;
    result.bytes = test::kSmallSegment;
    return result;
}

std::string sealed(const SegmentHeader& segment, Seq first, const std::string& payload) {
    std::string unit(kUnitHeaderBytes, '\0');
    unit += payload;
    seal_unit(unit, segment, first, 1);
    return unit;
}

TEST(Segment, HeaderSurvivesAndDamageIsNamed) {
    const SegmentHeader before = header(12);
    const std::string bytes = encode_header(before);
    ASSERT_EQ(bytes.size(), kSegmentHeaderBytes);
    const Result<SegmentHeader> after = decode_header(bytes, "x.segment");
    ASSERT_TRUE(after.ok());
    EXPECT_EQ(after->journal, before.journal);
    EXPECT_EQ(after->number, 12u);
    EXPECT_EQ(after->first, 5u);
    EXPECT_EQ(after->bytes, test::kSmallSegment);
    for (std::size_t i = 0; i < 68; ++i) {
        std::string damaged = bytes;
        damaged[i] = static_cast<char>(damaged[i] ^ 1);
        const Result<SegmentHeader> refused = decode_header(damaged, "x.segment");
        ASSERT_FALSE(refused.ok()) << i;
        EXPECT_NE(refused.error().message.find("x.segment"), std::string::npos);
    }
    std::string newer = bytes;
    newer[8] = 2;
    EXPECT_EQ(decode_header(newer, "x").error().code, ErrorCode::config);
}

TEST(Segment, UnitsOfOtherSegmentsAndJournalsAreNotSeen) {
    const SegmentHeader mine = header(2);
    SegmentHeader foreign = header(2);
    foreign.journal.fill('k');
    EXPECT_TRUE(unit_at(sealed(mine, 5, "abc"), mine, 0).has_value());
    EXPECT_FALSE(unit_at(sealed(header(1), 5, "abc"), mine, 0).has_value());
    EXPECT_FALSE(unit_at(sealed(foreign, 5, "abc"), mine, 0).has_value());
}

TEST(Segment, AnyFlippedBitOfAUnitIsSeen) {
    const SegmentHeader mine = header(2);
    const std::string unit = sealed(mine, 5, std::string(100, 'p'));
    for (std::size_t bit = 0; bit < (kUnitHeaderBytes + 100) * 8; ++bit) {
        std::string flipped = unit;
        flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
        EXPECT_FALSE(unit_at(flipped, mine, 0).has_value()) << bit;
    }
}

TEST(Segment, RestampedUnitsBelongToTheOtherSegment) {
    const SegmentHeader from = header(2);
    const SegmentHeader to = header(3);
    std::string segment = encode_header(from) + sealed(from, 5, "abc") + sealed(from, 6, "defg");
    restamp_units(segment, from, to, segment.size());
    int units = 0;
    const Result<Scan> scan = scan_segment(segment, to, [&](const Unit&) -> Status {
        ++units;
        return Done{};
    });
    ASSERT_TRUE(scan.ok());
    EXPECT_EQ(units, 2);
    EXPECT_EQ(scan->next, 7u);
    EXPECT_EQ(scan->end, segment.size());
}

}  // namespace
}  // namespace iw::broker
