#pragma once

// JSON Schema (draft 7) for result.json: whether a text is a schema, and whether a text fits one.
// Both texts are somebody else's. A schema can ask for more time, memory and stack than there is
// (patterns above all), so a daemon checks results in a process of its own: libexec's `ischema`.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace iw::schema {

inline constexpr std::size_t kSchemaMax = 64u << 10;  // bytes
inline constexpr std::size_t kResultMax = 64u << 20;  // bytes
inline constexpr int kDepthMax = 64;                  // of objects and arrays, in either text

// too_large: over kSchemaMax. bad_request, "<path in the schema>: <what is wrong>": no JSON object,
// too deep, a reference out of the schema, to nothing or only to itself, or a rule of the wrong
// form. Paths are JSON pointers; "/" is the whole.
Status check_schema(std::string_view schema);

// The first place where a result does not fit.
struct Mismatch {
    std::string path;  // in the result, as above
    std::string rule;  // for people: "missing required property 'status'"
};
// "<path>: <rule>", one line of at most 400 bytes.
std::string to_text(const Mismatch& mismatch);

// Nothing: it fits. An error is the schema's (as check_schema says).
Result<std::optional<Mismatch>> find_mismatch(std::string_view schema, std::string_view result);

}  // namespace iw::schema
