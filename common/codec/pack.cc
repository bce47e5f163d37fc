#include "common/codec/pack.h"

#include <algorithm>
#include <cstring>
#include <msgpack.hpp>

#include "common/base/check.h"
#include "common/base/text.h"

namespace iw::codec {
namespace {

constexpr std::uint32_t kArrayMax = 10'000;
constexpr std::uint32_t kMapMax = 1'024;
// A nil is one byte on the wire and a Node here: without a cap of their own, 4 MiB of them would
// take 100 MB.
constexpr std::size_t kNodesMax = 1u << 18;
// Civil times up to the year 9999, so that every formatter can show what a peer sent.
constexpr std::int64_t kWallMax = 253'402'300'799'999;
// Pairs of up to this many keys are compared directly; more are sorted first.
constexpr std::uint32_t kPairwiseMax = 24;
constexpr std::size_t kQuotedMax = 40;

// Most text is ASCII, which eight bytes at a time can be seen to be.
bool is_wire_text(std::string_view text) {
    constexpr std::uint64_t kHighBits = 0x8080808080808080ULL;
    while (text.size() >= sizeof(std::uint64_t)) {
        std::uint64_t word = 0;
        std::memcpy(&word, text.data(), sizeof word);
        if ((word & kHighBits) != 0) break;
        text.remove_prefix(sizeof word);
    }
    return is_utf8(text);
}

std::string quoted(std::string_view text) {
    const bool cut = text.size() > kQuotedMax;
    return "'" + printable(text.substr(0, kQuotedMax), true) + (cut ? "...'" : "'");
}

std::string_view kind_text(Node::Kind kind) {
    switch (kind) {
        case Node::Kind::nil:
            return "nil";
        case Node::Kind::boolean:
            return "a boolean";
        case Node::Kind::negative:
        case Node::Kind::positive:
            return "an integer";
        case Node::Kind::number:
            return "a floating-point number";
        case Node::Kind::text:
            return "text";
        case Node::Kind::bytes:
            return "bytes";
        case Node::Kind::array:
            return "an array";
        case Node::Kind::map:
            return "a map";
    }
    return "something else";
}

// Builds the nodes of a document as msgpack's parser reports values. Returning false stops the
// parser.
class Builder : public msgpack::null_visitor {
  public:
    explicit Builder(std::vector<Node>& nodes) : nodes_(nodes) {}

    bool visit_nil() { return add(Node::Kind::nil) != nullptr; }
    bool visit_boolean(bool value) {
        Node* node = add(Node::Kind::boolean);
        if (node != nullptr) node->value.boolean = value;
        return node != nullptr;
    }
    bool visit_positive_integer(std::uint64_t value) {
        Node* node = add(Node::Kind::positive);
        if (node != nullptr) node->value.positive = value;
        return node != nullptr;
    }
    bool visit_negative_integer(std::int64_t value) {
        Node* node = add(Node::Kind::negative);
        if (node != nullptr) node->value.negative = value;
        return node != nullptr;
    }
    // Kept as a value, because an unknown key may hold one; no field does.
    bool visit_float32(float) { return add(Node::Kind::number) != nullptr; }
    bool visit_float64(double) { return add(Node::Kind::number) != nullptr; }
    bool visit_str(const char* data, std::uint32_t size) {
        if (!is_wire_text({data, size})) return refuse("text is not well-formed UTF-8");
        return add_data(Node::Kind::text, data, size);
    }
    bool visit_bin(const char* data, std::uint32_t size) {
        return add_data(Node::Kind::bytes, data, size);
    }
    bool visit_ext(const char*, std::uint32_t) { return refuse("extension types are not used"); }

    bool start_array(std::uint32_t size) {
        if (size > kArrayMax) return refuse("an array has more than 10000 elements");
        return open(Node::Kind::array, size);
    }
    bool end_array() { return close(); }
    bool start_map(std::uint32_t size) {
        if (size > kMapMax) return refuse("a map has more than 1024 entries");
        return open(Node::Kind::map, size);
    }
    bool start_map_key() {
        key_ = true;
        return true;
    }
    bool end_map_key() {
        key_ = false;
        return true;
    }
    bool end_map() {
        const std::uint32_t map = open_[depth_ - 1];
        return close() && has_no_key_twice(nodes_[map], map);
    }

    void parse_error(std::size_t, std::size_t) { refuse("the bytes are not msgpack"); }
    void insufficient_bytes(std::size_t, std::size_t) { refuse("the message ends in the middle"); }

    const std::string& error() const { return error_; }

  private:
    bool refuse(std::string_view text) {
        if (error_.empty()) error_ = text;
        return false;
    }

    Node* add(Node::Kind kind) {
        if (key_ && kind != Node::Kind::text) {
            refuse("a key of a map is not text");
            return nullptr;
        }
        if (nodes_.size() >= kNodesMax) {
            refuse("there are too many values in one message");
            return nullptr;
        }
        Node& node = nodes_.emplace_back();
        node.kind = kind;
        node.end = static_cast<std::uint32_t>(nodes_.size());
        return &node;
    }

    bool add_data(Node::Kind kind, const char* data, std::uint32_t size) {
        Node* node = add(kind);
        if (node == nullptr) return false;
        node->size = size;
        node->value.data = data;
        return true;
    }

    bool open(Node::Kind kind, std::uint32_t size) {
        if (depth_ >= open_.size()) return refuse("values are nested too deep");
        Node* node = add(kind);
        if (node == nullptr) return false;
        node->size = size;
        node->end = 0;
        open_[depth_++] = static_cast<std::uint32_t>(nodes_.size() - 1);
        return true;
    }

    bool close() {
        IW_CHECK(depth_ > 0);
        nodes_[open_[--depth_]].end = static_cast<std::uint32_t>(nodes_.size());
        return true;
    }

    bool has_no_key_twice(const Node& map, std::uint32_t index) {
        if (map.size < 2) return true;
        keys_.clear();
        for (std::uint32_t at = index + 1; at < map.end; at = nodes_[at + 1].end) {
            keys_.push_back(nodes_[at].view());
        }
        auto twice = keys_.end();
        if (keys_.size() > kPairwiseMax) {
            std::ranges::sort(keys_);
            twice = std::ranges::adjacent_find(keys_);
        } else {
            for (auto key = keys_.begin(); key != keys_.end() && twice == keys_.end(); ++key) {
                if (std::find(std::next(key), keys_.end(), *key) != keys_.end()) twice = key;
            }
        }
        return twice == keys_.end() || refuse("a map has the key " + quoted(*twice) + " twice");
    }

    std::vector<Node>& nodes_;
    std::array<std::uint32_t, limits::kDecodeDepthMax> open_{};
    std::size_t depth_ = 0;
    bool key_ = false;
    std::vector<std::string_view> keys_;
    std::string error_;
};

// What msgpack's packer writes to.
struct Sink {
    std::string& out;
    void write(const char* data, std::size_t size) { out.append(data, size); }
};

template <typename Function>
void with_packer(std::string& out, Function function) {
    Sink sink{out};
    msgpack::packer<Sink> packer(sink);
    function(packer);
}

std::uint32_t wire_size(std::size_t size) {
    IW_CHECK(size <= std::numeric_limits<std::uint32_t>::max());
    return static_cast<std::uint32_t>(size);
}

}  // namespace

std::optional<SessionStatus> parse_word(std::string_view text, std::type_identity<SessionStatus>) {
    // People may write a status in any case; the wire has one spelling.
    const std::optional<SessionStatus> status = parse_session_status(text);
    return status && name(*status) == text ? status : std::nullopt;
}
std::optional<Detail> parse_word(std::string_view text, std::type_identity<Detail>) {
    return parse_detail(text);
}
std::optional<OnLost> parse_word(std::string_view text, std::type_identity<OnLost>) {
    return parse_on_lost(text);
}
std::optional<AfterCondition> parse_word(std::string_view text,
                                         std::type_identity<AfterCondition>) {
    return parse_after_condition(text);
}
std::optional<HoldScope> parse_word(std::string_view text, std::type_identity<HoldScope>) {
    return parse_hold_scope(text);
}
std::optional<AttemptPhase> parse_word(std::string_view text, std::type_identity<AttemptPhase>) {
    return parse_attempt_phase(text);
}
std::optional<EndCause> parse_word(std::string_view text, std::type_identity<EndCause>) {
    return parse_end_cause(text);
}
std::optional<ErrorCode> parse_word(std::string_view text, std::type_identity<ErrorCode>) {
    return parse_error_code(text);
}

// ---- Writing
// --------------------------------------------------------------------------------------------

void Writer::put_nil() {
    with_packer(out_, [](auto& packer) { packer.pack_nil(); });
}

void Writer::put_bool(bool value) {
    with_packer(out_, [&](auto& packer) { value ? packer.pack_true() : packer.pack_false(); });
}

void Writer::put_int(std::int64_t value) {
    with_packer(out_, [&](auto& packer) { packer.pack_int64(value); });
}

void Writer::put_uint(std::uint64_t value) {
    with_packer(out_, [&](auto& packer) { packer.pack_uint64(value); });
}

void Writer::put_text(std::string_view value) {
    with_packer(out_, [&](auto& packer) {
        packer.pack_str(wire_size(value.size()));
        packer.pack_str_body(value.data(), wire_size(value.size()));
    });
}

void Writer::put_bytes(std::string_view value) {
    with_packer(out_, [&](auto& packer) {
        packer.pack_bin(wire_size(value.size()));
        packer.pack_bin_body(value.data(), wire_size(value.size()));
    });
}

void Writer::put_array(std::size_t count) {
    with_packer(out_, [&](auto& packer) { packer.pack_array(wire_size(count)); });
}

void Writer::put_map(std::size_t count) {
    with_packer(out_, [&](auto& packer) { packer.pack_map(wire_size(count)); });
}

Writer::Open Writer::begin_map() {
    const Open open{out_.size(), count_};
    out_.append("\xde\0\0", 3);
    count_ = 0;
    return open;
}

void Writer::end_map(Open open) {
    out_[open.offset + 1] = static_cast<char>(count_ >> 8);
    out_[open.offset + 2] = static_cast<char>(count_ & 0xff);
    count_ = open.outer_count;
}

void Writer::put_name(std::string_view field) {
    put_text(field);
    ++count_;
}

void Writer::required_bytes(std::string_view field, const std::string& value, const Rule&) {
    put_name(field);
    put_bytes(value);
}

void Writer::optional_bytes(std::string_view field, const std::string& value, const Rule& rule) {
    if (!value.empty()) required_bytes(field, value, rule);
}

// ---- Parsing
// --------------------------------------------------------------------------------------------

Status Document::parse(std::string_view bytes) {
    nodes_.clear();
    if (bytes.size() > limits::kMessageMax) {
        return make_error(ErrorCode::too_large,
                          "the message has " + std::to_string(bytes.size()) + " bytes; at most " +
                              std::to_string(limits::kMessageMax) + " are allowed");
    }
    if (bytes.empty()) return make_error(ErrorCode::bad_request, "the message is empty");
    nodes_.reserve(std::min<std::size_t>(bytes.size(), 64));
    Builder builder(nodes_);
    std::size_t offset = 0;
    const bool whole = msgpack::parse(bytes.data(), bytes.size(), offset, builder);
    if (!builder.error().empty() || !whole) {
        const std::string& why =
            builder.error().empty() ? "the bytes are not msgpack" : builder.error();
        return make_error(ErrorCode::bad_request, why + ", at byte " + std::to_string(offset));
    }
    if (offset != bytes.size()) {
        return make_error(ErrorCode::bad_request, std::to_string(bytes.size() - offset) +
                                                      " bytes follow the message at byte " +
                                                      std::to_string(offset));
    }
    return Done{};
}

const Node* Document::find(std::string_view name) const {
    if (nodes_.empty() || nodes_.front().kind != Node::Kind::map) return nullptr;
    std::size_t at = 1;
    while (at + 1 < nodes_.size()) {
        const Node& value = nodes_[at + 1];
        if (nodes_[at].view() == name) return &value;
        if (value.end == 0) return nullptr;
        at = value.end;
    }
    return nullptr;
}

std::string_view Document::salvage(std::string_view name) const {
    const Node* node = find(name);
    const bool readable =
        node != nullptr && (node->kind == Node::Kind::text || node->kind == Node::Kind::bytes);
    return readable ? node->view() : std::string_view();
}

std::string Where::path() const {
    std::string path = outer == nullptr ? std::string() : outer->path();
    if (index) return path + "[" + std::to_string(*index) + "]";
    if (!path.empty() && !field.empty()) path += '.';
    // Keys of labels are a peer's choice and can be long.
    return path.append(field.substr(0, kQuotedMax));
}

void Reading::fail(const Where& where, ErrorCode code, std::string_view text) {
    if (error) return;
    // A path can hold keys that a peer chose.
    std::string message = printable(where.path(), true);
    if (message.empty()) message = "the message";
    message += ": ";
    message += text;
    error = make_error(code, std::move(message));
}

// ---- Reading
// --------------------------------------------------------------------------------------------

Reader::Reader(Reading& reading, const Node* map, const Where& where)
    : reading_(reading), where_(where), nodes_(reading.document.root()) {
    if (map == nullptr) return;
    IW_CHECK(map->kind == Node::Kind::map);
    entries_ = map->size;
    first_ = static_cast<std::uint32_t>(map - nodes_) + 1;
    end_ = map->end;
    cursor_ = first_;
}

const Node* Reader::take(std::string_view field, bool needed) {
    if (reading_.error) return nullptr;
    for (std::uint32_t tried = 0; tried < entries_; ++tried) {
        if (cursor_ == end_) cursor_ = first_;
        const Node& key = nodes_[cursor_];
        const Node& value = nodes_[cursor_ + 1];
        cursor_ = value.end;
        if (key.view() != field) continue;
        if (value.kind != Node::Kind::nil) return &value;
        break;
    }
    if (needed) reading_.fail(Where{&where_, field}, ErrorCode::bad_request, "is missing");
    return nullptr;
}

void Reader::required_bytes(std::string_view field, std::string& value, const Rule& rule) {
    if (const Node* node = take(field, true)) get_bytes(*node, Where{&where_, field}, value, rule);
}

void Reader::optional_bytes(std::string_view field, std::string& value, const Rule& rule) {
    if (const Node* node = take(field, false)) get_bytes(*node, Where{&where_, field}, value, rule);
}

void Reader::check(bool holds, std::string_view field, std::string_view text) {
    if (holds || reading_.source != Source::request) return;
    reading_.fail(Where{&where_, field}, ErrorCode::bad_request, text);
}

void Reader::unknown_word(const Where& where, std::string_view word) {
    reading_.fail(where, ErrorCode::bad_request,
                  quoted(word) + " is not a word that is known here");
}

bool Reader::in_range(const Where& where, std::int64_t value, const Rule& rule) {
    if (reading_.source != Source::request || (value >= rule.min && value <= rule.max)) return true;
    reading_.fail(where, ErrorCode::bad_request,
                  std::to_string(value) + " is out of range; it must be from " +
                      std::to_string(rule.min) + " to " + std::to_string(rule.max));
    return false;
}

bool Reader::get_bool(const Node& node, const Where& where, bool& value) {
    if (node.kind == Node::Kind::boolean) {
        value = node.value.boolean;
        return true;
    }
    reading_.fail(where, ErrorCode::bad_request,
                  "must be a boolean, is " + std::string(kind_text(node.kind)));
    return false;
}

bool Reader::get_int(const Node& node, const Where& where, std::int64_t& value, std::int64_t min,
                     std::int64_t max) {
    const bool positive = node.kind == Node::Kind::positive;
    if (!positive && node.kind != Node::Kind::negative) {
        reading_.fail(where, ErrorCode::bad_request,
                      "must be an integer, is " + std::string(kind_text(node.kind)));
        return false;
    }
    if (positive ? node.value.positive <= static_cast<std::uint64_t>(max)
                 : node.value.negative >= min) {
        value = positive ? static_cast<std::int64_t>(node.value.positive) : node.value.negative;
        return true;
    }
    reading_.fail(
        where, ErrorCode::bad_request,
        "is out of range; it must be from " + std::to_string(min) + " to " + std::to_string(max));
    return false;
}

bool Reader::get_uint(const Node& node, const Where& where, std::uint64_t& value,
                      std::uint64_t max) {
    const bool positive = node.kind == Node::Kind::positive;
    if (positive && node.value.positive <= max) {
        value = node.value.positive;
        return true;
    }
    if (positive || node.kind == Node::Kind::negative) {
        reading_.fail(where, ErrorCode::bad_request,
                      "is out of range; it must be from 0 to " + std::to_string(max));
        return false;
    }
    reading_.fail(where, ErrorCode::bad_request,
                  "must be an integer, is " + std::string(kind_text(node.kind)));
    return false;
}

bool Reader::get_wall(const Node& node, const Where& where, WallTime& value) {
    std::int64_t ms = 0;
    if (!get_int(node, where, ms, 0, kWallMax)) return false;
    value = wall_from_ms(ms);
    return true;
}

bool Reader::get_text(const Node& node, const Where& where, std::string& value, const Rule& rule) {
    if (node.kind != Node::Kind::text) {
        reading_.fail(where, ErrorCode::bad_request,
                      "must be text, is " + std::string(kind_text(node.kind)));
        return false;
    }
    if (reading_.source == Source::request && !keeps_to(rule, node, where)) return false;
    value.assign(node.view());
    return true;
}

bool Reader::get_bytes(const Node& node, const Where& where, std::string& value, const Rule& rule) {
    if (node.kind != Node::Kind::bytes) {
        reading_.fail(where, ErrorCode::bad_request,
                      "must be bytes (bin), is " + std::string(kind_text(node.kind)));
        return false;
    }
    if (reading_.source == Source::request && !keeps_to(rule, node, where)) return false;
    value.assign(node.view());
    return true;
}

bool Reader::keeps_to(const Rule& rule, const Node& node, const Where& where) {
    const std::string_view text = node.view();
    if (text.size() > rule.bytes_max) {
        reading_.fail(where, ErrorCode::too_large,
                      "has " + std::to_string(text.size()) + " bytes; at most " +
                          std::to_string(rule.bytes_max) + " are allowed");
        return false;
    }
    if (text.size() < rule.bytes_min) {
        reading_.fail(where, ErrorCode::bad_request, "is empty");
        return false;
    }
    if (rule.form != nullptr && !rule.form(text)) {
        reading_.fail(where, ErrorCode::bad_request,
                      quoted(text) + " must be " + std::string(rule.form_text));
        return false;
    }
    return true;
}

bool Reader::is_array(const Node& node, const Where& where, const Rule& rule) {
    if (node.kind == Node::Kind::array) return has_count(node, where, rule);
    reading_.fail(where, ErrorCode::bad_request,
                  "must be an array, is " + std::string(kind_text(node.kind)));
    return false;
}

bool Reader::is_map(const Node& node, const Where& where) {
    if (node.kind == Node::Kind::map) return true;
    reading_.fail(where, ErrorCode::bad_request,
                  "must be a map, is " + std::string(kind_text(node.kind)));
    return false;
}

bool Reader::has_count(const Node& node, const Where& where, const Rule& rule) {
    if (reading_.source != Source::request) return true;
    if (node.size > rule.count_max) {
        reading_.fail(where, ErrorCode::too_large,
                      "has " + std::to_string(node.size) + " entries; at most " +
                          std::to_string(rule.count_max) + " are allowed");
        return false;
    }
    if (node.size >= rule.count_min) return true;
    reading_.fail(where, ErrorCode::bad_request, "is empty");
    return false;
}

}  // namespace iw::codec
