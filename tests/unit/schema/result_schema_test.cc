#include "common/schema/result_schema.h"

#include <gtest/gtest.h>

#include <string>

#include "common/io/files.h"

namespace iw::schema {
namespace {

std::string fault_of(const std::string& schema) {
    const Status checked = check_schema(schema);
    return checked ? "" : checked.error().message;
}

std::string mismatch_of(const std::string& schema, const std::string& result) {
    const auto found = find_mismatch(schema, result);
    if (!found) return "schema: " + found.error().message;
    return *found ? to_text(**found) : "";
}

std::string example(const std::string& text) {
    return *io::read_file(std::string(IW_SOURCE_DIR) + "/config/examples/" + text, 1u << 20);
}

std::string nested(const std::string& open, const std::string& close, int count) {
    std::string text;
    for (int i = 0; i < count; ++i)
        text += open;
    for (int i = 0; i < count; ++i)
        text += close;
    return text;
}

TEST(ResultSchema, TheExampleTakesWhatItDescribes) {
    const std::string schema = example("grafana-validation.schema.json");
    EXPECT_EQ(fault_of(schema), "");
    const std::string good = R"({"task": "validate-grafana-deployment", "status": "success",
        "findings": {"service_status": "running", "dashboard_accessible": true,
                     "prometheus_connected": true, "dashboard_count": 3},
        "errors": [], "warnings": [], "recommendations": ["upgrade"],
        "execution_time_seconds": 1.5, "completed_at": "2025-11-18T15:35:00Z"})";
    EXPECT_EQ(mismatch_of(schema, good), "");

    const auto with = [&](const std::string& from, const std::string& to) {
        std::string text = good;
        return mismatch_of(schema, text.replace(text.find(from), from.size(), to));
    };
    EXPECT_EQ(with("\"running\"", "\"sleeping\""),
              "/findings/service_status: failed to match against any enum values");
    EXPECT_EQ(with("\"upgrade\"", "7"),
              "/recommendations/0: value type not permitted by 'type' constraint");
    EXPECT_EQ(with("\"errors\": [],", ""), "/: missing required property 'errors'");
    EXPECT_EQ(with("2025-11-18T15:35:00Z", "noon"),
              "/completed_at: string should be a valid date-time");
}

TEST(ResultSchema, WhatIsNoSchemaIsRefusedWithItsPlace) {
    EXPECT_EQ(fault_of("{\"type\":"), "/: a schema is a JSON object");
    EXPECT_EQ(fault_of("[]"), "/: a schema is a JSON object");
    EXPECT_EQ(fault_of(""), "/: a schema is a JSON object");
    EXPECT_NE(fault_of(R"({"type": "strnig"})"), "");
    EXPECT_NE(fault_of(R"({"required": "status"})"), "");
    EXPECT_NE(fault_of(R"({"properties": []})"), "");
    EXPECT_EQ(fault_of(R"({"properties": {"a": {"pattern": "(["}}})"),
              "/properties/a: \"([\" is no regular expression");
    EXPECT_EQ(fault_of(R"({"patternProperties": {"*": {}}})"), "/: \"*\" is no regular expression");
}

TEST(ResultSchema, ReferencesStayInsideTheSchema) {
    EXPECT_EQ(fault_of(R"({"properties": {"a/b": {"$ref": "http://example.com/s.json"}}})"),
              "/properties/a~1b: $ref leads out of the schema (\"http://example.com/s.json\")");
    EXPECT_NE(fault_of(R"({"items": [{"$ref": "/etc/passwd"}]})"), "");
    EXPECT_EQ(fault_of(R"({"$ref": "#/definitions/no"})"),
              "/: $ref leads to nothing (\"#/definitions/no\")");
    EXPECT_NE(fault_of(R"({"$ref": "#name"})"), "");
    EXPECT_NE(fault_of(R"({"properties": {"a": {"$id": "http://example.com/", "items": {}}}})"),
              "");
    EXPECT_EQ(fault_of(R"({"$id": "http://example.com/s.json",
                           "properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}},
                           "enum": [{"$ref": "elsewhere"}]})"),
              "");
}

TEST(ResultSchema, SchemasThatOnlyReferToThemselvesAreRefused) {
    const std::string circle = "it refers to itself without going deeper into the result";
    EXPECT_EQ(fault_of(R"({"$ref": "#"})"), "/: " + circle);
    EXPECT_EQ(fault_of(R"({"allOf": [{"$ref": "#"}]})"), "/: " + circle);
    EXPECT_NE(fault_of(R"({"definitions": {"a": {"$ref": "#/definitions/b"},
                                           "b": {"anyOf": [{"not": {"$ref": "#/definitions/a"}}]}},
                           "properties": {"x": {"$ref": "#/definitions/a"}}})"),
              "");
    // A tree is no circle, and one rule in two places is none either.
    const std::string tree = R"({"properties": {"children": {"items": {"$ref": "#"}},
                                                "name": {"type": "string"}},
                                 "allOf": [{"$ref": "#/definitions/n"},
                                           {"$ref": "#/definitions/n"}],
                                 "definitions": {"n": {"required": ["name"]}}})";
    EXPECT_EQ(fault_of(tree), "");
    EXPECT_EQ(mismatch_of(tree, R"({"name": "a", "children": [{"name": "b"}]})"), "");
    EXPECT_EQ(mismatch_of(tree, R"({"name": "a", "children": [{"name": "b", "children": [{}]}]})"),
              "/children/0/children/0: missing required property 'name'");
}

TEST(ResultSchema, LimitsHold) {
    EXPECT_EQ(check_schema(std::string(kSchemaMax + 1, ' ')).error().code, ErrorCode::too_large);
    EXPECT_EQ(fault_of("{\"not\":" + nested("{\"not\":", "}", kDepthMax - 1) + "}"),
              "/: a schema is a JSON object");  // deep enough, but empty inside
    EXPECT_EQ(fault_of(nested("{\"not\":", "}", 8000)), "/: deeper than 64 levels");
    EXPECT_EQ(mismatch_of("{}", nested("[", "]", kDepthMax)), "");
    EXPECT_EQ(mismatch_of("{}", nested("[", "]", kDepthMax + 1)), "/: deeper than 64 levels");
    EXPECT_EQ(mismatch_of("{}", nested("[", "]", 1'000'000)), "/: deeper than 64 levels");
    EXPECT_EQ(mismatch_of("{}", "\"" + nested("[\\\"", "", 1000) + "\""), "");
    EXPECT_EQ(mismatch_of("{}", std::string(kResultMax + 1, '1')), "/: larger than 64 MiB");
}

TEST(ResultSchema, WhatIsNoJsonDoesNotFit) {
    EXPECT_EQ(mismatch_of("{}", ""), "/: no JSON");
    EXPECT_EQ(mismatch_of("{}", "{\"half\":"), "/: no JSON");
    EXPECT_EQ(mismatch_of("{}", "{} {}"), "/: no JSON");
    EXPECT_EQ(mismatch_of("{}", "null"), "");
    EXPECT_EQ(mismatch_of(R"({"type": "object"})", "null"),
              "/: value type not permitted by 'type' constraint");
    EXPECT_EQ(mismatch_of("[", "{}"), "schema: /: a schema is a JSON object");
}

TEST(ResultSchema, TextIsOneShortLine) {
    const std::string text = to_text({.path = "/a\nb", .rule = std::string(1000, 'x')});
    EXPECT_EQ(text.size(), 400u);
    EXPECT_EQ(text.find('\n'), std::string::npos);
}

}  // namespace
}  // namespace iw::schema
