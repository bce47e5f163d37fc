#pragma once

// Pure helpers on text that comes from people, peers and agents.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace iw {

// Well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text);

// For a terminal or a log line: control characters (C0 but tab and newline, DEL, C1) and bytes that
// are not UTF-8 become U+FFFD; with `single_line` newlines and tabs become spaces. No escape
// sequence survives.
std::string printable(std::string_view text, bool single_line);

// One printable line of at most `bytes_max` bytes, never cut inside a character.
std::string short_line(std::string_view text, std::size_t bytes_max);

// The candidate nearest to `text` by edit distance, at most a third of its length (and 3) away;
// empty if none.
std::string nearest(std::string_view text, const std::vector<std::string>& candidates);

// "a, b, c".
std::string join(const std::vector<std::string>& parts, std::string_view separator);
std::vector<std::string> split(std::string_view text, char separator);
std::string_view trim(std::string_view text);
std::string to_lower(std::string_view text);
std::string to_hex(std::string_view bytes);

// A whole number in [min, max] and nothing else; false otherwise.
bool parse_int(std::string_view text, long long min, long long max, long long& value);

}  // namespace iw
