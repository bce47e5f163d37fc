#include "common/base/text.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace iw {
namespace {

TEST(IsUtf8, AcceptsWellFormedText) {
    const std::vector<std::string_view> rows = {"",
                                                "plain",
                                                "\x7f",
                                                "\xC2\x80",      // U+0080, the least of two bytes
                                                "\xDF\xBF",      // U+07FF
                                                "\xE0\xA0\x80",  // U+0800
                                                "\xED\x9F\xBF",  // U+D7FF, below the surrogates
                                                "\xEE\x80\x80",  // U+E000, above them
                                                "\xF0\x90\x80\x80",  // U+10000
                                                "\xF4\x8F\xBF\xBF",  // U+10FFFF
                                                std::string_view("a\0b", 3)};
    for (const std::string_view text : rows)
        EXPECT_TRUE(is_utf8(text)) << to_hex(text);
}

TEST(IsUtf8, RefusesMalformedText) {
    const std::vector<std::string_view> rows = {"\x80",              // a continuation alone
                                                "\xFF",              // no first byte
                                                "\xC0\x80",          // overlong NUL
                                                "\xC1\xBF",          // overlong
                                                "\xE0\x9F\xBF",      // overlong
                                                "\xF0\x8F\xBF\xBF",  // overlong
                                                "\xED\xA0\x80",      // surrogate
                                                "\xED\xBF\xBF",      // surrogate
                                                "\xF4\x90\x80\x80",  // above U+10FFFF
                                                "\xF8\x88\x80\x80\x80",
                                                "\xE2\x82",      // cut off
                                                "\xE2\x28\xA1",  // wrong continuation
                                                "ok then \xC3"};
    for (const std::string_view text : rows)
        EXPECT_FALSE(is_utf8(text)) << to_hex(text);
}

TEST(Printable, LetsNoControlCharacterThrough) {
    const std::string bad = "\xEF\xBF\xBD";
    const std::vector<std::pair<std::string, std::string>> rows = {
        {"\x1b[31mred\x1b[0m", bad + "[31mred" + bad + "[0m"},
        {"\x1b]0;title\x07", bad + "]0;title" + bad},
        {"\xC2\x9B"
         "31m",
         bad + "31m"},  // CSI as one C1 character
        {"\x9b"
         "31m",
         bad + "31m"},  // and as the bare byte
        {"a\rb", "a" + bad + "b"},
        {"del\x7f", "del" + bad},
        {std::string("nul\0", 4), "nul" + bad},
        {"gr\xC3\xBC\xC3\x9F"
         "e",
         "gr\xC3\xBC\xC3\x9F"
         "e"},
        {"cut \xE2\x82", "cut " + bad + bad}};
    for (const auto& [text, shown] : rows) {
        EXPECT_EQ(printable(text, true), shown) << to_hex(text);
        EXPECT_TRUE(is_utf8(printable(text, true)));
    }
}

TEST(Printable, KeepsLinesUnlessOneIsWanted) {
    EXPECT_EQ(printable("a\tb\nc", false), "a\tb\nc");
    EXPECT_EQ(printable("a\tb\nc", true), "a b c");
}

TEST(ShortLine, CutsBetweenCharacters) {
    EXPECT_EQ(short_line("a\nb", 10), "a b");
    EXPECT_EQ(short_line("abc", 2), "ab");
    EXPECT_EQ(short_line("a\xC3\xA9", 2), "a");            // an e with its accent takes two bytes
    EXPECT_EQ(short_line("\x1b\x1b", 5), "\xEF\xBF\xBD");  // what replaces a byte is longer
    EXPECT_EQ(short_line("\xF0\x9F\x98\x80", 3), "");
}

TEST(Nearest, FindsASlipOfThePenAndNothingFarther) {
    const std::vector<std::string> words = {"submit", "status", "list", "kill"};
    EXPECT_EQ(nearest("sumbit", words), "submit");
    EXPECT_EQ(nearest("statsu", words), "status");
    EXPECT_EQ(nearest("lists", words), "list");
    EXPECT_EQ(nearest("frobnicate", words), "");
    EXPECT_EQ(nearest("", words), "");
    EXPECT_EQ(nearest("xy", words), "");  // too short to tell
    EXPECT_EQ(nearest("submit", {}), "");
}

TEST(JoinAndSplit, AreEachOthersInverse) {
    EXPECT_EQ(join({}, ", "), "");
    EXPECT_EQ(join({"a", "b", "c"}, ", "), "a, b, c");
    EXPECT_EQ(split("a,b,,c", ','), (std::vector<std::string>{"a", "b", "", "c"}));
    EXPECT_EQ(split("", ','), (std::vector<std::string>{""}));
    EXPECT_EQ(split(",", ','), (std::vector<std::string>{"", ""}));
}

TEST(Trim, TakesBlanksFromBothEndsOnly) {
    EXPECT_EQ(trim(" \t a b\r\n"), "a b");
    EXPECT_EQ(trim(" \n"), "");
    EXPECT_EQ(trim(""), "");
}

TEST(ToLower, TouchesAsciiOnly) {
    EXPECT_EQ(to_lower("ABCz-\xC3\x9C"), "abcz-\xC3\x9C");
}

TEST(ToHex, WritesTwoDigitsAByte) {
    EXPECT_EQ(to_hex(std::string_view("\0\x0f\xff", 3)), "000fff");
}

TEST(ParseInt, TakesAWholeNumberInRangeAndNothingElse) {
    long long value = -1;
    EXPECT_TRUE(parse_int("42", 0, 100, value));
    EXPECT_EQ(value, 42);
    EXPECT_TRUE(parse_int("-3", -5, 5, value));
    EXPECT_EQ(value, -3);
    value = 7;
    for (const std::string_view text :
         {"", " 1", "1 ", "+1", "1.0", "0x1", "101", "-1", "1e2", "99999999999999999999", "one"}) {
        EXPECT_FALSE(parse_int(text, 0, 100, value)) << text;
        EXPECT_EQ(value, 7) << text;
    }
}

}  // namespace
}  // namespace iw
