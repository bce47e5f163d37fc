// Whatever comes in, decoding answers with one named error and leaves nothing behind.

#include <gtest/gtest.h>

#include <array>
#include <functional>

#include "common/base/random.h"
#include "common/base/text.h"
#include "common/codec/codec.h"
#include "tests/protocol/raw.h"
#include "tests/protocol/samples.h"

namespace iw {
namespace {

using raw::array;
using raw::map;
using raw::number;
using raw::submit;
using raw::text;

BadFrame refused(std::string_view bytes) {
    const auto decoded = decode_request(bytes);
    if (const auto* bad = std::get_if<BadFrame>(&decoded)) return *bad;
    ADD_FAILURE() << "was accepted";
    return {};
}

bool is_accepted(std::string_view bytes) {
    return std::holds_alternative<RequestFrame>(decode_request(bytes));
}

struct Case {
    std::string what;
    std::string bytes;
    ErrorCode code;
    std::string in_message;  // a part of it
};

void expect_refused(const std::vector<Case>& cases) {
    for (const Case& bad : cases) {
        const BadFrame frame = refused(bad.bytes);
        EXPECT_EQ(name(frame.error.code), name(bad.code))
            << bad.what << ": " << frame.error.message;
        EXPECT_NE(frame.error.message.find(bad.in_message), std::string::npos)
            << bad.what << ": " << frame.error.message;
        EXPECT_TRUE(is_utf8(frame.error.message)) << bad.what;
        EXPECT_LT(frame.error.message.size(), 300u) << bad.what;
        EXPECT_EQ(frame.error.message.find('\n'), std::string::npos) << bad.what;
    }
}

std::string nested(std::size_t depth) {
    std::string value = raw::nil();
    for (std::size_t i = 0; i < depth; ++i)
        value = array({value});
    return value;
}

std::string with(std::string key, std::string value) {
    return submit({{std::move(key), std::move(value)}});
}

std::string report(const raw::Entries& more) {
    raw::Entries entries = {{"session", text(samples::kId)},
                            {"fence", map({{"generation", number(1)}, {"attempt", number(1)}})}};
    entries.insert(entries.end(), more.begin(), more.end());
    return raw::request("report", map({{"reports", array({map(entries)})}}));
}

TEST(BadInput, BrokenBytes) {
    const ErrorCode bad = ErrorCode::bad_request;
    const std::string good = submit({});
    ASSERT_TRUE(is_accepted(good));
    expect_refused({
        {"empty", "", bad, "empty"},
        {"byte that msgpack never uses", "\xc1", bad, "not msgpack"},
        {"trailing byte", good + '\0', bad, "1 bytes follow"},
        {"two messages", good + good, bad, "follow the message"},
        {"text instead of a map", text("hello"), bad, "must be a map"},
        {"number instead of a map", number(1), bad, "must be a map"},
        {"array instead of a map", array({good}), bad, "must be a map"},
        {"bomb of an array", std::string("\xdd\xff\x00\x00\x00", 5), bad, "more than 10000"},
        {"bomb of a map", std::string("\xdf\xff\x00\x00\x00", 5), bad, "more than 1024"},
        {"bomb of a text", std::string("\xdb\xff\x00\x00\x00", 5), bad, "ends in the middle"},
        {"a megabyte of nils", std::string(1 << 20, '\xc0'), bad, "follow the message"},
        {"key that is a number", "\x81\x01\x01", bad, "key of a map is not text"},
        {"key that is a map", "\x81\x80\x01", bad, "key of a map is not text"},
        {"key that is bytes", "\x81" + raw::bytes("v") + "\x01", bad, "key of a map is not text"},
        {"key that is not UTF-8", map({{"\xff", number(1)}}), bad, "UTF-8"},
        {"extension", map({{"v", std::string("\xd4\x01\x00", 3)}}), bad, "extension"},
        {"over the message limit", std::string(limits::kMessageMax + 1, '\xc0'),
         ErrorCode::too_large, "4194304"},
    });
}

TEST(BadInput, ManyValuesInsideTheLimits) {
    // 4 MiB of nils in arrays that are each allowed.
    std::string one("\xdc\x27\x10", 3);
    one.append(10'000, '\xc0');
    std::string all("\xdc\x01\x90", 3);
    for (int i = 0; i < 400; ++i)
        all += one;
    ASSERT_LT(all.size(), limits::kMessageMax);
    expect_refused({{"values", all, ErrorCode::bad_request, "too many values"}});
}

TEST(BadInput, Envelope) {
    const ErrorCode bad = ErrorCode::bad_request;
    const auto v = std::pair<std::string, std::string>("v", number(1));
    const auto m = std::pair<std::string, std::string>("m", text("workers"));
    const auto id = std::pair<std::string, std::string>("id", text("r1"));
    ASSERT_TRUE(is_accepted(map({v, m, id})));
    expect_refused({
        {"no version", map({m, id}), bad, "v: is missing"},
        {"version as text", map({{"v", text("1")}, m, id}), bad, "v: must be an integer"},
        {"version as float", map({{"v", raw::real(1)}, m, id}), bad, "v: must be an integer"},
        {"version 2", map({{"v", number(2)}, m, id}), ErrorCode::version, "version 2"},
        {"version 0", map({{"v", number(0)}, m, id}), ErrorCode::version, "version 0"},
        {"no verb", map({v, id}), bad, "m: is missing"},
        {"unknown verb", map({v, {"m", text("frobnicate")}, id}), ErrorCode::unknown_verb,
         "'frobnicate'"},
        {"push as a request", map({v, {"m", text("assign")}, id}), ErrorCode::unknown_verb,
         "'assign'"},
        {"verb in capitals", map({v, {"m", text("LIST")}, id}), ErrorCode::unknown_verb, "'LIST'"},
        {"no id", map({v, m}), bad, "id: must be"},
        {"empty id", map({v, m, {"id", text("")}}), bad, "id: must be"},
        {"long id", map({v, m, {"id", text(std::string(33, 'x'))}}), bad, "id: must be"},
        {"id that is a number", map({v, m, {"id", number(7)}}), bad, "id: must be"},
        {"version twice", map({v, v, m, id}), bad, "'v' twice"},
        {"body that is text", map({v, m, id, {"b", text("x")}}), bad, "b: must be a map"},
        {"no body where one is needed", map({v, {"m", text("status")}, id}), bad, "id: is missing"},
        {"too deep", map({v, m, id, {"x", nested(8)}}), bad, "nested too deep"},
        {"key as bytes", map({v, {"m", text("retry")}, id, {"k", raw::bytes("a")}}), bad,
         "k: must be text"},
        {"key too long", map({v, {"m", text("retry")}, id, {"k", text(std::string(129, 'a'))}}),
         ErrorCode::too_large, "k: has 129 bytes"},
    });
    EXPECT_TRUE(is_accepted(map({v, m, id, {"x", nested(7)}})));
}

TEST(BadInput, Submissions) {
    const ErrorCode bad = ErrorCode::bad_request;
    const std::string tag = text("t");
    expect_refused({
        {"no sessions", raw::request("submit", map({})), bad, "sessions: is missing"},
        {"empty batch", raw::request("submit", map({{"sessions", array({})}})), bad,
         "sessions: is empty"},
        {"batch of 501",
         raw::request("submit", map({{"sessions", array(std::vector(501, map({})))}})),
         ErrorCode::too_large, "sessions: has 501"},
        {"session that is text", raw::request("submit", map({{"sessions", array({text("x")})}})),
         bad, "sessions[0]: must be a map"},
        {"nil agent", with("agent", raw::nil()), bad, "sessions[0].agent: is missing"},
        {"empty agent", with("agent", text("")), bad, "sessions[0].agent: is empty"},
        {"agent with a slash", with("agent", text("../x")), bad,
         "sessions[0].agent: '../x' must be"},
        {"agent that is a number", with("agent", number(1)), bad,
         "sessions[0].agent: must be text"},
        {"long agent", with("agent", text(std::string(65, 'a'))), bad, "sessions[0].agent"},
        {"empty prompt", with("prompt", text("")), bad, "sessions[0].prompt: is empty"},
        {"prompt as bytes", with("prompt", raw::bytes("x")), bad,
         "sessions[0].prompt: must be text, is bytes"},
        {"prompt that is not UTF-8", with("prompt", text("caf\xe9")), bad, "UTF-8"},
        {"prompt with a surrogate", with("prompt", text("12345678\xed\xa0\x80")), bad, "UTF-8"},
        {"long prompt", with("prompt", text(std::string(limits::kPromptMax + 1, 'x'))),
         ErrorCode::too_large, "sessions[0].prompt: has 2097153 bytes"},
        {"project with a space", with("project", text("a b")), bad, "sessions[0].project"},
        {"relative root", with("origin", map({{"root", text("x/y")}})), bad,
         "sessions[0].origin.root"},
        {"no root", with("origin", map({{"host", text("a")}})), bad,
         "sessions[0].origin.root: is missing"},
        {"root with an escape", with("origin", map({{"root", text("/a\x1b[2J")}})), bad,
         "sessions[0].origin.root"},
        {"long root", with("origin", map({{"root", text("/" + std::string(4096, 'a'))}})),
         ErrorCode::too_large, "sessions[0].origin.root"},
        {"priority 101", with("priority", number(101)), bad, "from -100 to 100"},
        {"priority -101", with("priority", number(-101)), bad, "from -100 to 100"},
        {"priority as float", with("priority", raw::real(1)), bad, "priority: must be an integer"},
        {"priority beyond int", with("priority", number(1LL << 40)), bad,
         "priority: is out of range"},
        {"priority as bool", with("priority", raw::boolean(true)), bad,
         "priority: must be an integer"},
        {"negative delay", with("delay", number(-1)), bad, "sessions[0].delay: -1 is out of range"},
        {"delay of 11 years", with("delay", number(11LL * 365 * 86400 * 1000)), bad,
         "sessions[0].delay"},
        {"delay beyond signed", with("delay", raw::big(~0ULL)), bad,
         "sessions[0].delay: is out of range"},
        {"no time to run", with("timeout", number(0)), bad, "sessions[0].timeout"},
        {"expired at once", with("expires", number(0)), bad, "sessions[0].expires"},
        {"no disk", with("disk_limit", number(0)), bad, "sessions[0].disk_limit"},
        {"negative disk", with("disk_limit", number(-5)), bad,
         "sessions[0].disk_limit: is out of range"},
        {"disk beyond signed", with("disk_limit", raw::big(1ULL << 63)), bad,
         "sessions[0].disk_limit"},
        {"unknown policy", with("on_lost", text("explode")), bad, "'explode' is not a word"},
        {"policy as a number", with("on_lost", number(1)), bad, "on_lost: must be text"},
        {"flag as a number", with("queue_anyway", number(1)), bad,
         "queue_anyway: must be a boolean"},
        {"parent that is no id", with("parent", text("nobody")), bad, "sessions[0].parent"},
        {"label that is a number", with("require", map({{"gpu", number(1)}})), bad,
         "sessions[0].require.gpu: must be text"},
        {"label twice", with("require", map({{"gpu", tag}, {"gpu", tag}})), bad, "'gpu' twice"},
        {"33 tags", with("tags", array(std::vector(33, tag))), ErrorCode::too_large,
         "sessions[0].tags: has 33"},
        {"long tag", with("tags", array({tag, text(std::string(129, 'x'))})), ErrorCode::too_large,
         "sessions[0].tags[1]: has 129"},
        {"empty tag", with("tags", array({text("")})), bad, "sessions[0].tags[0]: is empty"},
        {"tag with a newline", with("tags", array({text("a\nb")})), bad, "sessions[0].tags[0]"},
        {"tag with a C1 control", with("tags", array({text("a\xc2\x9b")})), bad,
         "sessions[0].tags[0]"},
        {"nil as a tag", with("tags", array({raw::nil()})), bad,
         "sessions[0].tags[0]: must be text, is nil"},
        {"tags as text", with("tags", tag), bad, "sessions[0].tags: must be an array"},
        {"metadata as a map", with("metadata", map({})), bad, "sessions[0].metadata: must be text"},
        {"metadata that is a list", with("metadata", text("[]")), bad, "sessions[0].metadata"},
        {"metadata cut off", with("metadata", text("{\"a\": ")), bad, "sessions[0].metadata"},
        {"long metadata", with("metadata", text(std::string(65537, ' '))), ErrorCode::too_large,
         "sessions[0].metadata: has 65537"},
        {"long key", with("key", text(std::string(129, 'k'))), ErrorCode::too_large,
         "sessions[0].key"},
    });
}

raw::Entries retry_entries(std::string key, std::string value) {
    return {{"attempts_max", number(3)}, {std::move(key), std::move(value)}};
}

TEST(BadInput, RetriesAndDependencies) {
    const ErrorCode bad = ErrorCode::bad_request;
    const auto retry = [](std::string key, std::string value) {
        return with("retry", map(retry_entries(std::move(key), std::move(value))));
    };
    const auto after = [](const raw::Entries& entries) {
        return with("after", array({map(entries)}));
    };
    const auto id = std::pair<std::string, std::string>("id", text(samples::kId));
    ASSERT_TRUE(is_accepted(with("retry", map({{"attempts_max", number(100)}}))));
    ASSERT_TRUE(is_accepted(after({id})));
    expect_refused({
        {"retry that is a number", with("retry", number(3)), bad,
         "sessions[0].retry: must be a map"},
        {"no number of attempts", with("retry", map({})), bad,
         "sessions[0].retry.attempts_max: is missing"},
        {"no attempt", with("retry", map({{"attempts_max", number(0)}})), bad,
         "sessions[0].retry.attempts_max: 0"},
        {"101 attempts", with("retry", map({{"attempts_max", number(101)}})), bad, "from 1 to 100"},
        {"no back-off", retry("backoff", number(0)), bad, "sessions[0].retry.backoff: 0"},
        {"back-off above its end", retry("backoff", number(600'001)), bad,
         "sessions[0].retry.backoff: is above backoff_max"},
        {"back-off of 11 years", retry("backoff_max", number(11LL * 365 * 86400 * 1000)), bad,
         "sessions[0].retry.backoff_max"},
        {"cause that is none", retry("causes", array({text("boredom")})), bad,
         "sessions[0].retry.causes[0]: 'boredom'"},
        {"cause that may not be", retry("causes", array({text("killed")})), bad,
         "sessions[0].retry.causes: must be of exited"},
        {"platform's cause", retry("causes", array({text("lost")})), bad,
         "sessions[0].retry.causes: must be of exited"},
        {"nine causes", retry("causes", array(std::vector(9, text("exited")))),
         ErrorCode::too_large, "sessions[0].retry.causes: has 9"},
        {"dependency that is text", with("after", array({text(samples::kId)})), bad,
         "sessions[0].after[0]: must be a map"},
        {"dependency without id", after({{"on", text("success")}}), bad,
         "sessions[0].after[0].id: is missing"},
        {"prefix of an id", after({{"id", text("2025")}}), bad, "sessions[0].after[0].id"},
        {"unknown condition", after({id, {"on", text("maybe")}}), bad,
         "sessions[0].after[0].on: 'maybe'"},
        {"101 dependencies", with("after", array(std::vector(101, map({id})))),
         ErrorCode::too_large, "sessions[0].after: has 101"},
        {"flag as text", with("keep_children", text("yes")), bad,
         "sessions[0].keep_children: must be a boolean"},
    });
}

TEST(BadInput, VerbsOfAdmins) {
    const ErrorCode bad = ErrorCode::bad_request;
    const auto extend = [](raw::Entries entries) {
        entries.emplace_back("id", text("a"));
        return raw::request("extend", map(entries));
    };
    const auto hold = [](const raw::Entries& entries) {
        return raw::request("hold", map(entries));
    };
    const auto confirm = [](const raw::Entries& entries) {
        return raw::request("confirm_dead", map(entries));
    };
    const auto scope = [](std::string_view word) {
        return std::pair<std::string, std::string>("scope", text(word));
    };
    const auto shop = std::pair<std::string, std::string>("name", text("shop"));
    const auto reason = std::pair<std::string, std::string>("reason", text("burnt"));
    ASSERT_TRUE(is_accepted(extend({{"timeout", number(1)}})));
    ASSERT_TRUE(is_accepted(hold({scope("fleet")})));
    ASSERT_TRUE(is_accepted(confirm({{"host", text("alpha")}, reason})));
    expect_refused({
        {"extend without both", extend({}), bad, "timeout: or add"},
        {"extend with both", extend({{"timeout", number(1)}, {"add", number(1)}}), bad,
         "timeout: or add"},
        {"extend by nothing", extend({{"add", number(0)}}), bad, "add: 0 is out of range"},
        {"extend by less", extend({{"add", number(-5)}}), bad, "add: -5 is out of range"},
        {"extend nobody", raw::request("extend", map({{"add", number(1)}})), bad, "id: is missing"},
        {"hold of nothing", hold({}), bad, "scope: is missing"},
        {"hold of the world", hold({scope("world")}), bad, "scope: 'world'"},
        {"fleet with a name", hold({scope("fleet"), shop}), bad, "name: is needed"},
        {"project without a name", hold({scope("project")}), bad, "name: is needed"},
        {"name with a space", hold({scope("project"), {"name", text("a b")}}), bad, "name"},
        {"hold for no time", hold({scope("project"), shop, {"lasts", number(0)}}), bad,
         "lasts: 0 is out of range"},
        {"flag as a number", hold({scope("project"), shop, {"on", number(1)}}), bad,
         "on: must be a boolean"},
        {"long reason", hold({scope("fleet"), {"reason", text(std::string(1025, 'a'))}}),
         ErrorCode::too_large, "reason: has 1025"},
        {"confirm nothing", confirm({reason}), bad, "id: worker or host"},
        {"confirm two", confirm({{"host", text("a")}, {"worker", text("b")}, reason}), bad,
         "id: worker or host"},
        {"confirm without a reason", confirm({{"host", text("a")}}), bad, "reason: is missing"},
        {"confirm with an empty one", confirm({{"host", text("a")}, {"reason", text("")}}), bad,
         "reason: is empty"},
        {"backup to a relative folder", raw::request("backup", map({{"folder", text("x")}})), bad,
         "folder"},
        {"release as text", raw::request("release", map({{"force", text("yes")}})), bad,
         "force: must be a boolean"},
        {"seen without a seq",
         raw::request("hello", map({{"role", text("worker")},
                                    {"worker", map({{"name", text("a")},
                                                    {"host", text("a")},
                                                    {"root", text("/")},
                                                    {"state_id", text("s")},
                                                    {"start_count", number(1)},
                                                    {"slots", number(1)},
                                                    {"seen", map({{"epoch", text("e")}})}})}})),
         bad, "worker.seen.seq: is missing"},
    });
}

TEST(BadInput, KeyOfTheFrame) {
    const std::string session = map({{"agent", text("a")}, {"prompt", text("p")}});
    const auto frame = [&](const std::string& verb, const std::string& body) {
        return map({{"v", number(1)},
                    {"m", text(verb)},
                    {"id", text("r1")},
                    {"k", text("key")},
                    {"b", body}});
    };
    const std::string keyed =
        map({{"agent", text("a")}, {"prompt", text("p")}, {"key", text("other")}});
    expect_refused({
        {"several", frame("submit", map({{"sessions", array({session, session})}})),
         ErrorCode::bad_request, "k: "},
        {"differs", frame("submit", map({{"sessions", array({keyed})}})), ErrorCode::bad_request,
         "k: differs"},
        {"differs", frame("retry", map({{"id", text("x")}, {"key", text("other")}})),
         ErrorCode::bad_request, "k: "},
    });
    const auto one = decode_request(frame("submit", map({{"sessions", array({session})}})));
    ASSERT_TRUE(std::holds_alternative<RequestFrame>(one));
    EXPECT_EQ(std::get<SubmitRequest>(std::get<RequestFrame>(one).body).sessions[0].key, "key");
    const auto retry = decode_request(frame("retry", map({{"id", text("x")}})));
    ASSERT_TRUE(std::holds_alternative<RequestFrame>(retry));
    EXPECT_EQ(std::get<RetryRequest>(std::get<RequestFrame>(retry).body).key, "key");
    EXPECT_TRUE(is_accepted(frame("workers", map({}))));
}

TEST(BadInput, OtherVerbs) {
    const ErrorCode bad = ErrorCode::bad_request;
    const auto hello = [](const raw::Entries& entries) {
        return raw::request("hello", map(entries));
    };
    const std::string huge = array(std::vector(501, text("a")));
    expect_refused({
        {"no role", hello({}), bad, "role: is missing"},
        {"unknown role", hello({{"role", text("boss")}}), bad, "role: must be client or worker"},
        {"worker without itself", hello({{"role", text("worker")}}), bad, "worker: is missing"},
        {"worker that is empty", hello({{"role", text("worker")}, {"worker", map({})}}), bad,
         "worker.name: is missing"},
        {"range turned round", hello({{"role", text("client")}, {"protocol_min", number(2)}}), bad,
         "protocol_min"},
        {"empty id", raw::request("status", map({{"id", text("")}})), bad, "id: is empty"},
        {"long id", raw::request("kill", map({{"id", text(std::string(129, 'a'))}})),
         ErrorCode::too_large, "id: "},
        {"long reason",
         raw::request("kill", map({{"id", text("a")}, {"reason", text(std::string(1025, 'a'))}})),
         ErrorCode::too_large, "reason: has 1025"},
        {"unknown status", raw::request("list", map({{"status", array({text("DONE")})}})), bad,
         "status[0]: 'DONE'"},
        {"status in lower case", raw::request("list", map({{"status", array({text("running")})}})),
         bad, "status[0]"},
        {"no rows", raw::request("list", map({{"rows_max", number(0)}})), bad,
         "rows_max: 0 is out of range"},
        {"501 rows", raw::request("list", map({{"rows_max", number(501)}})), bad, "from 1 to 500"},
        {"501 ids", raw::request("list", map({{"ids", huge}})), ErrorCode::too_large,
         "ids: has 501"},
        {"wait of 31 s", raw::request("events", map({{"wait", number(31'000)}})), bad,
         "wait: 31000"},
        {"negative cursor", raw::request("events", map({{"after", number(-1)}})), bad,
         "after: is out of range"},
        {"slots over the limit", raw::request("heartbeat", map({{"slots", number(1001)}})), bad,
         "slots: 1001"},
        {"501 agents", raw::request("heartbeat", map({{"agents", huge}})), ErrorCode::too_large,
         "agents: has 501"},
        {"empty relay",
         raw::request("relay",
                      map({{"session", text(samples::kId)},
                           {"fence", map({{"generation", number(1)}, {"attempt", number(1)}})},
                           {"request", raw::bytes("")}})),
         bad, "request: is empty"},
    });
}

TEST(BadInput, Reports) {
    const ErrorCode bad = ErrorCode::bad_request;
    const auto kind = [](std::string_view word) {
        return std::pair<std::string, std::string>("kind", text(word));
    };
    const auto nr = [](int value) {
        return std::pair<std::string, std::string>("number", number(value));
    };
    const auto ended_at = std::pair<std::string, std::string>("ended_at", number(5));
    const auto cause = std::pair<std::string, std::string>("cause", text("exited"));
    ASSERT_TRUE(is_accepted(report({nr(2), kind("ended"), cause, ended_at})));
    ASSERT_TRUE(is_accepted(report({nr(3), kind("closed")})));
    expect_refused({
        {"no reports", raw::request("report", map({{"reports", array({})}})), bad,
         "reports: is empty"},
        {"no kind", report({nr(1)}), bad, "reports[0].kind: is missing"},
        {"unknown kind", report({nr(1), kind("exploded")}), bad, "reports[0].kind: 'exploded'"},
        {"wrong number", report({nr(1), kind("closed")}), bad, "reports[0].number"},
        {"unknown cause", report({nr(2), kind("ended"), {"cause", text("boredom")}, ended_at}), bad,
         "reports[0].cause: 'boredom'"},
        {"stop that is none",
         report({nr(2), kind("ended"), cause, ended_at, {"stop_cause", text("queued")}}), bad,
         "reports[0].stop_cause"},
        {"time before 1970", report({nr(2), kind("ended"), cause, {"ended_at", number(-1)}}), bad,
         "ended_at"},
        {"time after 9999",
         report({nr(2), kind("ended"), cause, {"ended_at", number(253'402'300'800'000)}}), bad,
         "ended_at"},
        {"result as text", report({nr(2), kind("ended"), cause, ended_at, {"result", text("{}")}}),
         bad, "reports[0].result: must be bytes (bin)"},
        {"result without its size",
         report({nr(2), kind("ended"), cause, ended_at, {"result_inline", raw::boolean(true)}}),
         bad, "result_size"},
        {"long result",
         report({nr(2),
                 kind("ended"),
                 cause,
                 ended_at,
                 {"result", raw::bytes(std::string((1 << 20) + 1, 'x'))}}),
         ErrorCode::too_large, "reports[0].result"},
        {"checksum",
         report({nr(2), kind("ended"), cause, ended_at, {"result_sha256", text("abc")}}), bad,
         "result_sha256"},
    });
}

// ---- What can be read is echoed
// -------------------------------------------------------------------------

TEST(BadInput, IdAndVerbAreEchoed) {
    const BadFrame body = refused(with("agent", number(1)));
    EXPECT_EQ(body.id, "r1");
    EXPECT_EQ(body.verb, "submit");
    const BadFrame trailing = refused(submit({}) + "x");
    EXPECT_EQ(trailing.id, "r1");
    const std::string good = submit({});
    const BadFrame cut = refused(good.substr(0, good.size() - 1));
    EXPECT_EQ(cut.id, "r1");
    EXPECT_EQ(cut.verb, "submit");
    const std::string late = map({{"v", number(1)}, {"b", text("\xff")}, {"id", text("r1")}});
    EXPECT_EQ(refused(late).id, "");
    const std::string escape = map({{"v", number(1)}, {"m", text("\x1b[2J")}, {"id", text("r1")}});
    EXPECT_EQ(refused(escape).verb, "\xef\xbf\xbd[2J");
    const std::string long_verb =
        map({{"v", number(1)}, {"m", text(std::string(1000, 'm'))}, {"id", text("r1")}});
    EXPECT_LE(refused(long_verb).verb.size(), 32u);
}

TEST(BadInput, RefusalOfAnythingCanBeSent) {
    const BadFrame bad = refused("\x81\xa2id\xc4\x02\xff\xfe");
    EXPECT_EQ(bad.id, "\xff\xfe");
    const Result<Incoming> back =
        decode_incoming(encode({.id = bad.id, .body = ErrorReply{bad.error}}, bad.verb));
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_EQ(std::get<ReplyFrame>(*back).id, "\xff\xfe");
    const Result<Incoming> nameless =
        decode_incoming(encode({.id = "", .body = ErrorReply{bad.error}}, ""));
    ASSERT_TRUE(nameless.ok()) << nameless.error().message;
}

// ---- What a client or worker receives
// -------------------------------------------------------------------

TEST(BadInput, Incoming) {
    const auto v = std::pair<std::string, std::string>("v", number(1));
    const auto id = std::pair<std::string, std::string>("id", text("r1"));
    const auto m = [](std::string_view verb) {
        return std::pair<std::string, std::string>("m", text(verb));
    };
    const std::array<std::pair<std::string, std::string>, 9> cases = {{
        {"", "empty"},
        {text("x"), "must be a map"},
        {map({v, id}), "m: is missing"},
        {map({{"v", number(2)}, m("status"), id, {"ok", map({})}}), "version 2"},
        {map({v, m("status"), id, {"ok", map({})}}), "session: is missing"},
        {map({v, m("goodbye"), id}), "neither ok nor err"},
        {map({v, m("dance"), id, {"ok", map({})}}), "'dance'"},
        {map({v, m("dance"), {"b", map({})}}), "'dance'"},
        {map({v, m("status"), id, {"err", map({{"code", number(1)}})}}), "err.code: must be text"},
    }};
    for (const auto& [bytes, message] : cases) {
        const Result<Incoming> decoded = decode_incoming(bytes);
        ASSERT_FALSE(decoded.ok()) << message;
        EXPECT_NE(decoded.error().message.find(message), std::string::npos)
            << decoded.error().message;
    }
}

TEST(BadInput, WordsOfANewerBroker) {
    const auto session = [](std::string_view status, std::string_view detail) {
        const std::string view = map({{"id", text(samples::kId)},
                                      {"agent", text("a")},
                                      {"status", text(status)},
                                      {"detail", text(detail)},
                                      {"created_at", number(1)}});
        return decode_incoming(map({{"v", number(1)},
                                    {"m", text("kill")},
                                    {"id", text("r1")},
                                    {"ok", map({{"session", view}, {"colour", text("blue")}})}}));
    };
    const auto shown = [](const Result<Incoming>& decoded) {
        return std::get<KillReply>(std::get<Reply>(std::get<ReplyFrame>(*decoded).body)).session;
    };
    EXPECT_EQ(shown(session("HIBERNATED", "asleep")).status, SessionStatus::running);
    EXPECT_EQ(shown(session("HIBERNATED", "asleep")).detail, Detail::working);
    EXPECT_EQ(shown(session("CREATED", "pondering")).detail, Detail::queued);
    EXPECT_EQ(shown(session("COMPLETED", "superbly")).detail, Detail::done);
    EXPECT_EQ(shown(session("FAILED", "eaten")).detail, Detail::exited);
    EXPECT_EQ(shown(session("KILLED", "kindly")).detail, Detail::killed);
    const std::string err = map({{"code", text("NEW_CODE")}, {"retryable", raw::boolean(true)}});
    const auto refusal = decode_incoming(
        map({{"v", number(1)}, {"m", text("kill")}, {"id", text("r1")}, {"err", err}}));
    ASSERT_TRUE(refusal.ok());
    EXPECT_EQ(std::get<ErrorReply>(std::get<ReplyFrame>(*refusal).body).error.code,
              ErrorCode::internal);
}

// ---- Many of them
// ---------------------------------------------------------------------------------------

TEST(BadInput, EveryFrameCutAtEveryByte) {
    for (const samples::Named& frame : samples::frames()) {
        for (std::size_t size = 0; size < frame.bytes.size(); ++size) {
            const std::string_view cut = std::string_view(frame.bytes).substr(0, size);
            if (frame.request) {
                const BadFrame bad = refused(cut);
                ASSERT_EQ(bad.error.code, ErrorCode::bad_request) << frame.name << " " << size;
            } else {
                ASSERT_FALSE(decode_incoming(cut).ok()) << frame.name << " " << size;
            }
        }
    }
}

TEST(BadInput, RandomBytes) {
    Random random(20'251'118);
    for (int round = 0; round < 20'000; ++round) {
        std::string bytes(random.below(64), '\0');
        for (char& byte : bytes)
            byte = static_cast<char>(random.next());
        // Most random bytes are no map; some rounds begin like one.
        if (!bytes.empty() && round % 2 == 0) bytes[0] = static_cast<char>(0x80 + random.below(6));
        ASSERT_FALSE(is_accepted(bytes));
        ASSERT_FALSE(decode_incoming(bytes).ok());
    }
}

TEST(BadInput, MapWithManyKeysIsCheckedForDoubles) {
    raw::Entries entries;
    for (int i = 0; i < 1000; ++i)
        entries.emplace_back("key-" + std::to_string(i), number(i));
    entries.emplace_back("v", number(1));
    entries.emplace_back("m", text("workers"));
    entries.emplace_back("id", text("r1"));
    EXPECT_TRUE(is_accepted(map(entries)));
    entries.emplace_back("key-500", number(1));
    expect_refused({{"double", map(entries), ErrorCode::bad_request, "'key-500' twice"}});
}

}  // namespace
}  // namespace iw
