#include "ctl/prompt_header.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "common/base/limits.h"
#include "common/base/text.h"

namespace iw::ctl {
namespace {

constexpr int kLinesMax = 50;
constexpr std::size_t kValueShown = 60;
constexpr std::int64_t kYear = 365LL * 86'400'000;

// A line `**Name**: value` or `**Name:** value`, its parts without the blanks around them.
struct Line {
    std::string name;  // lower case
    std::string value;
};

std::optional<Line> read_line(std::string_view text) {
    text = trim(text);
    if (!text.starts_with("**")) return std::nullopt;
    text.remove_prefix(2);
    const std::size_t end = text.find("**");
    if (end == std::string_view::npos) return std::nullopt;
    std::string_view name = trim(text.substr(0, end));
    std::string_view rest = trim(text.substr(end + 2));
    if (name.ends_with(':')) {
        name.remove_suffix(1);
    } else if (rest.starts_with(':')) {
        rest.remove_prefix(1);
    } else {
        return std::nullopt;
    }
    return Line{.name = to_lower(trim(name)), .value = std::string(trim(rest))};
}

// Follows ``` and ~~~: a fence is closed by one of its own kind that is at least as long and has
// nothing behind it.
class Fences {
  public:
    // Whether the line belongs to fenced code, the fences included.
    bool covers(std::string_view line) {
        line = trim(line);
        const char mark = line.empty() ? '\0' : line.front();
        const std::size_t found = line.find_first_not_of(mark);
        const std::size_t size = found == std::string_view::npos ? line.size() : found;
        // Three backticks with others behind them are code within a line.
        const bool is_inline = mark == '`' && line.find('`', size) != std::string_view::npos;
        const bool is_fence = (mark == '`' || mark == '~') && size >= 3 && !is_inline;
        if (open_ == 0) {
            if (!is_fence) return false;
            mark_ = mark;
            open_ = size;
            return true;
        }
        if (is_fence && mark == mark_ && size >= open_ && size == line.size()) open_ = 0;
        return true;
    }

  private:
    char mark_ = '\0';
    std::size_t open_ = 0;  // length of the fence that is open
};

std::optional<int> read_priority(std::string_view text) {
    const std::string word = to_lower(text);
    if (word == "low") return -10;
    if (word == "normal") return 0;
    if (word == "high") return 10;
    if (text.starts_with('+')) text.remove_prefix(1);
    long long value = 0;
    if (!parse_int(text, limits::kPriorityMin, limits::kPriorityMax, value)) return std::nullopt;
    return static_cast<int>(value);
}

// "TEF-123", "TEF-123, TEF-124", "[TEF-123](https://...)", "`TEF-123`".
std::string_view bare_issue(std::string_view text) {
    text = trim(text);
    if (text.starts_with('[')) {
        const std::size_t end = text.find("](");
        if (end != std::string_view::npos && text.ends_with(')')) text = text.substr(1, end - 1);
    }
    const bool quoted = text.size() >= 2 && text.front() == '`' && text.back() == '`';
    return quoted ? trim(text.substr(1, text.size() - 2)) : trim(text);
}

std::optional<std::vector<std::string>> read_issues(std::string_view text) {
    std::vector<std::string> tags;
    for (const std::string& part : split(text, ',')) {
        const std::string tag(bare_issue(part));
        // A terminal shows tags: a control character in one would be somebody's trick.
        const bool is_tag = !tag.empty() && tag.size() <= limits::kTagBytesMax && is_utf8(tag) &&
                            printable(tag, true) == tag;
        if (!is_tag) return std::nullopt;
        if (std::ranges::find(tags, tag) == tags.end()) tags.push_back(tag);
    }
    if (tags.size() > limits::kTagsMax) return std::nullopt;
    return tags;
}

struct Unit {
    std::string_view word;
    std::int64_t ms;
};
constexpr std::array kUnits = {
    Unit{"s", 1'000},        Unit{"sec", 1'000},      Unit{"secs", 1'000},
    Unit{"second", 1'000},   Unit{"seconds", 1'000},  Unit{"m", 60'000},
    Unit{"min", 60'000},     Unit{"mins", 60'000},    Unit{"minute", 60'000},
    Unit{"minutes", 60'000}, Unit{"h", 3'600'000},    Unit{"hr", 3'600'000},
    Unit{"hrs", 3'600'000},  Unit{"hour", 3'600'000}, Unit{"hours", 3'600'000},
    Unit{"d", 86'400'000},   Unit{"day", 86'400'000}, Unit{"days", 86'400'000}};

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_letter(char c) {
    return c >= 'a' && c <= 'z';
}

// Takes what holds from the front of `text`.
std::string_view take(std::string_view& text, bool (*holds)(char)) {
    const auto end = std::ranges::find_if_not(text, holds);
    const std::string_view taken = text.substr(0, static_cast<std::size_t>(end - text.begin()));
    text.remove_prefix(taken.size());
    return taken;
}

// "1", "1.5": in thousandths. Nothing for no number, and for one that no duration needs.
std::optional<std::int64_t> take_number(std::string_view& text) {
    const std::string_view whole = take(text, is_digit);
    long long value = 0;
    if (!parse_int(whole, 0, 1'000'000'000, value)) return std::nullopt;
    std::int64_t thousandths = value * 1000;
    if (!text.starts_with('.')) return thousandths;
    text.remove_prefix(1);
    const std::string_view fraction = take(text, is_digit);
    if (fraction.empty() || fraction.size() > 3) return std::nullopt;
    std::int64_t scale = 100;
    for (const char digit : fraction) {
        thousandths += (digit - '0') * scale;
        scale /= 10;
    }
    return thousandths;
}

// One field of the header into its place; a warning when it cannot be read or stands there already.
template <typename T, typename Read>
void put(std::optional<HeaderField<T>>& field, const Line& line, int number, Read read,
         PromptHeader& header, std::string_view takes) {
    const auto warn = [&](const std::string& what) {
        header.warnings.push_back("prompt line " + std::to_string(number) + ": " + line.name +
                                  " \"" + short_line(line.value, kValueShown) + "\" " + what);
    };
    if (field) return warn("is left out; line " + std::to_string(field->line) + " says it already");
    std::optional<T> value = read(line.value);
    if (!value) return warn("is left out; write " + std::string(takes));
    field = HeaderField<T>{.value = std::move(*value), .text = line.value, .line = number};
}

void read_field(const Line& line, int number, PromptHeader& header) {
    if (line.name == "priority") {
        put(header.priority, line, number, read_priority, header,
            "LOW, NORMAL, HIGH or a number from -100 to 100");
    } else if (line.name == "issue") {
        put(header.tags, line, number, read_issues, header,
            "names of at most 128 bytes, separated by commas");
    } else if (line.name == "estimated duration") {
        put(header.estimate, line, number, parse_spoken_duration, header, "as in 5 minutes");
    } else if (line.name == "max duration") {
        put(header.timeout, line, number, parse_spoken_duration, header, "as in 1 hour");
    }
}

}  // namespace

std::optional<Duration> parse_spoken_duration(std::string_view text) {
    const std::string lower = to_lower(trim(text));
    std::string_view rest = lower;
    std::int64_t total = 0;
    while (!rest.empty()) {
        const std::optional<std::int64_t> number = take_number(rest);
        if (!number) return std::nullopt;
        rest = trim(rest);
        const std::string_view word = take(rest, is_letter);
        const auto* unit = std::ranges::find(kUnits, word, &Unit::word);
        if (unit == kUnits.end()) return std::nullopt;
        if (*number / 1000 > 10 * kYear / unit->ms) return std::nullopt;
        total += *number * (unit->ms / 1000);
        if (rest.starts_with('.')) rest.remove_prefix(1);  // "5 min."
        rest = trim(rest);
    }
    if (total <= 0 || total > 10 * kYear) return std::nullopt;
    return Duration(total);
}

PromptHeader parse_prompt_header(std::string_view prompt) {
    PromptHeader header;
    Fences fences;
    for (int number = 1; number <= kLinesMax && !prompt.empty(); ++number) {
        const std::size_t end = std::min(prompt.find('\n'), prompt.size());
        const std::string_view line = prompt.substr(0, end);
        prompt.remove_prefix(std::min(end + 1, prompt.size()));
        if (fences.covers(line)) continue;
        if (line.starts_with("## ")) break;
        if (const std::optional<Line> read = read_line(line)) read_field(*read, number, header);
    }
    return header;
}

}  // namespace iw::ctl
