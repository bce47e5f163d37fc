#include "broker/journal/record_codec.h"

#include <array>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>

#include "broker/journal/little_endian.h"
#include "broker/journal/record_fields.h"

namespace iw::broker {
namespace {

// A record: version (1 byte), kind (1), time (8), then fields in rising order of their numbers. A
// field: number (1 byte), length (varint), value. Text, lists and optionals that are empty are left
// out; numbers, flags and words are always there, so that a later change of a default in the code
// does not change what an old record means.
constexpr std::size_t kFrontBytes = 10;

void put_varint(std::string& bytes, std::uint64_t value) {
    for (; value >= 0x80; value >>= 7)
        bytes.push_back(static_cast<char>(0x80 | (value & 0x7f)));
    bytes.push_back(static_cast<char>(value));
}

// False when the bytes end within it or it has more than 64 bits.
bool take_varint(std::string_view& bytes, std::uint64_t& value) {
    value = 0;
    for (unsigned shift = 0; shift < 64 && !bytes.empty(); shift += 7) {
        const auto byte = static_cast<unsigned char>(bytes.front());
        bytes.remove_prefix(1);
        if (shift == 63 && byte > 1) return false;
        value |= std::uint64_t{byte & 0x7fu} << shift;
        if ((byte & 0x80u) == 0) return true;
    }
    return false;
}

bool take_text(std::string_view& bytes, std::string& text) {
    std::uint64_t size = 0;
    if (!take_varint(bytes, size) || size > bytes.size()) return false;
    text.assign(bytes.substr(0, size));
    bytes.remove_prefix(size);
    return true;
}

// Small negative numbers stay short (zigzag).
std::uint64_t fold(std::int64_t value) {
    return (static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63);
}
std::int64_t unfold(std::uint64_t value) {
    return static_cast<std::int64_t>(value >> 1) ^ -static_cast<std::int64_t>(value & 1);
}

// Every number, flag, word and time is stored as one signed number.
template <typename T>
concept Scalar = std::is_integral_v<T> || std::is_enum_v<T> || std::same_as<T, Duration> ||
    std::same_as<T, WallTime>;

template <Scalar T>
std::uint64_t to_stored(const T& value) {
    if constexpr (std::same_as<T, Duration>) {
        return fold(value.count());
    } else if constexpr (std::same_as<T, WallTime>) {
        return fold(to_ms(value));
    } else if constexpr (std::is_enum_v<T>) {
        return fold(static_cast<std::int64_t>(value));
    } else if constexpr (std::is_unsigned_v<T>) {
        return value;
    } else {
        return fold(value);
    }
}

bool is_known(SessionStatus status) {
    return parse_session_status(name(status)) == status;
}
bool is_known(Detail detail) {
    return parse_detail(name(detail)) == detail;
}
bool is_known(OnLost policy) {
    return parse_on_lost(name(policy)) == policy;
}
bool is_known(AfterCondition condition) {
    return parse_after_condition(name(condition)) == condition;
}
bool is_known(HoldScope scope) {
    return parse_hold_scope(name(scope)) == scope;
}

template <Scalar T>
bool from_stored(std::uint64_t stored, T& value) {
    if constexpr (std::same_as<T, Duration>) {
        value = Duration(unfold(stored));
        return true;
    } else if constexpr (std::same_as<T, WallTime>) {
        value = wall_from_ms(unfold(stored));
        return true;
    } else if constexpr (std::is_enum_v<T>) {
        const std::int64_t number = unfold(stored);
        if (!std::in_range<int>(number)) return false;
        value = static_cast<T>(number);
        return is_known(value);
    } else if constexpr (std::same_as<T, bool>) {
        value = stored == 1;
        return stored <= 1;
    } else if constexpr (std::is_unsigned_v<T>) {
        value = static_cast<T>(stored);
        return std::in_range<T>(stored);
    } else {
        value = static_cast<T>(unfold(stored));
        return std::in_range<T>(unfold(stored));
    }
}

template <Scalar T>
bool take_scalar(std::string_view& bytes, T& value) {
    std::uint64_t stored = 0;
    return take_varint(bytes, stored) && from_stored(stored, value);
}

class Writer {
  public:
    explicit Writer(std::string& bytes) : bytes_(bytes) {}

    void operator()(int number, const std::string& text) {
        if (!text.empty()) field(number, text);
    }
    template <typename Tag>
    void operator()(int number, const StrongString<Tag>& id) {
        (*this)(number, id.str());
    }
    void operator()(int number, const BodyHash& hash) {
        field(number, std::string_view(reinterpret_cast<const char*>(hash.data()), hash.size()));
    }
    void operator()(int number, const std::vector<std::string>& list) {
        for (const std::string& item : list)
            field(number, item);
    }
    void operator()(int number, const std::map<std::string, std::string>& map) {
        for (const auto& [key, value] : map) {
            std::string pair;
            put_varint(pair, key.size());
            pair += key;
            pair += value;
            field(number, pair);
        }
    }
    template <typename Tag>
    void operator()(int number, const std::vector<StrongString<Tag>>& list) {
        for (const StrongString<Tag>& item : list)
            field(number, item.str());
    }
    void operator()(int number, const std::optional<Fence>& fence) {
        if (!fence) return;
        std::string both;
        put_varint(both, to_stored(fence->generation));
        put_varint(both, to_stored(fence->attempt));
        field(number, both);
    }
    void operator()(int number, const std::vector<Dependency>& list) {
        for (const Dependency& item : list) {
            std::string both;
            put_varint(both, to_stored(item.on));
            both += item.id.str();
            field(number, both);
        }
    }
    void operator()(int number, const std::optional<RetryPolicy>& policy) {
        if (!policy) return;
        std::string all;
        put_varint(all, to_stored(policy->attempts_max));
        put_varint(all, to_stored(policy->backoff));
        put_varint(all, to_stored(policy->backoff_max));
        for (const Detail cause : policy->causes)
            put_varint(all, to_stored(cause));
        field(number, all);
    }
    void operator()(int number, const std::optional<Delivered>& delivered) {
        if (!delivered) return;
        std::string all;
        put_varint(all, to_stored(delivered->files));
        put_varint(all, to_stored(delivered->bytes));
        all += delivered->manifest;
        field(number, all);
    }
    // Empty, but there.
    void operator()(int number, const std::optional<std::string>& text) {
        if (text) field(number, *text);
    }
    template <typename Tag>
    void operator()(int number, const std::optional<StrongString<Tag>>& id) {
        if (id) field(number, id->str());
    }
    void operator()(int number, const std::optional<std::vector<std::string>>& list) {
        if (!list) return;
        std::string all;
        for (const std::string& item : *list) {
            put_varint(all, item.size());
            all += item;
        }
        field(number, all);
    }
    template <Scalar T>
    void operator()(int number, const T& value) {
        scratch_.clear();
        put_varint(scratch_, to_stored(value));
        field(number, scratch_);
    }
    template <Scalar T>
    void operator()(int number, const std::optional<T>& value) {
        if (value) (*this)(number, *value);
    }

  private:
    void field(int number, std::string_view value) {
        bytes_.push_back(static_cast<char>(number));
        put_varint(bytes_, value.size());
        bytes_ += value;
    }

    std::string& bytes_;
    std::string scratch_;
};

class Reader {
  public:
    explicit Reader(std::string_view bytes) : rest_(bytes) { advance(); }

    void operator()(int number, std::string& text) {
        if (at(number)) text.assign(take());
    }
    template <typename Tag>
    void operator()(int number, StrongString<Tag>& id) {
        if (at(number)) id = StrongString<Tag>(std::string(take()));
    }
    void operator()(int number, BodyHash& hash) {
        if (!at(number)) return;
        const std::string_view value = take();
        if (value.size() != hash.size()) return fail(number);
        for (std::size_t i = 0; i < hash.size(); ++i)
            hash[i] = static_cast<std::uint8_t>(value[i]);
    }
    void operator()(int number, std::vector<std::string>& list) {
        while (at(number))
            list.emplace_back(take());
    }
    void operator()(int number, std::map<std::string, std::string>& map) {
        while (at(number)) {
            std::string_view value = take();
            std::string key;
            if (!take_text(value, key)) return fail(number);
            map[key] = std::string(value);
        }
    }
    template <typename Tag>
    void operator()(int number, std::vector<StrongString<Tag>>& list) {
        while (at(number))
            list.emplace_back(std::string(take()));
    }
    void operator()(int number, std::optional<Fence>& fence) {
        if (!at(number)) return;
        std::string_view bytes = take();
        Fence& both = fence.emplace();
        const bool good = take_scalar(bytes, both.generation) && take_scalar(bytes, both.attempt) &&
                          bytes.empty();
        if (!good) fail(number);
    }
    void operator()(int number, std::vector<Dependency>& list) {
        while (at(number)) {
            std::string_view bytes = take();
            Dependency& item = list.emplace_back();
            if (!take_scalar(bytes, item.on)) return fail(number);
            item.id = SessionId(std::string(bytes));
        }
    }
    void operator()(int number, std::optional<RetryPolicy>& policy) {
        if (!at(number)) return;
        std::string_view bytes = take();
        RetryPolicy& all = policy.emplace();
        bool good = take_scalar(bytes, all.attempts_max) && take_scalar(bytes, all.backoff) &&
                    take_scalar(bytes, all.backoff_max);
        while (good && !bytes.empty())
            good = take_scalar(bytes, all.causes.emplace_back());
        if (!good) fail(number);
    }
    void operator()(int number, std::optional<Delivered>& delivered) {
        if (!at(number)) return;
        std::string_view bytes = take();
        Delivered& all = delivered.emplace();
        if (!take_scalar(bytes, all.files) || !take_scalar(bytes, all.bytes)) return fail(number);
        all.manifest.assign(bytes);
    }
    void operator()(int number, std::optional<std::string>& text) {
        if (at(number)) text.emplace(take());
    }
    template <typename Tag>
    void operator()(int number, std::optional<StrongString<Tag>>& id) {
        if (at(number)) id.emplace(std::string(take()));
    }
    void operator()(int number, std::optional<std::vector<std::string>>& list) {
        if (!at(number)) return;
        std::string_view bytes = take();
        list.emplace();
        while (!bytes.empty()) {
            if (!take_text(bytes, list->emplace_back())) return fail(number);
        }
    }
    template <Scalar T>
    void operator()(int number, T& value) {
        if (!at(number)) return;
        std::string_view bytes = take();
        std::uint64_t stored = 0;
        const bool good = take_varint(bytes, stored) && bytes.empty() && from_stored(stored, value);
        if (!good) fail(number);
    }
    template <Scalar T>
    void operator()(int number, std::optional<T>& value) {
        if (at(number)) (*this)(number, value.emplace());
    }

    // Number of a field that is unknown here or has a value that is; nothing when all was
    // understood.
    std::optional<int> not_understood() const {
        if (failed_) return failed_;
        if (number_ >= 0) return number_;
        return std::nullopt;
    }

  private:
    bool at(int number) const { return !failed_ && number_ == number; }
    void fail(int number) { failed_ = number; }
    std::string_view take() {
        const std::string_view value = value_;
        advance();
        return value;
    }
    void advance() {
        number_ = -1;
        if (rest_.empty()) return;
        const int number = static_cast<unsigned char>(rest_.front());
        rest_.remove_prefix(1);
        std::uint64_t size = 0;
        if (!take_varint(rest_, size) || size > rest_.size()) return fail(number);
        number_ = number;
        value_ = rest_.substr(0, size);
        rest_.remove_prefix(size);
    }

    std::string_view rest_;
    int number_ = -1;  // of the field that is next, -1: none
    std::string_view value_;
    std::optional<int> failed_;
};

using MakeBody = RecordBody (*)();

// By the number of the kind: makes an empty body. The numbers are those of kind(), stated nowhere
// else.
std::array<MakeBody, 256> make_table() {
    std::array<MakeBody, 256> table{};
    [&]<std::size_t... index>(std::index_sequence<index...>) {
        ((table[kind(RecordBody(std::in_place_index<index>))] =
              [] { return RecordBody(std::in_place_index<index>); }),
         ...);
    }
    (std::make_index_sequence<std::variant_size_v<RecordBody>>{});
    return table;
}

std::optional<RecordBody> make_body(std::uint8_t number) {
    static const std::array<MakeBody, 256> table = make_table();
    if (table[number] == nullptr) return std::nullopt;
    return table[number]();
}

// The checksum was right, so the bytes are as they were written: by software that knew more than
// this.
Error not_understood(Seq seq, const std::string& what) {
    return make_error(ErrorCode::config,
                      "record " + std::to_string(seq) + " in the journal has " + what +
                          ", which this version does not know: install the version that wrote it");
}

}  // namespace

void encode_record(const Record& record, std::string& bytes) {
    const std::size_t start = bytes.size();
    bytes.resize(start + kFrontBytes);
    put_at(bytes, start, kRecordVersion);
    put_at(bytes, start + 1, kind(record.body));
    put_at(bytes, start + 2, static_cast<std::uint64_t>(to_ms(record.time)));
    Writer writer(bytes);
    std::visit([&](const auto& body) { describe(writer, body); }, record.body);
}

Result<Record> decode_record(std::string_view bytes, Seq seq) {
    if (bytes.size() < kFrontBytes) return not_understood(seq, "no front");
    const auto version = get_at<std::uint8_t>(bytes, 0);
    if (version != kRecordVersion) {
        return not_understood(seq, "version " + std::to_string(version));
    }
    const auto number = get_at<std::uint8_t>(bytes, 1);
    std::optional<RecordBody> body = make_body(number);
    if (!body) return not_understood(seq, "kind " + std::to_string(number));

    Record record{.seq = seq,
                  .time = wall_from_ms(static_cast<std::int64_t>(get_at<std::uint64_t>(bytes, 2))),
                  .body = std::move(*body)};
    Reader reader(bytes.substr(kFrontBytes));
    std::visit([&](auto& fields) { describe(reader, fields); }, record.body);
    if (const std::optional<int> field = reader.not_understood()) {
        return not_understood(seq, "field " + std::to_string(*field) + " of kind " +
                                       std::to_string(number) + " (" +
                                       std::string(name(record.body)) + ")");
    }
    return record;
}

}  // namespace iw::broker
