#include <nlohmann/json.hpp>
#include <optional>

#include "common/base/text.h"
#include "worker/agents/agents.h"

namespace iw::worker {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kWordsMax = 300;  // of an agent's own words in a reason

Judgement success() {
    return Judgement{.success = true, .reason = ""};
}
Judgement failure(std::string reason) {
    return Judgement{.success = false, .reason = std::move(reason)};
}

// The agent's own words, fit for one line of a table.
std::string words(std::string_view text) {
    std::string line = printable(text, true);
    if (line.size() <= kWordsMax) return line;
    std::size_t end = kWordsMax;
    while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xC0) == 0x80)
        --end;
    return line.substr(0, end) + "...";
}

// Text of a field, wherever it is one; empty otherwise.
std::string text_of(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

// One event of a stream of JSON lines; nothing for other output. A terminal ends lines with CR LF.
std::optional<Json> parse_event(std::string_view line) {
    line = trim(line);
    if (line.empty() || line.front() != '{') return std::nullopt;
    Json event = Json::parse(line, nullptr, false);
    if (!event.is_object()) return std::nullopt;
    return event;
}

// The last event whose type the filter accepts. Only whole lines count: the log's end may begin
// inside one.
template <typename Filter>
std::optional<Json> last_event(std::string_view output, Filter&& accepts) {
    while (!output.empty()) {
        const auto newline = output.rfind('\n');
        const std::size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
        std::optional<Json> event = parse_event(output.substr(begin));
        if (event && accepts(text_of(*event, "type"))) return event;
        output = output.substr(0, begin == 0 ? 0 : newline);
    }
    return std::nullopt;
}

// Its subtype says "success" also when the API refused the call; only is_error tells.
Judgement judge_claude(std::string_view output) {
    const auto event = last_event(output, [](const std::string& type) { return type == "result"; });
    if (!event) return failure("the agent ended without a result event");
    const auto is_error = event->find("is_error");
    if (is_error != event->end() && is_error->is_boolean() && !is_error->get<bool>())
        return success();
    const std::string said = text_of(*event, "result");
    return failure("the agent reported an error: " +
                   words(said.empty() ? text_of(*event, "subtype") : said));
}

Judgement judge_codex(std::string_view output) {
    const auto is_end = [](const std::string& type) {
        return type == "turn.completed" || type == "turn.failed";
    };
    const auto event =
        last_event(output, [&](const std::string& type) { return type.starts_with("turn."); });
    if (!event || !is_end(text_of(*event, "type")))
        return failure("the agent ended in the middle of a turn");
    if (text_of(*event, "type") == "turn.completed") return success();
    const auto error = event->find("error");
    const std::string said =
        error != event->end() && error->is_object() ? text_of(*error, "message") : "";
    return failure("the agent's turn failed" + (said.empty() ? "" : ": " + words(said)));
}

}  // namespace

std::string_view name(SuccessRule rule) {
    switch (rule) {
        case SuccessRule::exit_code:
            return "exit_code";
        case SuccessRule::result_file:
            return "result_file";
        case SuccessRule::claude_json:
            return "claude_json";
        case SuccessRule::codex_json:
            return "codex_json";
    }
    return "exit_code";
}

std::optional<SuccessRule> parse_success_rule(std::string_view word) {
    for (const SuccessRule rule : {SuccessRule::exit_code, SuccessRule::result_file,
                                   SuccessRule::claude_json, SuccessRule::codex_json}) {
        if (name(rule) == word) return rule;
    }
    return std::nullopt;
}

Judgement judge(SuccessRule rule, int exit_code, bool has_result, std::string_view output_tail) {
    // A code other than 0 is a failure under every rule; 0 alone is a success only for those who
    // keep to it.
    if (exit_code != 0) return failure("exit code " + std::to_string(exit_code));
    switch (rule) {
        case SuccessRule::exit_code:
            return success();
        case SuccessRule::result_file:
            return has_result ? success() : failure("the agent ended without a result.json");
        case SuccessRule::claude_json:
            return judge_claude(output_tail);
        case SuccessRule::codex_json:
            return judge_codex(output_tail);
    }
    return failure("unknown success rule");
}

}  // namespace iw::worker
