#include "ctl/output_log.h"

#include <stdio.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "common/io/files.h"
#include "tests/support/temp_dir.h"

namespace iw::ctl {
namespace {

void put(const std::string& path, const std::string& text) {
    ASSERT_TRUE(io::write_file(path, text, 0644, io::Sync::none).ok());
}

TEST(PlainText, DropsSequencesAndKeepsText) {
    PlainText plain;
    EXPECT_EQ(plain.feed("\x1b[31mred\x1b[0m\r\n"), "red\n");
    EXPECT_EQ(plain.feed("\x1b]0;title\aafter\x1b]2;t\x1b\\end"), "afterend");
    EXPECT_EQ(plain.feed("a\x1b(Bb\x1b=c"), "abc");
    EXPECT_EQ(plain.feed("bell\x07"), "bell\xEF\xBF\xBD");
}

TEST(PlainText, ASequenceOrCharacterMayComeInPieces) {
    PlainText plain;
    EXPECT_EQ(plain.feed("x\x1b[3"), "x");
    EXPECT_EQ(plain.feed("1my\xC3"), "y");
    EXPECT_EQ(plain.feed("\xA9z"), "éz");
}

TEST(ReadOutput, TakesTheLastLinesOverTheRotation) {
    test::TempDir folder;
    EXPECT_EQ(read_output(folder.path(), 2).error().code, ErrorCode::not_found);
    put(folder.path("output.log.1"), "1\n2\n");
    put(folder.path("output.log"), "3\n4\n");
    EXPECT_EQ(*read_output(folder.path(), 1), "4\n");
    EXPECT_EQ(*read_output(folder.path(), 3), "2\n3\n4\n");
    EXPECT_EQ(*read_output(folder.path(), 99), "1\n2\n3\n4\n");
    EXPECT_EQ(*read_output(folder.path(), 0), "");
    EXPECT_EQ(*read_output(folder.path(), std::nullopt), "1\n2\n3\n4\n");
}

TEST(ReadOutput, DoesNotFollowALink) {
    test::TempDir folder;
    put(folder.path("secret"), "secret\n");
    ASSERT_EQ(::symlink("secret", folder.path("output.log").c_str()), 0);
    EXPECT_EQ(*read_output(folder.path(), std::nullopt), "");
}

TEST(OutputFollower, FollowsGrowthRotationAndCuts) {
    test::TempDir folder;
    const std::string log = folder.path("output.log");
    put(log, "seen\n");
    OutputFollower follower(folder.path(), output_size(folder.path()));
    EXPECT_EQ(follower.read(), "");
    ASSERT_TRUE(io::append_file(log, "new\n", 0644).ok());
    EXPECT_EQ(follower.read(), "new\n");
    ASSERT_TRUE(io::append_file(log, "last\n", 0644).ok());
    ASSERT_EQ(::rename(log.c_str(), folder.path("output.log.1").c_str()), 0);
    put(log, "rotated\n");
    EXPECT_EQ(follower.read(), "last\n") << "of the file that was rotated away";
    EXPECT_EQ(follower.read(), "rotated\n");
    ASSERT_EQ(::truncate(log.c_str(), 0), 0);
    ASSERT_TRUE(io::append_file(log, "cut\n", 0644).ok());
    EXPECT_EQ(follower.read(), "cut\n");
}

}  // namespace
}  // namespace iw::ctl
