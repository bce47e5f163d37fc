#include "common/codec/forms.h"

#include <algorithm>
#include <cstddef>

#include "common/base/ids.h"

namespace iw::codec {
namespace {

constexpr int kJsonDepthMax = 32;

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// Walks over one JSON value. Every function leaves `rest_` behind what it accepted.
class JsonCheck {
  public:
    explicit JsonCheck(std::string_view text) : rest_(text) {}

    bool is_one_object() {
        skip_space();
        if (rest_.empty() || rest_.front() != '{' || !value(kJsonDepthMax)) return false;
        skip_space();
        return rest_.empty();
    }

  private:
    void skip_space() {
        const std::size_t size = rest_.find_first_not_of(" \t\r\n");
        rest_.remove_prefix(std::min(size, rest_.size()));
    }

    bool take(std::string_view word) {
        if (!rest_.starts_with(word)) return false;
        rest_.remove_prefix(word.size());
        return true;
    }

    bool value(int depth) {
        skip_space();
        if (rest_.empty() || depth == 0) return false;
        switch (rest_.front()) {
            case '{':
                return members('}', depth);
            case '[':
                return members(']', depth);
            case '"':
                return text();
            case 't':
                return take("true");
            case 'f':
                return take("false");
            case 'n':
                return take("null");
            default:
                return number();
        }
    }

    // The inside of an object or an array, up to and with `end`.
    bool members(char end, int depth) {
        rest_.remove_prefix(1);
        skip_space();
        if (take({&end, 1})) return true;
        while (true) {
            if (end == '}' && !member_name()) return false;
            if (!value(depth - 1)) return false;
            skip_space();
            if (take({&end, 1})) return true;
            if (!take(",")) return false;
        }
    }

    bool member_name() {
        skip_space();
        if (!text()) return false;
        skip_space();
        return take(":");
    }

    bool text() {
        if (!take("\"")) return false;
        while (!rest_.empty()) {
            const char c = rest_.front();
            if (static_cast<unsigned char>(c) < 0x20) return false;
            rest_.remove_prefix(1);
            if (c == '"') return true;
            if (c == '\\' && !escape()) return false;
        }
        return false;
    }

    bool escape() {
        if (rest_.empty()) return false;
        const char c = rest_.front();
        rest_.remove_prefix(1);
        if (c != 'u') return std::string_view("\"\\/bfnrt").find(c) != std::string_view::npos;
        if (rest_.size() < 4 || !std::ranges::all_of(rest_.substr(0, 4), is_hex)) return false;
        rest_.remove_prefix(4);
        return true;
    }

    bool digits() {
        const auto end = std::ranges::find_if_not(rest_, is_digit);
        const auto size = static_cast<std::size_t>(end - rest_.begin());
        rest_.remove_prefix(size);
        return size > 0;
    }

    bool number() {
        take("-");
        if (!take("0") && !digits()) return false;
        if (take(".") && !digits()) return false;
        if (!take("e") && !take("E")) return true;
        if (!take("+")) take("-");
        return digits();
    }

    std::string_view rest_;
};

}  // namespace

bool is_line(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        if (byte < 0x20 || byte == 0x7f) return false;
        // C1 in UTF-8: C2 80 to C2 9F.
        const bool pair = byte == 0xc2 && i + 1 < text.size();
        if (pair && static_cast<unsigned char>(text[i + 1]) < 0xa0) return false;
    }
    return true;
}

bool is_absolute_path(std::string_view text) {
    return text.starts_with('/') && is_line(text);
}

bool is_sha256_hex(std::string_view text) {
    return text.size() == 64 &&
           std::ranges::all_of(text, [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); });
}

bool are_retry_causes(const std::vector<Detail>& causes) {
    return std::ranges::all_of(causes, [](Detail cause) {
        return cause == Detail::exited || cause == Detail::signal || cause == Detail::disk_limit ||
               cause == Detail::result_missing || cause == Detail::result_invalid ||
               cause == Detail::timeout;
    });
}

bool is_json_object(std::string_view text) {
    return JsonCheck(text).is_one_object();
}

bool is_session_id_or_empty(std::string_view text) {
    return text.empty() || is_session_id(text);
}

bool is_json_object_or_empty(std::string_view text) {
    return text.empty() || is_json_object(text);
}

}  // namespace iw::codec
