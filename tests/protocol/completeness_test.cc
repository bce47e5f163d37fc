// Code and PROTOCOL.md say the same: every verb, field, error and limit of the code is in the text,
// everything that the text lists is in the code, and no member of a message is without a field.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "common/base/text.h"
#include "common/codec/codec.h"
#include "common/codec/fields.h"

namespace iw {
namespace {

using Words = std::set<std::string>;

std::string protocol_text() {
    std::ifstream file(std::string(IW_SOURCE_DIR) + "/common/PROTOCOL.md");
    return {std::istreambuf_iterator<char>(file), {}};
}

// From the heading that begins with `heading` to the next one of the same or a higher rank.
std::string section(const std::string& heading) {
    const std::string text = protocol_text();
    const std::size_t begin = text.find("\n" + heading);
    if (begin == std::string::npos) return {};
    const std::size_t rank = heading.find(' ');
    std::istringstream lines(text.substr(begin + 1));
    std::string found;
    for (std::string line; std::getline(lines, line);) {
        const std::size_t other = line.find_first_not_of('#');
        if (!found.empty() && other != std::string::npos && other > 0 && other <= rank) break;
        found += line + "\n";
    }
    return found;
}

// From `begin` to the next empty line.
std::string paragraph(const std::string& begin) {
    const std::string text = protocol_text();
    const std::size_t at = text.find(begin);
    if (at == std::string::npos) return {};
    return text.substr(at, text.find("\n\n", at) - at);
}

Words matches(const std::string& text, const std::string& pattern) {
    const std::regex regex(pattern);
    Words words;
    for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it)
        words.insert((*it)[1]);
    return words;
}

// Words in backticks that could be fields.
Words quoted(const std::string& text) {
    return matches(text, "`([a-z][a-z0-9_]*)`");
}
// First column of a table.
Words first_column(const std::string& text) {
    return matches(text, "\n\\| `?([A-Za-z][A-Za-z0-9_]*)`? \\|");
}

Words set_of(const std::vector<std::string>& names) {
    return {names.begin(), names.end()};
}

Words without(const Words& words, const Words& others) {
    Words rest;
    std::ranges::set_difference(words, others, std::inserter(rest, rest.end()));
    return rest;
}

// The fields of one struct and not of those inside it.
struct OwnNames {
    Words found;
    void required(std::string_view field, const auto&, const auto&...) { found.emplace(field); }
    void optional(std::string_view field, const auto&, const auto&...) { found.emplace(field); }
    void defaulted(std::string_view field, const auto&, const auto&...) { found.emplace(field); }
    void required_bytes(std::string_view field, const auto&, const auto&...) {
        found.emplace(field);
    }
    void optional_bytes(std::string_view field, const auto&, const auto&...) {
        found.emplace(field);
    }
    void word(std::string_view field, const auto&, const auto&) { found.emplace(field); }
    void one_of(std::string_view field, const auto&) { found.emplace(field); }
    void check(bool, std::string_view, std::string_view) {}
};

template <typename... Structs>
Words own_fields() {
    OwnNames names;
    const auto add = [&](auto value) { fields(names, value); };
    (add(Structs{}), ...);
    return names.found;
}

TEST(Completeness, VerbsAreTheHeadings) {
    const Words text = matches(section("## Verbs of every peer") + section("## Verbs of workers"),
                               "\n### ([a-z_]+)[^\n]*");
    EXPECT_EQ(text, set_of(wire_names().verbs));
}

TEST(Completeness, ErrorsAreTheTable) {
    Words text = matches(section("## Errors"), "\n\\| ([A-Z_]+) \\|");
    EXPECT_EQ(text, set_of(wire_names().errors));
}

TEST(Completeness, ErrorsAreRetryableAsTheTableSays) {
    const std::regex row("\n\\| ([A-Z_]+) \\|[^\n]*\\| (yes|no) \\|");
    const std::string text = section("## Errors");
    for (std::sregex_iterator it(text.begin(), text.end(), row), end; it != end; ++it) {
        EXPECT_EQ((*it)[2] == "yes", is_retryable(parse_error_code((*it)[1].str()))) << (*it)[1];
    }
}

TEST(Completeness, LimitsAreTheListWithTheirValues) {
    const std::string text = section("## Limits");
    const std::regex entry("([a-z_]+) ([0-9]+)[;.]");
    std::map<std::string, std::uint64_t> listed;
    for (std::sregex_iterator it(text.begin(), text.end(), entry), end; it != end; ++it) {
        listed[(*it)[1]] = std::stoull((*it)[2]);
    }
    EXPECT_EQ(listed, announced_limits());
    Words names;
    for (const auto& [limit, value] : listed)
        names.insert(limit);
    EXPECT_EQ(names, set_of(wire_names().limits));
}

TEST(Completeness, EveryFieldOfTheCodeIsInTheText) {
    EXPECT_EQ(without(set_of(wire_names().fields), quoted(protocol_text())), Words{});
}

TEST(Completeness, EveryFieldOfTheTextIsInTheCode) {
    // Words in backticks that are no fields of messages: a role, kinds of reports, what a manifest
    // holds.
    Words known = {"client", "ended", "closed", "path", "mode", "left_out"};
    known.merge(set_of(wire_names().fields));
    known.merge(set_of(wire_names().verbs));
    EXPECT_EQ(without(quoted(protocol_text()), known), Words{});
}

TEST(Completeness, ListsOfFieldsAreExact) {
    EXPECT_EQ(first_column(section("## Frames").substr(0, section("## Frames").find("Reply:"))),
              (Words{"key", "v", "m", "id", "k", "b"}));
    Words err =
        first_column(section("## Frames").substr(section("## Frames").find("| key of `err`")));
    EXPECT_EQ(err, own_fields<ErrorReply>());
    Words submission = first_column(paragraph("| key | type | default | meaning |"));
    EXPECT_EQ(submission, own_fields<Submission>());
    EXPECT_EQ(quoted(paragraph("A **retry**")), own_fields<RetryPolicy>());
    EXPECT_EQ(quoted(paragraph("A **dependency**")), own_fields<Dependency>());
    EXPECT_EQ(quoted(paragraph("A **hold**")), own_fields<HoldView>());
    EXPECT_EQ(without(quoted(paragraph("**deliverables**")), {"deliverables"}),
              own_fields<Delivered>());
    const Words session = quoted(paragraph("**session** (a view)"));
    EXPECT_EQ(session, own_fields<SessionView>());
    EXPECT_EQ(quoted(paragraph("An event: ").substr(0, paragraph("An event: ").find("Topics"))),
              own_fields<Event>());
}

// The section of each verb names the fields of its request and of its answer.
template <typename... Structs>
void expect_named(const std::string& heading, const Words& elsewhere) {
    const Words missing =
        without(without(own_fields<Structs...>(), quoted(section(heading))), elsewhere);
    EXPECT_EQ(missing, Words{}) << heading;
}

TEST(Completeness, SectionsNameTheirFields) {
    expect_named<HelloRequest, WelcomeReply>("### hello", {});
    expect_named<FleetRequest, FleetReply, HoldView>("### fleet", {});
    expect_named<ExtendRequest, ExtendReply>("### extend", {});
    expect_named<HoldRequest, HoldReply>("### hold", {});
    expect_named<ConfirmDeadRequest, ConfirmDeadReply>("### confirm_dead", {});
    expect_named<BackupRequest, BackupReply>("### backup", {});
    expect_named<ReleaseRequest, ReleaseReply>("### release", {});
    expect_named<SubmitRequest, SubmitReply, SubmitOutcome, Error>("### submit", {});
    expect_named<StatusRequest, StatusReply>("### status", {});
    expect_named<ListRequest, ListReply>("### list", {});
    expect_named<ResultRequest, ResultReply>("### result", {});
    expect_named<EventsRequest, EventsReply>("### events", {});
    expect_named<WorkersRequest, WorkersReply, WorkerView>("### workers", {});
    expect_named<KillRequest, KillReply>("### kill", {});
    expect_named<RetryRequest, RetryReply>("### retry", {});
    expect_named<LimitsPush, LimitChange>("### limits", {});
    expect_named<EditRequest, EditReply>("### edit", {});
    expect_named<GetRequest, GetReply>("### get", {});
    expect_named<PutRequest, PutReply>("### put", {});
    expect_named<FollowPush>("### follow", {});
    expect_named<WorkerHello, AttemptState, Fence, SeenHead>("## Verbs of workers", {});
    expect_named<HeartbeatRequest, HeartbeatReply, StopOrder>("### heartbeat", {});
    expect_named<AssignPush, Assignment>("### assign", {});
    expect_named<StopPush>("### stop", {});
    expect_named<ReportRequest, Report, StartedReport, DeclinedReport, EndedReport, ReportReply,
                 ReportAck, Outcome>("### report", {});
    expect_named<ClosePush, Outcome>("### close", {});
    expect_named<RelayRequest, RelayReply>("### relay", {});
    expect_named<GoodbyeRequest, GoodbyeReply>("### goodbye", {});
}

TEST(Completeness, WordsOfEnumsAreInTheText) {
    const std::string text = protocol_text();
    for (int value = 0; value < 100; ++value) {
        const std::string_view words[] = {
            name(static_cast<Detail>(value)),         name(static_cast<SessionStatus>(value)),
            name(static_cast<OnLost>(value)),         name(static_cast<AttemptPhase>(value)),
            name(static_cast<EndCause>(value)),       name(static_cast<HoldScope>(value)),
            name(static_cast<AfterCondition>(value)),
        };
        for (const std::string_view word : words) {
            EXPECT_TRUE(word == "?" || text.find(word) != std::string::npos) << word;
        }
    }
}

// ---- No member without a field
// --------------------------------------------------------------------------

struct Anything {
    template <typename T>
    operator T() const;
};

// Members of an aggregate: the most values it can be initialised from.
template <typename T, typename... Values>
constexpr std::size_t member_count() {
    if constexpr (requires { T{Values{}..., Anything{}}; }) {
        return member_count<T, Values..., Anything>();
    } else {
        return sizeof...(Values);
    }
}

template <typename... Structs>
void expect_all_members_named() {
    const auto check = [](auto value) {
        using Struct = decltype(value);
        EXPECT_EQ(own_fields<Struct>().size(), member_count<Struct>()) << __PRETTY_FUNCTION__;
    };
    (check(Structs{}), ...);
}

TEST(Completeness, NoMemberIsWithoutAField) {
    expect_all_members_named<
        Fence, Origin, Error, Submission, SubmitRequest, SubmitOutcome, SubmitReply, SessionView,
        StatusRequest, StatusReply, ListRequest, ListReply, ResultRequest, ResultReply,
        WorkersRequest, WorkerView, WorkersReply, EventsRequest, Event, EventsReply, KillRequest,
        KillReply, RetryRequest, RetryReply, AttemptState, WorkerHello, HelloRequest, WelcomeReply,
        HeartbeatRequest, StopOrder, HeartbeatReply, Assignment, AssignPush, StopPush, Outcome,
        ClosePush, StartedReport, DeclinedReport, EndedReport, ClosedReport, Report, ReportRequest,
        ReportAck, ReportReply, RelayRequest, RelayReply, GoodbyeRequest, GoodbyeReply, RetryPolicy,
        Dependency, AttemptRef, ExtendRequest, ExtendReply, HoldView, HoldRequest, HoldReply,
        ConfirmDeadRequest, ConfirmDeadReply, BackupRequest, BackupReply, ReleaseRequest,
        ReleaseReply, FleetRequest, FleetReply, SeenHead, LimitChange, LimitsPush, Delivered,
        EditRequest, EditReply, GetRequest, GetReply, PutRequest, PutReply, FollowPush>();
}

}  // namespace
}  // namespace iw
