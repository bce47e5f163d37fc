#include "common/base/text.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <numeric>

namespace iw {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Length of the well-formed sequence at the front of `text`; 0 if there is none. `point` is its
// code point.
std::size_t utf8_sequence(std::string_view text, std::uint32_t& point) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char first = byte(0);
    if (first < 0x80) {
        point = first;
        return 1;
    }
    std::size_t size = 0;
    std::uint32_t least = 0;
    if ((first & 0xE0) == 0xC0) {
        size = 2;
        least = 0x80;
        point = first & 0x1F;
    } else if ((first & 0xF0) == 0xE0) {
        size = 3;
        least = 0x800;
        point = first & 0x0F;
    } else if ((first & 0xF8) == 0xF0) {
        size = 4;
        least = 0x10000;
        point = first & 0x07;
    } else {
        return 0;
    }
    if (text.size() < size) return 0;
    for (std::size_t i = 1; i < size; ++i) {
        if ((byte(i) & 0xC0) != 0x80) return 0;
        point = (point << 6) | (byte(i) & 0x3Fu);
    }
    if (point < least || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) return 0;
    return size;
}

bool is_control(std::uint32_t point) {
    return point < 0x20 || (point >= 0x7F && point < 0xA0);
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            diagonal = row[j];
            row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
        }
    }
    return row[b.size()];
}

}  // namespace

bool is_utf8(std::string_view text) {
    while (!text.empty()) {
        std::uint32_t point = 0;
        const std::size_t size = utf8_sequence(text, point);
        if (size == 0) return false;
        text.remove_prefix(size);
    }
    return true;
}

std::string printable(std::string_view text, bool single_line) {
    std::string result;
    result.reserve(text.size());
    while (!text.empty()) {
        std::uint32_t point = 0;
        const std::size_t size = utf8_sequence(text, point);
        const bool space = size == 1 && (point == '\n' || point == '\t');
        if (space) {
            result += single_line ? ' ' : static_cast<char>(point);
        } else if (size == 0 || is_control(point)) {
            result += kReplacement;
        } else {
            result += text.substr(0, size);
        }
        text.remove_prefix(size == 0 ? 1 : size);
    }
    return result;
}

std::string short_line(std::string_view text, std::size_t bytes_max) {
    std::string line = printable(text, /*single_line=*/true);
    if (line.size() <= bytes_max) return line;
    std::size_t end = bytes_max;
    while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xC0) == 0x80)
        --end;
    line.resize(end);
    return line;
}

std::string nearest(std::string_view text, const std::vector<std::string>& candidates) {
    std::string best;
    std::size_t best_distance = std::min<std::size_t>(3, text.size() / 3) + 1;
    for (const std::string& candidate : candidates) {
        const std::size_t distance = edit_distance(text, candidate);
        if (distance < best_distance) {
            best_distance = distance;
            best = candidate;
        }
    }
    return best;
}

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
    std::string result;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        if (i > 0) result += separator;
        result += parts[i];
    }
    return result;
}

std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> parts;
    while (true) {
        const std::size_t end = text.find(separator);
        parts.emplace_back(text.substr(0, end));
        if (end == std::string_view::npos) return parts;
        text.remove_prefix(end + 1);
    }
}

std::string_view trim(std::string_view text) {
    constexpr std::string_view kSpace = " \t\r\n";
    const std::size_t begin = text.find_first_not_of(kSpace);
    if (begin == std::string_view::npos) return {};
    return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::string to_lower(std::string_view text) {
    std::string result(text);
    std::ranges::transform(result, result.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    return result;
}

std::string to_hex(std::string_view bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string result;
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        result += kDigits[byte >> 4];
        result += kDigits[byte & 15];
    }
    return result;
}

bool parse_int(std::string_view text, long long min, long long max, long long& value) {
    long long parsed = 0;
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, parsed);
    if (error != std::errc{} || rest != end || parsed < min || parsed > max) return false;
    value = parsed;
    return true;
}

}  // namespace iw
