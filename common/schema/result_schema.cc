// Without it the library ends the process over a wrong schema.
#define VALIJSON_USE_EXCEPTIONS 1

#include "common/schema/result_schema.h"

#include <algorithm>
#include <array>
#include <exception>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <utility>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>
#include <vector>

#include "common/base/text.h"

namespace iw::schema {
namespace {

using Json = nlohmann::json;
using Adapter = valijson::adapters::NlohmannJsonAdapter;

constexpr std::size_t kTextMax = 400;

// Before a parser builds anything: how deep objects and arrays stand in each other.
int depth_of(std::string_view text) {
    int depth = 0;
    int deepest = 0;
    bool in_string = false;
    for (std::size_t at = 0; at < text.size(); ++at) {
        const char c = text[at];
        if (in_string && c == '\\') ++at;
        if (c == '"') in_string = !in_string;
        if (in_string) continue;
        if (c == '{' || c == '[') deepest = std::max(deepest, ++depth);
        if (c == '}' || c == ']') --depth;
    }
    return deepest;
}

std::string fault(const std::string& path, const std::string& what) {
    return (path.empty() ? "/" : path) + ": " + what;
}

// A key as a part of a JSON pointer.
std::string part(std::string key) {
    for (const auto& [from, to] : {std::pair("~", "~0"), std::pair("/", "~1")}) {
        for (std::size_t at = key.find(from); at != std::string::npos; at = key.find(from, at + 2))
            key.replace(at, 1, to);
    }
    return "/" + key;
}

// ---- The schema --------------------------------------------------------------------------------

// Looks for what the library would follow for ever, fetch, or trip over without saying where.
class SchemaLook {
  public:
    explicit SchemaLook(const Json& root) : root_(root) {}

    // What is wrong; nothing: all is well.
    std::optional<std::string> fault_in(const Json& node, const std::string& path) {
        if (node.is_object()) {
            if (auto wrong = own_fault(node, path)) return wrong;
        }
        for (const auto& [key, value] : node.items()) {
            // Values to compare with are no schemas, whatever they hold.
            const bool is_data = node.is_object() && (key == "const" || key == "enum" ||
                                                      key == "default" || key == "examples");
            if (is_data || !value.is_structured()) continue;
            if (auto wrong = fault_in(value, path + part(key))) return wrong;
        }
        return std::nullopt;
    }

  private:
    std::optional<std::string> own_fault(const Json& node, const std::string& path) {
        if (const auto found = node.find("$ref"); found != node.end() && found->is_string()) {
            const auto& text = found->get_ref<const std::string&>();
            if (!text.starts_with('#'))
                return fault(path, "$ref leads out of the schema (\"" + text + "\")");
            if (target_of(text) == nullptr)
                return fault(path, "$ref leads to nothing (\"" + text + "\")");
        }
        if (!path.empty() && node.contains("$id") && node["$id"].is_string())
            return fault(path, "$id is allowed at the top only");
        if (auto wrong = pattern_fault(node, path)) return wrong;
        if (goes_in_circles(node))
            return fault(path, "it refers to itself without going deeper into the result");
        return std::nullopt;
    }

    static std::optional<std::string> pattern_fault(const Json& node, const std::string& path) {
        std::vector<std::string> patterns;
        if (const auto found = node.find("pattern"); found != node.end() && found->is_string())
            patterns.push_back(found->get<std::string>());
        if (const auto found = node.find("patternProperties");
            found != node.end() && found->is_object()) {
            for (const auto& [pattern, rule] : found->items())
                patterns.push_back(pattern);
        }
        for (const std::string& pattern : patterns) {
            try {
                static_cast<void>(std::regex(pattern));
            } catch (const std::regex_error&) {
                return fault(path, "\"" + pattern + "\" is no regular expression");
            }
        }
        return std::nullopt;
    }

    const Json* target_of(const std::string& reference) const {
        try {
            const Json::json_pointer pointer(reference.substr(1));
            return root_.contains(pointer) ? &root_.at(pointer) : nullptr;
        } catch (const Json::exception&) {
            return nullptr;  // no pointer
        }
    }

    // Schemas that are applied to the same value as this one.
    std::vector<const Json*> applied_with(const Json& node) const {
        std::vector<const Json*> others;
        if (!node.is_object()) return others;
        if (const auto found = node.find("$ref"); found != node.end() && found->is_string()) {
            if (const Json* target = target_of(found->get<std::string>())) others.push_back(target);
            return others;
        }
        for (const char* key : {"not", "if", "then", "else"}) {
            if (const auto found = node.find(key); found != node.end()) others.push_back(&*found);
        }
        for (const char* key : {"allOf", "anyOf", "oneOf", "dependencies"}) {
            const auto found = node.find(key);
            if (found == node.end() || !found->is_structured()) continue;
            for (const Json& other : *found)
                others.push_back(&other);
        }
        return others;
    }

    bool goes_in_circles(const Json& node) {
        const auto [entry, is_new] = on_the_way_.try_emplace(&node, true);
        if (!is_new) return entry->second;
        for (const Json* other : applied_with(node)) {
            if (goes_in_circles(*other)) return true;
        }
        on_the_way_[&node] = false;
        return false;
    }

    const Json& root_;
    std::map<const Json*, bool> on_the_way_;  // false: known to end
};

struct ParsedSchema {
    Json text;
    valijson::Schema rules;
};

// The schema, or what is wrong with it. `parsed` keeps what the rules refer to.
Status parse_schema(std::string_view text, ParsedSchema& parsed) {
    if (text.size() > kSchemaMax) {
        return make_error(ErrorCode::too_large, "the schema has " + std::to_string(text.size()) +
                                                    " bytes; at most " +
                                                    std::to_string(kSchemaMax));
    }
    const auto refuse = [](const std::string& what) {
        return make_error(ErrorCode::bad_request, printable(what, true));
    };
    if (depth_of(text) > kDepthMax)
        return refuse(fault("", "deeper than " + std::to_string(kDepthMax) + " levels"));
    parsed.text = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!parsed.text.is_object()) return refuse(fault("", "a schema is a JSON object"));
    if (const auto wrong = SchemaLook(parsed.text).fault_in(parsed.text, "")) return refuse(*wrong);
    try {
        valijson::SchemaParser().populateSchema(Adapter(parsed.text), parsed.rules);
    } catch (const std::exception& error) {
        return refuse(fault("", error.what()));
    }
    return Done{};
}

// ---- A result ----------------------------------------------------------------------------------

// The library's "<root>", "[findings]", "[0]" as a JSON pointer.
std::string path_of(const std::vector<std::string>& context) {
    std::string path;
    for (const std::string& step : context) {
        if (step.size() >= 2 && step.front() == '[' && step.back() == ']')
            path += part(step.substr(1, step.size() - 2));
    }
    return path.empty() ? "/" : path;
}

std::string rule_of(std::string words) {
    while (words.ends_with('.'))
        words.pop_back();
    if (!words.empty() && words.front() >= 'A' && words.front() <= 'Z')
        words.front() = static_cast<char>(words.front() - 'A' + 'a');
    return words;
}

std::optional<Mismatch> validate(const ParsedSchema& schema, const Json& result) {
    const Adapter target(result);
    // Faults can be many and long: they are collected only when there is one.
    if (valijson::Validator().validate(schema.rules, target, nullptr)) return std::nullopt;
    valijson::ValidationResults faults;
    valijson::Validator().validate(schema.rules, target, &faults);
    // The first one is the innermost; those after it say that what holds it does not fit either.
    valijson::ValidationResults::Error first;
    if (!faults.popError(first)) return Mismatch{.path = "/", .rule = "it does not fit"};
    return Mismatch{.path = path_of(first.context), .rule = rule_of(first.description)};
}

}  // namespace

std::string to_text(const Mismatch& mismatch) {
    std::string text = printable(mismatch.path + ": " + mismatch.rule, true);
    if (text.size() <= kTextMax) return text;
    std::size_t end = kTextMax - 3;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80)
        --end;
    return text.substr(0, end) + "...";
}

Status check_schema(std::string_view schema) {
    ParsedSchema parsed;
    return parse_schema(schema, parsed);
}

Result<std::optional<Mismatch>> find_mismatch(std::string_view schema, std::string_view result) {
    ParsedSchema parsed;
    if (const Status read = parse_schema(schema, parsed); !read) return read.error();
    const auto unfit = [](std::string rule) {
        return std::optional(Mismatch{.path = "/", .rule = std::move(rule)});
    };
    if (result.size() > kResultMax)
        return unfit("larger than " + std::to_string(kResultMax >> 20) + " MiB");
    if (depth_of(result) > kDepthMax)
        return unfit("deeper than " + std::to_string(kDepthMax) + " levels");
    const Json json = Json::parse(result, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded()) return unfit("no JSON");
    try {
        return validate(parsed, json);
    } catch (const std::exception& error) {
        return unfit(std::string("it could not be checked: ") + error.what());
    }
}

}  // namespace iw::schema
