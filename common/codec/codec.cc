#include "common/codec/codec.h"

#include <array>
#include <optional>
#include <utility>

#include "common/base/text.h"
#include "common/codec/fields.h"
#include "common/codec/pack.h"

namespace iw {
namespace {

using codec::Document;
using codec::Node;
using codec::Reader;
using codec::Reading;
using codec::Source;
using codec::Where;
using codec::Writer;

// A verb that is answered by name is not worth more than a line.
constexpr std::size_t kVerbShownMax = 32;
// Frame, body and ids; what a message holds beside its texts.
constexpr std::size_t kEncodeReserve = 512;

template <typename Message>
struct Maker {
    std::string_view verb;
    Message (*make)();
};

template <typename Message, std::size_t... I>
std::array<Maker<Message>, sizeof...(I)> makers_of(std::index_sequence<I...>) {
    return {Maker<Message>{verb(Message(std::in_place_index<I>)),
                           [] { return Message(std::in_place_index<I>); }}...};
}

// The empty message that belongs to a verb.
template <typename Message>
std::optional<Message> make_message(std::string_view verb_text) {
    static const auto makers =
        makers_of<Message>(std::make_index_sequence<std::variant_size_v<Message>>());
    for (const Maker<Message>& maker : makers) {
        if (maker.verb == verb_text) return maker.make();
    }
    return std::nullopt;
}

template <typename Message>
void add_verbs(std::vector<std::string>& verbs) {
    for (const auto& maker :
         makers_of<Message>(std::make_index_sequence<std::variant_size_v<Message>>())) {
        verbs.emplace_back(maker.verb);
    }
}

template <typename Message>
void read_body(Reader& envelope, std::string_view field, Message& message) {
    std::visit([&](auto& body) { envelope.body(field, body); }, message);
}

void put_front(Writer& writer, std::string_view verb_text) {
    writer.required("v", kProtocolVersion);
    writer.put_name("m");
    writer.put_text(verb_text);
}

// An id may be any bytes; text is written as text, so that a requester gets back what it compares
// with.
void put_id(Writer& writer, const std::string& id) {
    writer.put_name("id");
    is_utf8(id) ? writer.put_text(id) : writer.put_bytes(id);
}

std::size_t text_bytes(const RequestFrame& frame) {
    std::size_t bytes = 0;
    if (const auto* submit = std::get_if<SubmitRequest>(&frame.body)) {
        for (const Submission& session : submit->sessions)
            bytes += kEncodeReserve + session.prompt.size();
    }
    if (const auto* put = std::get_if<PutRequest>(&frame.body)) bytes += put->data.size();
    return bytes;
}

bool is_request_id(std::string_view id) {
    return !id.empty() && id.size() <= limits::kRequestIdMax;
}

Error wrong_version(int version) {
    return make_error(ErrorCode::version, "v: version " + std::to_string(version) +
                                              " is not spoken here; use version " +
                                              std::to_string(kProtocolVersion));
}

Error unknown_verb(std::string_view verb_text) {
    return make_error(ErrorCode::unknown_verb,
                      "m: '" + printable(verb_text.substr(0, kVerbShownMax), true) +
                          "' is not a verb of version " + std::to_string(kProtocolVersion));
}

// The frame's `k` stands for the key of the one thing that it asks for.
void give_key(Reading& reading, const std::string& key, Request& request) {
    constexpr Where kKey{.field = "k"};
    if (key.empty()) return;
    std::string* own = nullptr;
    if (auto* submit = std::get_if<SubmitRequest>(&request)) {
        if (submit->sessions.size() != 1) {
            return reading.fail(kKey, ErrorCode::bad_request,
                                "stands for one session only; give each of several its own key");
        }
        own = &submit->sessions.front().key;
    } else if (auto* retry = std::get_if<RetryRequest>(&request)) {
        own = &retry->key;
    }
    if (own == nullptr) return;
    if (!own->empty() && *own != key) {
        return reading.fail(kKey, ErrorCode::bad_request,
                            "differs from the key in the body; give one of them");
    }
    *own = key;
}

// Everything of a request but what only an error needs. Nothing when the reading has an error.
std::optional<RequestFrame> read_request(const Document& document, Reading& reading) {
    const Node* root = document.root();
    if (root->kind != Node::Kind::map) {
        reading.fail(Where{}, ErrorCode::bad_request, "must be a map");
        return std::nullopt;
    }
    Reader envelope(reading, root, Where{});
    int version = 0;
    std::string verb_text;
    std::string key;
    // First the version, because another one may mean something else by all the rest.
    envelope.required("v", version);
    if (!reading.error && version != kProtocolVersion) reading.error = wrong_version(version);
    envelope.required("m", verb_text);
    const std::string_view id = document.salvage("id");
    envelope.check(is_request_id(id), "id", "must be text or bytes of 1 to 32 bytes");
    if (reading.error) return std::nullopt;

    std::optional<Request> request = make_message<Request>(verb_text);
    if (!request) {
        reading.error = unknown_verb(verb_text);
        return std::nullopt;
    }
    envelope.optional("k", key, codec::kKeyRule);
    read_body(envelope, "b", *request);
    if (!reading.error) give_key(reading, key, *request);
    if (reading.error) return std::nullopt;
    return RequestFrame{.id = std::string(id), .body = *std::move(request)};
}

BadFrame bad_frame(const Document& document, Error error) {
    BadFrame frame{.error = std::move(error)};
    const std::string_view id = document.salvage("id");
    if (is_request_id(id)) frame.id = id;
    frame.verb = printable(document.salvage("m").substr(0, kVerbShownMax), true);
    return frame;
}

std::optional<Incoming> read_incoming(const Document& document, Reading& reading) {
    const Node* root = document.root();
    if (root->kind != Node::Kind::map) {
        reading.fail(Where{}, ErrorCode::bad_request, "must be a map");
        return std::nullopt;
    }
    Reader envelope(reading, root, Where{});
    int version = 0;
    std::string verb_text;
    std::optional<ErrorReply> refusal;
    envelope.required("v", version);
    if (!reading.error && version != kProtocolVersion) reading.error = wrong_version(version);
    envelope.required("m", verb_text);
    envelope.optional("err", refusal);
    if (reading.error) return std::nullopt;

    const std::string id(document.salvage("id"));
    // Before the verb is looked at: a refusal echoes whatever verb was sent.
    if (refusal) return ReplyFrame{.id = id, .body = *std::move(refusal)};
    if (id.empty()) {
        std::optional<Push> push = make_message<Push>(verb_text);
        if (!push) reading.error = unknown_verb(verb_text);
        if (push) read_body(envelope, "b", *push);
        if (reading.error) return std::nullopt;
        return PushFrame{.body = *std::move(push)};
    }
    if (document.find("ok") == nullptr) {
        reading.fail(Where{}, ErrorCode::bad_request, "has neither ok nor err");
        return std::nullopt;
    }
    std::optional<Reply> reply = make_message<Reply>(verb_text);
    if (!reply) reading.error = unknown_verb(verb_text);
    if (reply) read_body(envelope, "ok", *reply);
    if (reading.error) return std::nullopt;
    return ReplyFrame{.id = id, .body = *std::move(reply)};
}

template <typename Message>
void add_fields(codec::Names& names, std::type_identity<Message>) {
    [&]<typename... Bodies>(std::type_identity<std::variant<Bodies...>>) {
        (names.add<Bodies>(), ...);
    }(std::type_identity<Message>{});
}

}  // namespace

std::string encode(const RequestFrame& frame) {
    std::string bytes;
    bytes.reserve(kEncodeReserve + text_bytes(frame));
    Writer writer(bytes);
    const Writer::Open open = writer.begin_map();
    put_front(writer, verb(frame.body));
    put_id(writer, frame.id);
    std::visit([&](const auto& body) { writer.required("b", body); }, frame.body);
    writer.end_map(open);
    return bytes;
}

std::string encode(const ReplyFrame& frame, std::string_view verb_text) {
    std::string bytes;
    bytes.reserve(kEncodeReserve);
    Writer writer(bytes);
    const Writer::Open open = writer.begin_map();
    put_front(writer, verb_text);
    put_id(writer, frame.id);
    if (const auto* refusal = std::get_if<ErrorReply>(&frame.body)) {
        writer.required("err", *refusal);
    } else {
        std::visit([&](const auto& body) { writer.required("ok", body); },
                   std::get<Reply>(frame.body));
    }
    writer.end_map(open);
    return bytes;
}

std::string encode(const PushFrame& frame) {
    std::string bytes;
    bytes.reserve(kEncodeReserve);
    Writer writer(bytes);
    const Writer::Open open = writer.begin_map();
    put_front(writer, verb(frame.body));
    std::visit([&](const auto& body) { writer.required("b", body); }, frame.body);
    writer.end_map(open);
    return bytes;
}

std::variant<RequestFrame, BadFrame> decode_request(std::string_view bytes) {
    Document document;
    if (Status parsed = document.parse(bytes); !parsed) return bad_frame(document, parsed.error());
    Reading reading{document, Source::request};
    std::optional<RequestFrame> frame = read_request(document, reading);
    if (!frame) return bad_frame(document, *std::move(reading.error));
    return *std::move(frame);
}

Result<Incoming> decode_incoming(std::string_view bytes) {
    Document document;
    if (Status parsed = document.parse(bytes); !parsed) return parsed.error();
    Reading reading{document, Source::reply};
    std::optional<Incoming> incoming = read_incoming(document, reading);
    if (!incoming) return *std::move(reading.error);
    return *std::move(incoming);
}

std::string canonical(const Submission& submission) {
    std::string bytes;
    bytes.reserve(kEncodeReserve + submission.prompt.size());
    Writer writer(bytes);
    const Writer::Open open = writer.begin_map();
    body_fields(writer, submission);
    writer.end_map(open);
    return bytes;
}

std::map<std::string, std::uint64_t> announced_limits() {
    return {{"message", limits::kMessageMax},
            {"prompt", limits::kPromptMax},
            {"result_inline", limits::kResultInlineMax},
            {"page_rows", limits::kPageRowsMax},
            {"page_bytes", limits::kPageBytesMax},
            {"key", limits::kKeyMax},
            {"request_id", limits::kRequestIdMax},
            {"tags", limits::kTagsMax},
            {"tag_bytes", limits::kTagBytesMax},
            {"metadata", limits::kMetadataMax},
            {"schema", limits::kSchemaMax},
            {"chunk", limits::kChunkMax},
            {"blob", limits::kBlobMax},
            {"reason", limits::kReasonMax},
            {"path", limits::kPathMax},
            {"ids_per_request", limits::kIdsPerRequestMax},
            {"submit_batch", limits::kSubmitBatchMax},
            {"report_batch", limits::kReportBatchMax},
            {"agents_per_worker", limits::kAgentsPerWorkerMax},
            {"inventory", limits::kInventoryMax},
            {"decode_depth", limits::kDecodeDepthMax},
            {"session_depth", limits::kSessionDepthMax},
            {"events_wait", static_cast<std::uint64_t>(limits::kEventsWaitMax.count())}};
}

WireNames wire_names() {
    WireNames names;
    add_verbs<Request>(names.verbs);
    add_verbs<Push>(names.verbs);

    codec::Names fields;
    fields.found = {"v", "m", "id", "k", "b", "ok", "err"};
    add_fields(fields, std::type_identity<Request>{});
    add_fields(fields, std::type_identity<Reply>{});
    add_fields(fields, std::type_identity<Push>{});
    fields.add<ErrorReply>();
    names.fields.assign(fields.found.begin(), fields.found.end());

    for (int code = 0; code <= static_cast<int>(ErrorCode::internal); ++code) {
        const auto error = static_cast<ErrorCode>(code);
        const bool local = error == ErrorCode::unreachable || error == ErrorCode::unknown_outcome ||
                           error == ErrorCode::io || error == ErrorCode::config;
        if (!local) names.errors.emplace_back(name(error));
    }
    for (const auto& [limit, value] : announced_limits())
        names.limits.push_back(limit);
    return names;
}

}  // namespace iw
