#include "ctl/lifetimes.h"

#include <gtest/gtest.h>

#include "common/io/files.h"
#include "ctl/project_limits.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/ctl/fake_broker.h"

namespace iw::ctl {
namespace {

using std::chrono::minutes;
using test::view;

constexpr Duration kHalfHour = minutes(30);
constexpr Duration kHour = minutes(60);

SessionView made_by_manager(Duration timeout, std::optional<Duration> max) {
    SessionView session = view("20251118-151000-a", SessionStatus::running, Detail::working);
    session.timeout = timeout;
    session.metadata = limits_metadata({.lifetime = kHalfHour, .max = max});
    return session;
}

TEST(Lifetimes, TheNoteInTheMetadataIsReadBack) {
    for (const std::optional<Duration> max : {std::optional<Duration>(), {Duration(90'000)}}) {
        const auto note = read_limits_metadata(limits_metadata({.lifetime = kHour, .max = max}));
        ASSERT_TRUE(note);
        EXPECT_EQ(note->lifetime, kHour);
        EXPECT_EQ(note->max, max);
    }
}

TEST(Lifetimes, OtherMetadataIsNoNote) {
    for (const char* text :
         {"", "{", "[]", "{}", R"({"limits": 5})", R"({"limits": {"lifetime_seconds": 5}})",
          R"({"limits": {"from": "elsewhere", "lifetime_seconds": 5}})",
          R"({"limits": {"from": "scripts/ops/config.sh"}})",
          R"({"limits": {"from": "scripts/ops/config.sh", "lifetime_seconds": "5"}})",
          R"({"limits": {"from": "scripts/ops/config.sh", "lifetime_seconds": 0}})",
          R"({"limits": {"from": "scripts/ops/config.sh", "lifetime_seconds": 1e300}})"}) {
        EXPECT_FALSE(read_limits_metadata(text)) << text;
    }
}

TEST(Lifetimes, WhomAnEditReaches) {
    struct Row {
        const char* what;
        SessionView session;
        std::vector<Duration> applied;
        std::optional<Duration> timeout;
    };
    SessionView submitted = made_by_manager(kHalfHour, std::nullopt);
    submitted.metadata = "{}";
    SessionView ended = made_by_manager(kHalfHour, std::nullopt);
    ended.status = SessionStatus::killed;
    SessionView waiting = made_by_manager(kHalfHour, std::nullopt);
    waiting.status = SessionStatus::created;
    const std::vector<Row> rows = {
        {"as it was made", made_by_manager(kHalfHour, std::nullopt), {}, kHour},
        {"still queued", waiting, {}, kHour},
        {"has it already", made_by_manager(kHour, std::nullopt), {}, std::nullopt},
        {"extended by hand", made_by_manager(minutes(420), std::nullopt), {}, std::nullopt},
        {"as an earlier edit left it",
         made_by_manager(minutes(420), std::nullopt),
         {minutes(420)},
         kHour},
        {"a prompt that asks for less",
         made_by_manager(minutes(10), minutes(10)),
         {},
         std::nullopt},
        {"a prompt that asked for more than the limit was",
         made_by_manager(kHalfHour, minutes(45)),
         {},
         minutes(45)},
        {"made by ictl submit", submitted, {}, std::nullopt},
        {"ended", ended, {}, std::nullopt},
    };
    for (const Row& row : rows)
        EXPECT_EQ(timeout_to_set(row.session, kHour, row.applied), row.timeout) << row.what;
}

TEST(Lifetimes, AFileThatStatesNoneChangesNothing) {
    const test::TempDir folder;
    const std::string root = folder.path("p");
    ASSERT_TRUE(io::make_folders(root + "/scripts/ops", 0755).ok());
    const auto stated = [&](const std::string& text) {
        EXPECT_TRUE(
            io::write_file(root + "/scripts/ops/config.sh", text, 0644, io::Sync::none).ok());
        return read_stated_lifetime(root);
    };
    EXPECT_EQ(read_stated_lifetime(root).value(), std::nullopt) << "no file";
    EXPECT_EQ(stated("").value(), std::nullopt) << "an editor is at it";
    EXPECT_EQ(stated("MAX_SESSION_LIFETIME_SECONDS=\n").value(), std::nullopt);
    EXPECT_EQ(stated("MAX_SESSION_LIFETIME_SECONDS=3600  # one hour\n").value(), kHour);
    EXPECT_EQ(stated("MAX_SESSION_LIFETIME_SECONDS=soon\n").error().code, ErrorCode::config);
    EXPECT_EQ(read_project_limits(root).error().code, ErrorCode::config);
}

}  // namespace
}  // namespace iw::ctl
