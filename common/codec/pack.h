#pragma once

// Structs to msgpack maps with named fields and back. One list of fields per struct,
//
//     template <typename V, codec::Of<Fence> T> void fields(V& v, T& fence) {
//         v.required("generation", fence.generation);
//         ...
//     }
//
// in the namespace of the struct, serves every visitor here: Writer, Reader and Names.
//
// required(name, member [, rule])   always written; a reader fails without it
// optional(name, member [, rule])   left out when empty, zero, false or nullopt; may be absent
// defaulted(name, member [, rule])  always written; absent or nil: the struct's default holds
// required_bytes, optional_bytes    a std::string as msgpack bin instead of str
// word(name, enum, fallback)        required; the fallback stands for a reply's unknown word
// one_of(name, variant)             kind_name() of the alternative, and its fields beside it
// check(holds, name, text)          a rule between fields; a request that breaks it is refused
//
// Members may be integers, bool, text, strong strings, enums (by name), Duration, WallTime, structs
// with fields, and optional, vector and map<string, ...> of these. msgpack itself stays in pack.cc;
// nothing here throws but for lack of memory.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/result.h"
#include "common/base/statuses.h"
#include "common/base/time.h"
#include "common/messages/messages.h"

namespace iw::codec {

// Where bytes come from decides how they are judged. Types, UTF-8, duplicate keys and depth are
// checked always.
enum class Source {
    request,  // every Rule holds; unknown words of enums are refused
    reply,  // no Rule, so that a newer broker can raise a limit; unknown words become the fallback
};

// What a request's field must keep to. Bytes and form are those of each text, also inside vectors
// and maps.
struct Rule {
    std::int64_t min = std::numeric_limits<std::int64_t>::min();
    std::int64_t max = std::numeric_limits<std::int64_t>::max();
    std::size_t bytes_min = 0;
    std::size_t bytes_max = limits::kMessageMax;
    std::size_t count_min = 0;
    std::size_t count_max = limits::kMessageMax;
    bool (*form)(std::string_view) = nullptr;
    std::string_view form_text = {};  // completes "must be ..."
};
inline constexpr Rule kAnything{};

template <typename T, typename U>
concept Of = std::same_as<std::remove_const_t<T>, U>;

template <typename T>
inline constexpr bool kIsStrong = false;
template <typename Tag>
inline constexpr bool kIsStrong<StrongString<Tag>> = true;
template <typename T>
inline constexpr bool kIsOptional = false;
template <typename T>
inline constexpr bool kIsOptional<std::optional<T>> = true;
template <typename T>
inline constexpr bool kIsVector = false;
template <typename T>
inline constexpr bool kIsVector<std::vector<T>> = true;

template <typename T>
inline constexpr bool kIsMap = false;
template <typename T>
inline constexpr bool kIsMap<std::map<std::string, T>> = true;

template <typename T>
inline constexpr bool kIsText = std::same_as<T, std::string> || kIsStrong<T>;
template <typename T>
inline constexpr bool kIsPlain = std::integral<T> || std::is_enum_v<T> || kIsText<T> ||
                                 std::same_as<T, Duration> || std::same_as<T, WallTime>;

// The words of enums. An ErrorCode is never unknown: a newer peer's code is read as INTERNAL.
std::optional<SessionStatus> parse_word(std::string_view text, std::type_identity<SessionStatus>);
std::optional<Detail> parse_word(std::string_view text, std::type_identity<Detail>);
std::optional<OnLost> parse_word(std::string_view text, std::type_identity<OnLost>);
std::optional<AfterCondition> parse_word(std::string_view text, std::type_identity<AfterCondition>);
std::optional<HoldScope> parse_word(std::string_view text, std::type_identity<HoldScope>);
std::optional<AttemptPhase> parse_word(std::string_view text, std::type_identity<AttemptPhase>);
std::optional<EndCause> parse_word(std::string_view text, std::type_identity<EndCause>);
std::optional<ErrorCode> parse_word(std::string_view text, std::type_identity<ErrorCode>);

// ---- Writing
// --------------------------------------------------------------------------------------------

// Appends to a string that its owner keeps alive. Deterministic: equal structs give equal bytes.
class Writer {
  public:
    explicit Writer(std::string& out) : out_(out) {}

    template <typename T>
    void required(std::string_view field, const T& value, const Rule& = kAnything) {
        put_name(field);
        put(value);
    }
    template <typename T>
    void optional(std::string_view field, const T& value, const Rule& = kAnything) {
        if (!is_nothing(value)) required(field, value);
    }
    template <typename T>
    void defaulted(std::string_view field, const T& value, const Rule& = kAnything) {
        required(field, value);
    }
    void required_bytes(std::string_view field, const std::string& value, const Rule& = kAnything);
    void optional_bytes(std::string_view field, const std::string& value, const Rule& = kAnything);
    template <typename E>
    void word(std::string_view field, E value, E) {
        required(field, value);
    }
    template <typename... Ts>
    void one_of(std::string_view field, const std::variant<Ts...>& value) {
        std::visit(
            [&](const auto& alternative) {
                put_name(field);
                put_text(kind_name(alternative));
                fields(*this, alternative);
            },
            value);
    }
    void check(bool, std::string_view, std::string_view) {}

    // One whole value. Maps of structs have a header of fixed width (map 16), filled in when the
    // fields are known.
    template <typename T>
    void put(const T& value);

    void put_nil();
    void put_bool(bool value);
    void put_int(std::int64_t value);
    void put_uint(std::uint64_t value);
    void put_text(std::string_view value);
    void put_bytes(std::string_view value);
    void put_array(std::size_t count);
    void put_map(std::size_t count);

    // The map that fields written in between belong to.
    struct Open {
        std::size_t offset;
        std::uint16_t outer_count;
    };
    Open begin_map();
    void end_map(Open open);
    void put_name(std::string_view field);

  private:
    template <typename T>
    static bool is_nothing(const T& value);

    std::string& out_;
    std::uint16_t count_ = 0;  // fields of the innermost open map
};

template <typename T>
bool Writer::is_nothing(const T& value) {
    if constexpr (kIsText<T> || kIsVector<T> || kIsMap<T>) {
        return value.empty();
    } else if constexpr (kIsOptional<T>) {
        return !value.has_value();
    } else {
        return value == T{};
    }
}

template <typename T>
void Writer::put(const T& value) {
    if constexpr (std::same_as<T, bool>) {
        put_bool(value);
    } else if constexpr (std::signed_integral<T>) {
        put_int(value);
    } else if constexpr (std::unsigned_integral<T>) {
        put_uint(value);
    } else if constexpr (std::is_enum_v<T>) {
        put_text(name(value));
    } else if constexpr (std::same_as<T, Duration>) {
        put_int(value.count());
    } else if constexpr (std::same_as<T, WallTime>) {
        put_int(to_ms(value));
    } else if constexpr (std::same_as<T, std::string>) {
        put_text(value);
    } else if constexpr (kIsStrong<T>) {
        put_text(value.str());
    } else if constexpr (kIsMap<T>) {
        put_map(value.size());
        for (const auto& [key, element] : value) {
            put_text(key);
            put(element);
        }
    } else if constexpr (kIsOptional<T>) {
        if (!value) return put_nil();
        put(*value);
    } else if constexpr (kIsVector<T>) {
        put_array(value.size());
        for (const auto& element : value)
            put(element);
    } else {
        const Open open = begin_map();
        fields(*this, value);
        end_map(open);
    }
}

// ---- Reading
// --------------------------------------------------------------------------------------------

// One msgpack value; the values inside it follow it, each with its own. Text points into the bytes
// parsed.
struct Node {
    enum class Kind : std::uint8_t {
        nil,
        boolean,
        negative,
        positive,
        number,
        text,
        bytes,
        array,
        map
    };
    Kind kind = Kind::nil;
    std::uint32_t size = 0;  // bytes of text, elements of an array, entries of a map
    std::uint32_t end = 0;   // index behind the last value inside; 0 while that is not known
    union {
        bool boolean;
        std::int64_t negative;
        std::uint64_t positive;
        const char* data;
    } value{.positive = 0};

    std::string_view view() const { return {value.data, size}; }
};

// A parsed message, checked for what holds of every message (PROTOCOL.md, "Frames"): one value and
// nothing behind it, maps with text keys, none twice, UTF-8, limits of size, count and depth.
class Document {
  public:
    // TOO_LARGE or BAD_REQUEST, saying what and at which byte. `bytes` must outlive this.
    Status parse(std::string_view bytes);

    const Node* root() const { return nodes_.data(); }
    // What was read, also of a message that could not be parsed to its end.
    const std::vector<Node>& nodes() const { return nodes_; }
    // The value under `name` in the outermost map, as far as that was read; null otherwise.
    const Node* find(std::string_view name) const;
    // The same when it is text or bytes; empty otherwise.
    std::string_view salvage(std::string_view name) const;

  private:
    std::vector<Node> nodes_;
};

// Where in a message a value stands, for errors: a chain of what is on the stack.
struct Where {
    const Where* outer = nullptr;
    std::string_view field = {};
    std::optional<std::size_t> index = std::nullopt;

    std::string path() const;  // "sessions[0].agent"
};

// What a whole reading shares.
struct Reading {
    const Document& document;
    Source source;
    std::optional<Error> error = std::nullopt;  // the first one; after it nothing more is read

    void fail(const Where& where, ErrorCode code, std::string_view text);
};

// Reads the fields of one map.
class Reader {
  public:
    // `map` must be a map of the document; null stands for an empty one.
    Reader(Reading& reading, const Node* map, const Where& where);

    template <typename T>
    void required(std::string_view field, T& value, const Rule& rule = kAnything) {
        if (const Node* node = take(field, true)) get(*node, Where{&where_, field}, value, rule);
    }
    template <typename T>
    void optional(std::string_view field, T& value, const Rule& rule = kAnything) {
        const Node* node = take(field, false);
        if (node == nullptr) return;
        // Empty text says the same as no text, so that a minimum length does not forbid it.
        if (kIsText<T> && node->kind == Node::Kind::text && node->size == 0) return;
        get(*node, Where{&where_, field}, value, rule);
    }
    template <typename T>
    void defaulted(std::string_view field, T& value, const Rule& rule = kAnything) {
        optional(field, value, rule);
    }
    void required_bytes(std::string_view field, std::string& value, const Rule& rule = kAnything);
    void optional_bytes(std::string_view field, std::string& value, const Rule& rule = kAnything);
    template <typename E>
    void word(std::string_view field, E& value, E fallback) {
        const Node* node = take(field, true);
        if (node == nullptr) return;
        value = fallback;
        const bool known =
            node->kind == Node::Kind::text && parse_word(node->view(), std::type_identity<E>{});
        if (node->kind == Node::Kind::text && !known && reading_.source == Source::reply) return;
        get(*node, Where{&where_, field}, value, kAnything);
    }
    template <typename... Ts>
    void one_of(std::string_view field, std::variant<Ts...>& value) {
        const Node* node = take(field, true);
        std::string kind;
        if (node == nullptr || !get(*node, Where{&where_, field}, kind, kAnything)) return;
        const bool known = (emplace_if<Ts>(kind, value) || ...);
        if (!known) return unknown_word(Where{&where_, field}, kind);
        std::visit([&](auto& alternative) { fields(*this, alternative); }, value);
    }
    void check(bool holds, std::string_view field, std::string_view text);
    // A struct whose map may be absent when it has no required field, and whose fields stand in
    // errors without the name of that map: the body of a frame.
    template <typename T>
    void body(std::string_view field, T& value) {
        const Node* node = take(field, false);
        if (reading_.error || (node != nullptr && !is_map(*node, Where{&where_, field}))) return;
        Reader inner(reading_, node, where_);
        fields(inner, value);
    }

  private:
    template <typename T, typename Variant>
    static bool emplace_if(std::string_view kind, Variant& value) {
        if (kind != kind_name(T{})) return false;
        value = T{};
        return true;
    }

    // The value of a field; null when absent, nil, or when reading has failed already.
    const Node* take(std::string_view field, bool needed);
    template <typename T>
    bool get(const Node& node, const Where& where, T& value, const Rule& rule);
    template <typename T>
    bool get_elements(const Node& node, const Where& where, T& value, const Rule& rule);
    template <typename T>
    bool get_entries(const Node& node, const Where& where, T& value, const Rule& rule);

    bool get_bool(const Node& node, const Where& where, bool& value);
    bool get_int(const Node& node, const Where& where, std::int64_t& value, std::int64_t min,
                 std::int64_t max);
    bool get_uint(const Node& node, const Where& where, std::uint64_t& value, std::uint64_t max);
    bool get_text(const Node& node, const Where& where, std::string& value, const Rule& rule);
    bool get_bytes(const Node& node, const Where& where, std::string& value, const Rule& rule);
    bool get_wall(const Node& node, const Where& where, WallTime& value);
    // Whether it is an array of as many elements as the rule allows.
    bool is_array(const Node& node, const Where& where, const Rule& rule);
    bool is_map(const Node& node, const Where& where);
    bool has_count(const Node& node, const Where& where, const Rule& rule);
    bool keeps_to(const Rule& rule, const Node& node, const Where& where);
    void unknown_word(const Where& where, std::string_view word);
    bool in_range(const Where& where, std::int64_t value, const Rule& rule);

    Reading& reading_;
    Where where_;
    const Node* nodes_;
    std::uint32_t entries_ = 0;
    std::uint32_t first_ = 0;
    std::uint32_t end_ = 0;
    std::uint32_t cursor_ = 0;  // fields mostly come in the order in which they are asked for
};

template <typename T>
bool Reader::get(const Node& node, const Where& where, T& value, const Rule& rule) {
    if constexpr (std::same_as<T, bool>) {
        return get_bool(node, where, value);
    } else if constexpr (std::signed_integral<T>) {
        std::int64_t wide = 0;
        if (!get_int(node, where, wide, std::numeric_limits<T>::min(),
                     std::numeric_limits<T>::max()))
            return false;
        value = static_cast<T>(wide);
        return in_range(where, wide, rule);
    } else if constexpr (std::unsigned_integral<T>) {
        // Numbers of requests end where a signed 64-bit integer does, because stores keep them as
        // such.
        constexpr std::uint64_t kMax = std::numeric_limits<T>::max();
        constexpr std::uint64_t kSigned = std::numeric_limits<std::int64_t>::max();
        std::uint64_t wide = 0;
        const bool narrow = reading_.source == Source::request && kMax > kSigned;
        if (!get_uint(node, where, wide, narrow ? kSigned : kMax)) return false;
        value = static_cast<T>(wide);
        return wide > kSigned || in_range(where, static_cast<std::int64_t>(wide), rule);
    } else if constexpr (std::is_enum_v<T>) {
        if (node.kind == Node::Kind::text) {
            const std::optional<T> known = parse_word(node.view(), std::type_identity<T>{});
            if (known) value = *known;
            if (!known) unknown_word(where, node.view());
            return known.has_value();
        }
        std::string text;
        return get_text(node, where, text, rule);  // fails, and says what is wrong
    } else if constexpr (std::same_as<T, Duration>) {
        std::int64_t ms = 0;
        if (!get(node, where, ms, rule)) return false;
        value = Duration(ms);
        return true;
    } else if constexpr (std::same_as<T, WallTime>) {
        return get_wall(node, where, value);
    } else if constexpr (std::same_as<T, std::string>) {
        return get_text(node, where, value, rule);
    } else if constexpr (kIsStrong<T>) {
        std::string text;
        if (!get_text(node, where, text, rule)) return false;
        value = T(std::move(text));
        return true;
    } else if constexpr (kIsMap<T>) {
        return get_entries(node, where, value, rule);
    } else if constexpr (kIsOptional<T>) {
        return get(node, where, value.emplace(), rule);
    } else if constexpr (kIsVector<T>) {
        return get_elements(node, where, value, rule);
    } else {
        if (!is_map(node, where)) return false;
        Reader inner(reading_, &node, where);
        fields(inner, value);
        return !reading_.error.has_value();
    }
}

template <typename T>
bool Reader::get_elements(const Node& node, const Where& where, T& value, const Rule& rule) {
    if (!is_array(node, where, rule)) return false;
    value.clear();
    value.reserve(node.size);
    const Node* element = &node + 1;
    for (std::size_t i = 0; i < node.size; ++i) {
        if (!get(*element, Where{&where, {}, i}, value.emplace_back(), rule)) return false;
        element = nodes_ + element->end;
    }
    return true;
}

template <typename T>
bool Reader::get_entries(const Node& node, const Where& where, T& value, const Rule& rule) {
    if (!is_map(node, where) || !has_count(node, where, rule)) return false;
    value.clear();
    const Node* key = &node + 1;
    for (std::size_t i = 0; i < node.size; ++i) {
        const Where entry{&where, key->view()};
        std::string key_text;
        if (!get_text(*key, entry, key_text, rule)) return false;
        if (!get(key[1], entry, value[std::move(key_text)], rule)) return false;
        key = nodes_ + key[1].end;
    }
    return true;
}

// ---- Listing
// --------------------------------------------------------------------------------------------

// Collects the names of all fields that a struct and the structs inside it have.
class Names {
  public:
    template <typename T>
    void required(std::string_view field, const T&, const Rule& = kAnything) {
        found.emplace(field);
        add<T>();
    }
    template <typename T>
    void optional(std::string_view field, const T& value, const Rule& = kAnything) {
        required(field, value);
    }
    template <typename T>
    void defaulted(std::string_view field, const T& value, const Rule& = kAnything) {
        required(field, value);
    }
    void required_bytes(std::string_view field, const std::string&, const Rule& = kAnything) {
        found.emplace(field);
    }
    void optional_bytes(std::string_view field, const std::string&, const Rule& = kAnything) {
        found.emplace(field);
    }
    template <typename E>
    void word(std::string_view field, E, E) {
        found.emplace(field);
    }
    template <typename... Ts>
    void one_of(std::string_view field, const std::variant<Ts...>&) {
        found.emplace(field);
        (add<Ts>(), ...);
    }
    void check(bool, std::string_view, std::string_view) {}

    template <typename T>
    void add() {
        if constexpr (kIsOptional<T> || kIsVector<T>) {
            add<typename T::value_type>();
        } else if constexpr (kIsMap<T>) {
            add<typename T::mapped_type>();
        } else if constexpr (!kIsPlain<T>) {
            T value{};
            fields(*this, value);
        }
    }

    std::set<std::string> found;
};

}  // namespace iw::codec
