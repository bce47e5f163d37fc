// The database as its caller sees it: what records make of sessions, and how the file is opened and
// guarded.

#include "broker/database/database.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <set>

#include "broker/database/schema.h"
#include "tests/store/store_support.h"
#include "tests/store/system_calls.h"

namespace iw::broker {
namespace {

using test::created;
using test::every_kind;
using test::full_created;
using test::full_ended;
using test::History;
using test::must_apply;
using test::must_open;
using test::record;
using test::session_id;
using test::TempDir;

DatabaseOptions options_in(const TempDir& dir) {
    return {.file = dir.path("broker.db")};
}

SessionView must_view(Database& database, const SessionId& id) {
    const auto view = database.session(id);
    EXPECT_TRUE(view.ok() && view->has_value());
    return view.ok() && *view ? **view : SessionView{};
}

TEST(Database, BeginsEmptyAndKeepsItsEpoch) {
    const TempDir dir;
    std::string epoch;
    {
        auto database = must_open(options_in(dir));
        epoch = database->epoch();
        EXPECT_EQ(epoch.size(), 32u);
        EXPECT_EQ(database->generation(), 1u);
        EXPECT_EQ(database->applied(), 0u);
        EXPECT_TRUE(database->load_live()->sessions.empty());
        EXPECT_TRUE(database->apply({}).ok());
    }
    EXPECT_EQ(must_open(options_in(dir))->epoch(), epoch);
    struct stat status {};
    ASSERT_EQ(::stat(dir.path("broker.db").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777u, 0600u);
}

// ---- What records make of a session
// ---------------------------------------------------------------------

TEST(DatabaseView, FollowsALifeFromRecordToRecord) {
    const TempDir dir;
    auto database = must_open(options_in(dir));
    const std::vector<Record> records = every_kind();
    const SessionId id = session_id(7);
    auto apply_next = [&, next = std::size_t{0}]() mutable {
        must_apply(*database, {&records[next], 1});
        ++next;
        return next > 1 ? must_view(*database, id) : SessionView{};
    };
    apply_next();
    SessionView view = apply_next();  // created, to be started later
    EXPECT_EQ(view.status, SessionStatus::created);
    EXPECT_EQ(view.detail, Detail::delayed);
    EXPECT_EQ(view.agent, AgentName("a7"));
    EXPECT_EQ(view.origin, (Origin{"alpha", "/srv/shop"}));
    EXPECT_EQ(view.tags, full_created(7).submission.tags);
    EXPECT_EQ(view.metadata, R"({"a":[1,2]})");
    EXPECT_EQ(view.created_at, records[1].time);
    EXPECT_EQ(view.revision, 1u);
    view = apply_next();  // assigned
    EXPECT_EQ(view.detail, Detail::assigned);
    EXPECT_EQ(view.attempt, 1u);
    EXPECT_EQ(view.worker, "alpha");
    EXPECT_EQ(view.host, "alpha.host");
    view = apply_next();  // returned
    EXPECT_EQ(view.detail, Detail::retrying);
    EXPECT_EQ(view.reason, "no tmux");
    apply_next();         // assigned again
    view = apply_next();  // started
    EXPECT_EQ(view.status, SessionStatus::running);
    EXPECT_EQ(view.attempt, 2u);
    EXPECT_TRUE(view.started_at.has_value());
    EXPECT_EQ(view.workspace, "/srv/shop/x");
    view = apply_next();  // to be killed
    EXPECT_EQ(view.detail, Detail::stopping);
    view = apply_next();  // a late report
    EXPECT_EQ(view.revision, 7u);
    view = apply_next();  // ended; not to be seen yet
    EXPECT_EQ(view.status, SessionStatus::running);
    EXPECT_EQ(view.detail, Detail::delivering);
    EXPECT_FALSE(view.completed_at.has_value());
    EXPECT_FALSE(view.exit_code.has_value());
    EXPECT_FALSE((*database->result(id))->held);
    view = apply_next();  // closed
    EXPECT_EQ(view.status, SessionStatus::killed);
    EXPECT_EQ(view.detail, Detail::parent_killed);
    EXPECT_EQ(view.kill_reason, "wrong branch");
    EXPECT_EQ(view.exit_code, 143);
    EXPECT_EQ(view.result_size, 17u);
    EXPECT_EQ(view.completed_at, full_ended(id, {}).completed_at);
    EXPECT_EQ(view.revision, 9u);
}

TEST(DatabaseView, PromptResultAndSubmissionComeBackByteForByte) {
    const TempDir dir;
    auto database = must_open(options_in(dir));
    must_apply(*database, every_kind());
    const SessionId id = session_id(7);
    EXPECT_EQ((**database->prompt(id)).prompt, full_created(7).submission.prompt);
    const auto result = database->result(id);
    ASSERT_TRUE(result.ok() && *result);
    EXPECT_TRUE((*result)->held);
    EXPECT_EQ((*result)->result, full_ended(id, {}).result);
    const auto submission = database->submission(id);
    ASSERT_TRUE(submission.ok() && *submission);
    EXPECT_EQ((*submission)->key, "key-7");
    EXPECT_EQ((*submission)->prompt, full_created(7).submission.prompt);
    EXPECT_EQ((*submission)->require, full_created(7).submission.require);
    EXPECT_EQ((*submission)->expires, Duration(9000));
    for (const char* unknown : {"20251118-153043-nobody", ""}) {
        EXPECT_FALSE(database->prompt(SessionId(unknown))->has_value());
        EXPECT_FALSE(database->result(SessionId(unknown))->has_value());
        EXPECT_FALSE(database->submission(SessionId(unknown))->has_value());
        EXPECT_FALSE(database->session(SessionId(unknown))->has_value());
    }
}

// From kind to kind up to 16: what came with files that travel, edits and result schemas.
TEST(DatabaseView, FollowsAnEditedLife) {
    const TempDir dir;
    auto database = must_open(options_in(dir));
    const SessionId id = session_id(7);
    std::size_t next = 0;
    const std::vector<Record> records = test::every_kind_to_16();
    const auto apply = [&](std::size_t count) {
        must_apply(*database, std::span(records).subspan(next, count));
        next += count;
        return must_view(*database, id);
    };
    const SessionView made = apply(3);
    EXPECT_EQ(made.estimate, Duration(300'000));
    EXPECT_EQ(made.parent, session_id(1));
    const SessionView edited = apply(1);
    EXPECT_EQ(edited.parent, session_id(2));
    EXPECT_EQ(edited.tags, (std::vector<std::string>{"late", "", "a \"quoted\" tag"}));
    EXPECT_EQ(edited.metadata, R"({"b":2})");
    EXPECT_EQ(edited.revision, made.revision + 1);
    const LiveState live = *database->load_live();
    ASSERT_EQ(live.sessions.size(), 2u);
    EXPECT_EQ(live.sessions[0].ancestors, (std::vector{session_id(4), session_id(2)}));
    EXPECT_FALSE(live.sessions[0].parent_fence.has_value());
    EXPECT_EQ(live.sessions[1].ancestors, (std::vector{session_id(4), session_id(2), id}));
    // Hidden with the rest of the outcome until its files are where they are read.
    EXPECT_FALSE(apply(3).deliverables.has_value());
    const SessionView final = apply(1);
    ASSERT_TRUE(final.deliverables.has_value());
    EXPECT_EQ(final.deliverables->manifest, std::string(64, 'd'));
    EXPECT_EQ(final.deliverables->bytes, 52'428'800u);
    const EventsReply before = *database->events({.ids = {id}});
    const SessionView late = apply(1);
    EXPECT_EQ(late.tags, std::vector<std::string>{});
    EXPECT_EQ(late.metadata, "");
    EXPECT_EQ(late.status, final.status);
    // Nobody waits for news of what is final.
    EXPECT_EQ(database->events({.ids = {id}})->events.size(), before.events.size());
    EXPECT_EQ((**database->submission(id)).result_schema, R"({"type":"object"})");
}

TEST(DatabaseView, AnEditOfASessionThatIsNoLongerKeptIsPassedOver) {
    const TempDir dir;
    auto database = must_open(options_in(dir));
    SessionEdited edited;
    edited.id = session_id(3);
    edited.tags = std::vector<std::string>{"late"};
    must_apply(*database, std::vector{record(1, created(1)), record(2, edited)});
    EXPECT_EQ(database->applied(), 2u);
}

TEST(DatabaseView, ResultThatIsNotHeldHasItsSizeOnly) {
    const TempDir dir;
    auto database = must_open(options_in(dir));
    SessionEnded ended = full_ended(session_id(1), {});
    ended.result_inline = false;
    ended.result.clear();
    ended.result_size = 5u << 20;
    must_apply(*database, std::vector{record(1, created(1)), record(2, ended),
                                      record(3, SessionClosed{session_id(1), "alpha"})});
    const auto result = database->result(session_id(1));
    EXPECT_FALSE((*result)->held);
    EXPECT_EQ((*result)->session.result_size, 5u << 20);
}

// From kind to kind up to 15: what came with retries, dependencies, holds and epochs.
TEST(DatabaseView, FollowsARetriedAndAdoptedLife) {
    const TempDir dir;
    auto database = must_open(options_in(dir));
    const SessionId id = session_id(7);
    std::size_t next = 0;
    const std::vector<Record> records = test::every_kind_to_15();
    const auto apply = [&](std::size_t count) {
        must_apply(*database, std::span(records).subspan(next, count));
        next += count;
        return must_view(*database, id);
    };
    SessionView view = apply(3);  // created
    EXPECT_EQ(view.detail, Detail::blocked);
    EXPECT_EQ(view.attempts_max, 4u);
    EXPECT_EQ(view.attempts_used, 0u);
    EXPECT_EQ(view.on_lost, OnLost::requeue);
    EXPECT_EQ(view.not_before, wall_from_ms(test::kStartMs + 5000));
    EXPECT_EQ(view.expires_at, wall_from_ms(test::kStartMs + 9000));
    ASSERT_EQ(view.after.size(), 2u);
    EXPECT_EQ(view.after[0].id, session_id(2));
    EXPECT_EQ(view.after[0].on, AfterCondition::failure);
    view = apply(1);  // another timeout
    EXPECT_EQ(view.timeout, Duration(7'200'000));
    EXPECT_EQ(database->events({.after = 3})->events.front().reason, "timeout 2h, by uid:1000");
    view = apply(3);  // assigned, started, failed
    EXPECT_EQ(view.detail, Detail::retrying);
    EXPECT_EQ(view.attempts_used, 1u);
    EXPECT_EQ(view.not_before, wall_from_ms(test::kStartMs + 8000));
    view = apply(6);  // holds, assigned again, an epoch, adopted
    EXPECT_EQ(view.detail, Detail::assigned);
    EXPECT_EQ(view.generation, 2u);
    EXPECT_EQ(view.attempt, 3u);
    EXPECT_EQ(view.worker, "beta");
    EXPECT_EQ(database->epoch(), std::string(32, 'e'));
    EXPECT_EQ(database->generation(), 2u);
    const auto frame = database->load_frame();
    ASSERT_TRUE(frame.ok());
    EXPECT_TRUE(frame->restored);
    ASSERT_EQ(frame->holds.size(), 1u);
    EXPECT_EQ(frame->holds[0].name, "beta");
    EXPECT_EQ(frame->holds[0].since, records[8].time);
    view = apply(records.size() - next);
    EXPECT_EQ(view.status, SessionStatus::killed);
    EXPECT_EQ(view.attempts_used, 2u);
    database.reset();
    auto connection = sqlite::Connection::open(dir.path("broker.db"));
    auto kept = (*connection)->prepare("SELECT worker, cause, exit_code, result FROM superseded");
    ASSERT_TRUE(*kept->step());
    EXPECT_EQ(kept->text(0), "beta");
    EXPECT_EQ(kept->text(1), "exited");
    EXPECT_EQ(kept->number(2), 3);
    EXPECT_EQ(kept->text(3), test::full_superseded(id, {}).result);
}

TEST(DatabaseView, StatusesOfSeveralAtOnce) {
    const TempDir dir;
    auto database = must_open(options_in(dir));
    must_apply(*database,
               std::vector{record(1, created(1)), record(2, full_ended(session_id(1), {})),
                           record(3, created(2)), record(4, full_ended(session_id(2), {})),
                           record(5, SessionClosed{session_id(2), "alpha"})});
    EXPECT_TRUE(database->statuses({})->empty());
    const auto statuses =
        database->statuses({session_id(1), session_id(2), session_id(3), SessionId("")});
    ASSERT_TRUE(statuses.ok());
    // Decided is not final.
    EXPECT_EQ(*statuses,
              (std::map<SessionId, SessionStatus>{{session_id(1), SessionStatus::created},
                                                  {session_id(2), SessionStatus::killed}}));
}

TEST(DatabaseView, PrefixesMatchSorted) {
    const TempDir dir;
    auto database = must_open(options_in(dir));
    std::vector<Record> records;
    for (int i = 0; i < 30; ++i)
        records.push_back(record(static_cast<Seq>(i) + 1, created(i)));
    must_apply(*database, records);
    EXPECT_EQ(database->match("20251118-1500", 100)->size(), 30u);
    EXPECT_EQ(database->match("20251118-1500", 4)->size(), 4u);
    EXPECT_EQ(database->match(session_id(12).str(), 9)->size(), 1u);
    EXPECT_EQ(database->match("20251118-15001", 9)->front(), session_id(10));
    EXPECT_TRUE(database->match("2026", 9)->empty());
    EXPECT_TRUE(database->match("%", 9)->empty());
}

// ---- Keys
// -----------------------------------------------------------------------------------------------

TEST(DatabaseKeys, AreKeptApartForEachPrincipal) {
    const TempDir dir;
    auto database = must_open(options_in(dir));
    SessionCreated other = created(2);
    other.principal = "uid:7";
    other.submission.key = "key-1";
    SessionCreated keyless = created(3);
    keyless.submission.key.clear();
    must_apply(*database, std::vector{record(1, created(1)), record(2, other), record(3, keyless)});
    const auto mine = database->key("uid:1000", "key-1");
    ASSERT_TRUE(mine.ok() && *mine);
    EXPECT_EQ((*mine)->id, session_id(1));
    EXPECT_EQ((*mine)->body_hash, created(1).body_hash);
    EXPECT_EQ((*database->key("uid:7", "key-1"))->id, session_id(2));
    EXPECT_FALSE(database->key("uid:7", "key-2")->has_value());
    EXPECT_FALSE(database->key("uid:1000", "")->has_value());

    std::set<std::uint64_t> digests;
    ASSERT_TRUE(database->each_key([&](std::uint64_t digest) { digests.insert(digest); }).ok());
    EXPECT_EQ(digests, (std::set{key_digest("uid:1000", "key-1"), key_digest("uid:7", "key-1")}));
}

TEST(DatabaseKeys, DigestTellsPrincipalFromKey) {
    EXPECT_NE(key_digest("ab", "c"), key_digest("a", "bc"));
    EXPECT_EQ(key_digest("ab", "c"), key_digest("ab", "c"));
}

// A second session under a key is a broken rule of the core: refused, and nothing of the batch
// stays.
TEST(DatabaseKeys, SecondUseIsRefusedWhole) {
    const TempDir dir;
    auto database = must_open(options_in(dir));
    SessionCreated again = created(2);
    again.submission.key = "key-1";
    EXPECT_EQ(database->apply(std::vector{record(1, created(1)), record(2, again)}).error().code,
              ErrorCode::internal);
    EXPECT_EQ(database->applied(), 0u);
    EXPECT_FALSE(database->session(session_id(1))->has_value());
    // It will not go on as if nothing had been.
    EXPECT_FALSE(database->apply(std::vector{record(1, created(3))}).ok());
}

TEST(Database, RecordOfAnUnknownSessionIsRefused) {
    const TempDir dir;
    auto database = must_open(options_in(dir));
    const Status refused =
        database->apply(std::vector{record(1, SessionClosed{session_id(9), "alpha"})});
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find(session_id(9).str()), std::string::npos);
}

// ---- Files
// ----------------------------------------------------------------------------------------------

TEST(DatabaseFile, SecondOpenerIsRefused) {
    const TempDir dir;
    auto first = must_open(options_in(dir));
    must_apply(*first, std::vector{record(1, created(1))});
    const auto second = Database::open(options_in(dir));
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().code, ErrorCode::conflict);
    // And the attempt took nothing from the first.
    must_apply(*first, std::vector{record(2, created(2))});
    first.reset();
    EXPECT_EQ(must_open(options_in(dir))->applied(), 2u);
}

TEST(DatabaseFile, NewerFormatIsRefused) {
    const TempDir dir;
    must_open(options_in(dir));
    {
        auto connection = sqlite::Connection::open(dir.path("broker.db"));
        ASSERT_TRUE((*connection)->execute("PRAGMA user_version = 4").ok());
    }
    const auto refused = Database::open(options_in(dir));
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::config);
    EXPECT_NE(refused.error().message.find("format 4"), std::string::npos);
}

TEST(DatabaseFile, ForeignFilesAreRefusedAndUntouched) {
    const TempDir dir;
    {
        auto connection = sqlite::Connection::open(dir.path("broker.db"));
        ASSERT_TRUE((*connection)->execute("CREATE TABLE cats(name TEXT)").ok());
    }
    const std::string before = test::slurp(dir.path("broker.db"));
    EXPECT_EQ(Database::open(options_in(dir)).error().code, ErrorCode::config);
    EXPECT_EQ(test::slurp(dir.path("broker.db")), before);

    test::spill(dir.path("broker.db"), std::string(9000, 'x'));
    EXPECT_EQ(Database::open(options_in(dir)).error().code, ErrorCode::config);
    EXPECT_EQ(test::slurp(dir.path("broker.db")), std::string(9000, 'x'));
}

TEST(DatabaseFile, MissingFolderIsAnIoError) {
    const auto refused = Database::open({.file = "/nowhere/at/all/broker.db"});
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::io);
    EXPECT_NE(refused.error().message.find("/nowhere"), std::string::npos);
}

TEST(DatabaseFile, DamagedPagesAreCalledDamaged) {
    const TempDir dir;
    {
        auto database = must_open(options_in(dir));
        History history(3);
        history.grow(400);
        must_apply(*database, history.records());
        ASSERT_TRUE(database->sync().ok());
    }
    std::string bytes = test::slurp(dir.path("broker.db"));
    std::fill(bytes.begin() + 4096, bytes.end(), '\x5a');
    test::spill(dir.path("broker.db"), bytes);
    const auto database = Database::open(options_in(dir));
    const ErrorCode code =
        database.ok() ? (*database)->load_live().error().code : database.error().code;
    EXPECT_EQ(code, ErrorCode::config);
}

TEST(DatabaseFile, SyncEmptiesTheLogAndSaysHowFar) {
    const TempDir dir;
    auto database = must_open(options_in(dir));
    must_apply(*database, every_kind());
    EXPECT_GT(std::filesystem::file_size(dir.path("broker.db-wal")), 0u);
    const auto synced = database->sync();
    ASSERT_TRUE(synced.ok());
    EXPECT_EQ(*synced, every_kind().size());
    EXPECT_EQ(std::filesystem::file_size(dir.path("broker.db-wal")), 0u);
}

TEST(DatabaseFile, WithoutItsLogItIsBehindAndCatchesUp) {
    const TempDir dir;
    History history(11);
    history.grow(300);
    const std::span<const Record> all(history.records());
    {
        auto database = must_open(options_in(dir));
        must_apply(*database, all.first(100));
        ASSERT_TRUE(database->sync().ok());
        must_apply(*database, all.subspan(100));
        // What a power cut leaves: the synced file without the log behind it.
        std::filesystem::copy(dir.path("broker.db"), dir.path("cut.db"));
    }
    auto cut = must_open(DatabaseOptions{.file = dir.path("cut.db")});
    EXPECT_EQ(cut->applied(), 100u);
    must_apply(*cut, all.subspan(100));
    cut.reset();
    EXPECT_EQ(test::dump_database(dir.path("cut.db")), test::dump_database(dir.path("broker.db")));
}

// ---- Retention
// ------------------------------------------------------------------------------------------

TEST(DatabasePrune, DropsWhatIsPastItsTimeInPieces) {
    const TempDir dir;
    DatabaseOptions options = options_in(dir);
    options.event_retention = Duration(1'000'000);
    options.session_retention = Duration(2'000'000);
    auto database = must_open(options);
    History history(5);
    history.grow(2500);
    must_apply(*database, history.records());
    const std::size_t live = database->load_live()->sessions.size();
    const WallTime end = history.records().back().time;

    EXPECT_EQ(*database->prune(test::record(1, created(1)).time), false);  // nothing is due yet
    int calls = 1;
    while (*database->prune(end))
        ++calls;
    EXPECT_GT(calls, 2);  // 1,500 records are due, 500 a call
    const auto events = database->events({.epoch = database->epoch(), .after = 5});
    ASSERT_TRUE(events.ok());
    EXPECT_TRUE(events->gap);
    EXPECT_GE(events->events.front().time, end - options.event_retention);

    while (*database->prune(end + Duration(10'000'000)))
        ++calls;
    EXPECT_EQ(database->load_live()->sessions.size(), live);
    EXPECT_EQ(database
                  ->list({.status = {SessionStatus::completed, SessionStatus::failed,
                                     SessionStatus::killed}})
                  ->sessions.size(),
              0u);
    std::size_t keys = 0;
    ASSERT_TRUE(database->each_key([&](std::uint64_t) { ++keys; }).ok());
    EXPECT_LE(keys, live);
    EXPECT_EQ(*database->prune(end + Duration(10'000'000)), false);
}

// What goes before its time takes its events along, and leaves its key behind.
TEST(DatabasePrune, KeepsSoManyFinalSessionsAndTheKeysOfTheOthers) {
    const TempDir dir;
    DatabaseOptions options = options_in(dir);
    options.sessions_max = 100;
    auto database = must_open(options);
    std::vector<Record> records;
    const auto add = [&](RecordBody body) {
        records.push_back(record(records.size() + 1, std::move(body)));
    };
    for (int i = 0; i < 1300; ++i) {
        add(created(i));
        add(full_ended(session_id(i), {}));
        add(SessionClosed{session_id(i), "alpha"});
    }
    add(created(1300));
    const std::span<const Record> all(records);
    must_apply(*database, all.first(3000));
    const WallTime now = records.back().time;
    while (*database->prune(now)) {
    }
    must_apply(*database, all.subspan(3000));  // counted on
    while (*database->prune(now)) {
    }
    const auto kept = database->list({});
    EXPECT_EQ(kept->sessions.size(), 101u);
    EXPECT_EQ(kept->sessions.front().id, session_id(1200));
    EXPECT_EQ(kept->sessions.back().id, session_id(1300));
    const auto events = database->events({.epoch = database->epoch(), .after = 10});
    EXPECT_TRUE(events->gap);
    EXPECT_EQ(events->events.front().id, session_id(1200));
    const auto known = database->key("uid:1000", "key-7");
    ASSERT_TRUE(known.ok() && *known);
    EXPECT_EQ((*known)->id, session_id(7));
    EXPECT_EQ((*known)->body_hash, created(7).body_hash);
    std::size_t keys = 0;
    ASSERT_TRUE(database->each_key([&](std::uint64_t) { ++keys; }).ok());
    EXPECT_EQ(keys, 1301u);
    // Opened anew it counts by itself; and keys go with the time of their sessions.
    database.reset();
    options.sessions_max = 50;
    database = must_open(options);
    while (*database->prune(now)) {
    }
    EXPECT_EQ(database->list({})->sessions.size(), 51u);
    while (*database->prune(now + options.session_retention + Duration(1))) {
    }
    EXPECT_FALSE(database->key("uid:1000", "key-7")->has_value());
    EXPECT_EQ(database->list({})->sessions.size(), 1u);
}

// ---- Trouble with the disk
// -------------------------------------------------------------------------------

TEST(DatabaseTrouble, FullDiskIsUndoneAndMayBeTriedAgain) {
    const TempDir dir;
    auto database = must_open(options_in(dir));
    must_apply(*database, std::vector{record(1, created(1))});
    SessionCreated big = created(2);
    big.submission.prompt.assign(100'000, 'x');
    test::before_system_call = [](const std::string& call) {
        return call == "pwrite" ? ENOSPC : 0;
    };
    const Status full = database->apply(std::vector{record(2, big)});
    test::before_system_call = nullptr;
    ASSERT_FALSE(full.ok());
    EXPECT_EQ(full.error().code, ErrorCode::storage_low);
    EXPECT_EQ(database->applied(), 1u);
    must_apply(*database, std::vector{record(2, big)});
    EXPECT_EQ((**database->prompt(session_id(2))).prompt, big.submission.prompt);
}

TEST(DatabaseTrouble, FailedWriteEndsIt) {
    const TempDir dir;
    auto database = must_open(options_in(dir));
    must_apply(*database, std::vector{record(1, created(1))});
    test::before_system_call = [](const std::string& call) { return call == "pwrite" ? EIO : 0; };
    const Status failed = database->apply(std::vector{record(2, created(2))});
    test::before_system_call = nullptr;
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.error().code, ErrorCode::io);
    EXPECT_FALSE(database->apply(std::vector{record(2, created(2))}).ok());
    EXPECT_FALSE(database->sync().ok());
}

TEST(DatabaseTrouble, FailedSyncIsToldAndReleasesNothing) {
    const TempDir dir;
    auto database = must_open(options_in(dir));
    must_apply(*database, every_kind());
    test::before_system_call = [](const std::string& call) {
        return call == "fsync" || call == "fdatasync" ? EIO : 0;
    };
    const auto synced = database->sync();
    test::before_system_call = nullptr;
    ASSERT_FALSE(synced.ok());
    EXPECT_EQ(synced.error().code, ErrorCode::io);
    // The disk is well again, but what it was given before may be lost.
    EXPECT_FALSE(database->sync().ok());
    EXPECT_FALSE(database->apply(std::vector{record(every_kind().size() + 1, created(1))}).ok());
}

TEST(DatabaseTrouble, LongLogIsMovedOnTheWayAndItsFailureIsTold) {
    const TempDir dir;
    auto database = must_open(options_in(dir));
    SessionCreated big = created(1);
    big.submission.prompt.assign(12'000'000, 'x');
    must_apply(*database, std::vector{record(1, big)});
    EXPECT_GT(std::filesystem::file_size(dir.path("broker.db-wal")), 12'000'000u);
    big = created(2);
    big.submission.prompt.assign(12'000'000, 'y');
    must_apply(*database, std::vector{record(2, big)});
    EXPECT_EQ(std::filesystem::file_size(dir.path("broker.db-wal")), 0u);

    big = created(3);
    big.submission.prompt.assign(20'000'000, 'z');
    test::before_system_call = [](const std::string& call) {
        return call == "fsync" || call == "fdatasync" ? EIO : 0;
    };
    const Status failed = database->apply(std::vector{record(3, big)});
    test::before_system_call = nullptr;
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.error().code, ErrorCode::io);
}

}  // namespace
}  // namespace iw::broker
