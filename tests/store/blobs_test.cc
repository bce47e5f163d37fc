// Blobs: bytes that come in chunks, are cut off anywhere, and count only when they are whole.

#include "broker/blobs/blob_store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "broker/blobs/blob_copy.h"
#include "common/io/files.h"
#include "tests/store/store_support.h"
#include "tests/store/system_calls.h"

namespace iw::broker {
namespace {

using test::before_system_call;
using test::TempDir;

constexpr std::uint64_t kMiB = 1u << 20;
constexpr std::uint64_t kBlock = 4096;
const SessionId kSession("20251118-153042-grafana-agent");
const SessionId kOther("20251118-153042-loki-agent");

AttemptRef attempt_of(const SessionId& session, std::uint32_t attempt) {
    return {.session = session, .fence = {.generation = 1, .attempt = attempt}};
}
const AttemptRef kFirst = attempt_of(kSession, 1);

// Not the same at any two places.
std::string content(std::size_t size, std::uint64_t seed) {
    std::string bytes(size, '\0');
    for (std::size_t i = 0; i < size; ++i)
        bytes[i] = static_cast<char>((i * 2654435761u + seed * 40503u) >> 11);
    return bytes;
}

BlobChunk chunk_of(const std::string& bytes, std::size_t from, std::size_t size) {
    return {.blob = io::sha256_hex(bytes),
            .size = bytes.size(),
            .size_max = 1u << 30,
            .all_max = 1u << 30,
            .offset = from,
            .data = bytes.substr(from, size)};
}

std::unique_ptr<BlobStore> must_open(const std::string& folder, std::uint64_t bytes_max) {
    auto store = BlobStore::open({.folder = folder, .bytes_max = bytes_max, .reserve = 0});
    EXPECT_TRUE(store.ok()) << (store.ok() ? "" : store.error().message);
    return std::move(*store);
}
std::unique_ptr<BlobStore> must_open(const std::string& folder) {
    return must_open(folder, 1u << 30);
}

std::uint64_t must_put(BlobStore& store, const AttemptRef& attempt, const BlobChunk& chunk) {
    const Result<std::uint64_t> have = store.put(attempt, chunk);
    EXPECT_TRUE(have.ok()) << (have.ok() ? "" : have.error().message);
    return have.ok() ? *have : 0;
}

ErrorCode code_of_put(BlobStore& store, const AttemptRef& attempt, const BlobChunk& chunk) {
    const Result<std::uint64_t> have = store.put(attempt, chunk);
    EXPECT_FALSE(have.ok()) << (have.ok() ? *have : 0);
    return have.ok() ? ErrorCode::internal : have.error().code;
}

// As a sender does: asks what is held and goes on from there. Answers that say "repeat" it repeats.
void send(BlobStore& store, const AttemptRef& attempt, const std::string& bytes,
          std::size_t piece) {
    std::uint64_t have = bytes.empty() ? 1 : must_put(store, attempt, chunk_of(bytes, 0, 0));
    while (have != bytes.size()) {
        const auto next = store.put(attempt, chunk_of(bytes, bytes.empty() ? 0 : have, piece));
        if (!next.ok()) {
            ASSERT_EQ(next.error().code, ErrorCode::rate_limited) << next.error().message;
            continue;
        }
        ASSERT_TRUE(*next > have || *next == bytes.size()) << *next;
        have = *next;
    }
}

std::string fetch(const BlobStore& store, const SessionId& session, const std::string& blob) {
    std::string bytes;
    while (true) {
        const Result<BlobPiece> piece = store.get(session, blob, bytes.size(), 1000);
        EXPECT_TRUE(piece.ok()) << (piece.ok() ? "" : piece.error().message);
        if (!piece.ok() || piece->data.empty()) return bytes;
        bytes += piece->data;
    }
}

ErrorCode code_of_get(const BlobStore& store, const SessionId& session, const std::string& blob) {
    const Result<BlobPiece> piece = store.get(session, blob, 0, 10);
    return piece.ok() ? ErrorCode::internal : piece.error().code;
}

std::string place(const TempDir& dir, const AttemptRef& attempt, const std::string& bytes) {
    return dir.path() + "/" + attempt.session.str() + "/" +
           std::to_string(attempt.fence.generation) + "-" + std::to_string(attempt.fence.attempt) +
           "/" + io::sha256_hex(bytes);
}

void must_remove(BlobStore& store, const SessionId& session) {
    while (true) {
        const Result<bool> more = store.remove_some(session);
        ASSERT_TRUE(more.ok()) << more.error().message;
        if (!*more) return;
    }
}

// ---- Putting and getting -----------------------------------------------------------------------

TEST(Blobs, CountWhenTheyAreWhole) {
    const TempDir dir;
    auto store = must_open(dir.path());
    const std::string bytes = content(10'000, 1);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, 0)), 0u);
    EXPECT_EQ(store->bytes(), 0u);  // asking takes nothing
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, 4000)), 4000u);
    EXPECT_EQ(code_of_get(*store, kSession, io::sha256_hex(bytes)), ErrorCode::not_found);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 4000, 4000)), 8000u);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 8000, 2000)), 10'000u);
    EXPECT_EQ(fetch(*store, kSession, io::sha256_hex(bytes)), bytes);
    EXPECT_EQ(store->bytes(), 3 * kBlock);
    // Sent once more, it is there already, whatever the chunk says.
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, 4000)), 10'000u);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, 0)), 10'000u);
    EXPECT_EQ(store->bytes(), 3 * kBlock);
    struct stat about {};
    ASSERT_EQ(::stat(place(dir, kFirst, bytes).c_str(), &about), 0);
    EXPECT_EQ(about.st_mode & 0777u, 0600u);
}

TEST(Blobs, ChunksOfAnotherOffsetChangeNothing) {
    const TempDir dir;
    auto store = must_open(dir.path());
    const std::string bytes = content(9000, 2);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 3000, 3000)),
              0u);  // the first one is missing
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, 3000)), 3000u);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, 3000)), 3000u);     // twice
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 2999, 3000)), 3000u);  // overlapping
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 6000, 3000)), 3000u);  // too far
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 3000, 6000)), 9000u);
    EXPECT_EQ(fetch(*store, kSession, io::sha256_hex(bytes)), bytes);
}

TEST(Blobs, TheEmptyOneIsWholeAtOnce) {
    const TempDir dir;
    auto store = must_open(dir.path());
    EXPECT_EQ(must_put(*store, kFirst, chunk_of("", 0, 0)), 0u);
    const Result<BlobPiece> piece = store->get(kSession, io::sha256_hex(""), 0, 10);
    ASSERT_TRUE(piece.ok()) << piece.error().message;
    EXPECT_EQ(piece->size, 0u);
    BlobChunk wrong = chunk_of("", 0, 0);
    wrong.blob = io::sha256_hex("not empty");
    EXPECT_EQ(code_of_put(*store, kFirst, wrong), ErrorCode::conflict);
    EXPECT_EQ(store->bytes(), kBlock);
}

TEST(Blobs, WrongBytesAreDroppedAndMayComeAnew) {
    const TempDir dir;
    auto store = must_open(dir.path());
    const std::string bytes = content(5000, 3);
    BlobChunk wrong = chunk_of(bytes, 0, 5000);
    wrong.data[4321] = static_cast<char>(wrong.data[4321] ^ 1);
    EXPECT_EQ(code_of_put(*store, kFirst, wrong), ErrorCode::conflict);
    EXPECT_EQ(store->bytes(), 0u);
    EXPECT_FALSE(io::exists(place(dir, kFirst, bytes) + ".part"));
    EXPECT_EQ(code_of_get(*store, kSession, wrong.blob), ErrorCode::not_found);
    send(*store, kFirst, bytes, 1000);
    EXPECT_EQ(fetch(*store, kSession, wrong.blob), bytes);
}

TEST(Blobs, NamesThatAreNoneAreRefused) {
    const TempDir dir;
    auto store = must_open(dir.path("blobs"));
    test::spill(dir.path("secret"), "secret");
    BlobChunk chunk = chunk_of("bytes", 0, 5);
    const std::string good = chunk.blob;
    for (const std::string& bad :
         {std::string(), std::string("../../../secret"), good.substr(1), good + "0", good + ".part",
          "A" + good.substr(1), std::string(64, '.'), std::string(64, '/'),
          good.substr(0, 32) + '\0' + good.substr(33), "g" + good.substr(1)}) {
        chunk.blob = bad;
        EXPECT_EQ(code_of_put(*store, kFirst, chunk), ErrorCode::bad_request) << bad;
        EXPECT_EQ(code_of_get(*store, kSession, bad), ErrorCode::bad_request) << bad;
    }
    chunk.blob = good;
    for (const std::string& bad :
         {std::string(), std::string("."), std::string(".."), std::string("../blobs"),
          std::string("20251118-153042-a/../b"), std::string("20251118-153042-"),
          std::string("20251118-153042-x\n"), "/" + kSession.str()}) {
        EXPECT_EQ(code_of_put(*store, attempt_of(SessionId(bad), 1), chunk), ErrorCode::bad_request)
            << bad;
        EXPECT_EQ(code_of_get(*store, SessionId(bad), good), ErrorCode::bad_request) << bad;
        const Result<bool> removed = store->remove_some(SessionId(bad));
        ASSERT_FALSE(removed.ok()) << bad;
        EXPECT_EQ(removed.error().code, ErrorCode::bad_request);
    }
    EXPECT_EQ(test::slurp(dir.path("secret")), "secret");
    EXPECT_TRUE(io::list_folder(dir.path("blobs")).empty());
}

TEST(Blobs, SizesThatCannotBeAreRefused) {
    const TempDir dir;
    auto store = must_open(dir.path());
    const std::string bytes = content(3000, 4);
    BlobChunk chunk = chunk_of(bytes, 0, 3000);
    chunk.size_max = 2999;
    EXPECT_EQ(code_of_put(*store, kFirst, chunk), ErrorCode::too_large);
    chunk = chunk_of(bytes, 0, 3000);
    chunk.size = 2999;
    EXPECT_EQ(code_of_put(*store, kFirst, chunk), ErrorCode::bad_request);
    chunk = chunk_of(bytes, 0, 1);
    chunk.offset = ~std::uint64_t{0};
    EXPECT_EQ(code_of_put(*store, kFirst, chunk), ErrorCode::bad_request);
    EXPECT_EQ(store->bytes(), 0u);
    send(*store, kFirst, bytes, 3000);
    chunk = chunk_of(bytes, 0, 0);
    chunk.size = 3001;
    EXPECT_EQ(code_of_put(*store, kFirst, chunk), ErrorCode::conflict);
    EXPECT_EQ(store->get(kSession, chunk.blob, 3000, 10)->data, "");
    EXPECT_EQ(store->get(kSession, chunk.blob, 3001, 10).error().code, ErrorCode::bad_request);
}

TEST(Blobs, AnAttemptHasALimitForAllOfItsBlobs) {
    const TempDir dir;
    const auto limited = [](const std::string& bytes, std::size_t from, std::size_t size) {
        BlobChunk chunk = chunk_of(bytes, from, size);
        chunk.all_max = 10'000;
        return chunk;
    };
    const std::string whole = content(6000, 1);
    const std::string begun = content(3000, 2);
    const std::string more = content(1001, 3);
    {
        auto store = must_open(dir.path());
        EXPECT_EQ(must_put(*store, kFirst, limited(whole, 0, 6000)), 6000u);
        EXPECT_EQ(must_put(*store, kFirst, limited(begun, 0, 1000)), 1000u);
        EXPECT_EQ(code_of_put(*store, kFirst, limited(more, 0, 10)), ErrorCode::too_large);
        // What is there already, and another attempt, are no matter of it.
        EXPECT_EQ(must_put(*store, kFirst, limited(whole, 0, 6000)), 6000u);
        EXPECT_EQ(must_put(*store, attempt_of(kSession, 2), limited(more, 0, 10)), 10u);
    }
    // A start counts what it finds, and then what is announced.
    auto store = must_open(dir.path());
    EXPECT_EQ(must_put(*store, kFirst, limited(begun, 0, 0)), 1000u);
    EXPECT_EQ(code_of_put(*store, kFirst, limited(more, 0, 10)), ErrorCode::too_large);
    store->drop_partials(kSession);
    EXPECT_EQ(must_put(*store, kFirst, limited(more, 0, 10)), 10u);
    while (*store->remove_some(kSession))
        continue;
    EXPECT_EQ(must_put(*store, kFirst, limited(content(10'000, 4), 0, 10)), 10u);
}

TEST(Blobs, TheAnnouncedSizeMayChange) {
    const TempDir dir;
    auto store = must_open(dir.path());
    const std::string bytes = content(8 * kBlock, 5);
    BlobChunk chunk = chunk_of(bytes, 0, 2 * kBlock);
    chunk.size = 100 * kBlock;
    EXPECT_EQ(must_put(*store, kFirst, chunk), 2 * kBlock);
    EXPECT_EQ(store->bytes(), 100 * kBlock);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 2 * kBlock, kBlock)), 3 * kBlock);
    EXPECT_EQ(store->bytes(), 8 * kBlock);
    chunk.size = kBlock;  // less than is held
    chunk.offset = 0;
    chunk.data.clear();
    EXPECT_EQ(must_put(*store, kFirst, chunk), 0u);
    EXPECT_EQ(store->bytes(), 0u);
    send(*store, kFirst, bytes, kBlock);
    EXPECT_EQ(store->bytes(), 8 * kBlock);
}

// ---- Several senders ---------------------------------------------------------------------------

TEST(Blobs, TwoSendersOfOneBlobCompleteItTogether) {
    const TempDir dir;
    auto store = must_open(dir.path());
    const std::string bytes = content(50'000, 6);
    std::uint64_t one = 0;
    std::uint64_t other = 0;
    int rounds = 0;
    while (one < bytes.size() || other < bytes.size()) {
        one = must_put(*store, kFirst, chunk_of(bytes, one, 1700));
        if (++rounds % 3 == 0) other = must_put(*store, kFirst, chunk_of(bytes, other, 2900));
        ASSERT_LT(rounds, 1000);
    }
    EXPECT_EQ(fetch(*store, kSession, io::sha256_hex(bytes)), bytes);
    EXPECT_EQ(store->bytes(), 13 * kBlock);
}

TEST(Blobs, WhatAnEarlierAttemptSentNeedNotComeAgain) {
    const TempDir dir;
    auto store = must_open(dir.path());
    const std::string bytes = content(5000, 7);
    send(*store, kFirst, bytes, 5000);
    EXPECT_EQ(must_put(*store, attempt_of(kSession, 2), chunk_of(bytes, 0, 0)), 5000u);
    EXPECT_EQ(store->bytes(), 2 * kBlock);
    // Another session neither sees nor gets it.
    EXPECT_EQ(must_put(*store, attempt_of(kOther, 1), chunk_of(bytes, 0, 0)), 0u);
    EXPECT_EQ(code_of_get(*store, kOther, io::sha256_hex(bytes)), ErrorCode::not_found);
}

TEST(Blobs, OnlySoManyAreBegunOfOneAttempt) {
    const TempDir dir;
    auto store = must_open(dir.path());
    const std::string old = content(3 * kBlock, 1000);
    const std::string kept = content(3 * kBlock, 1001);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(old, 0, 10)), 10u);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(kept, 0, 10)), 10u);
    for (std::uint64_t i = 0; i < 63; ++i) {
        const std::string bytes = content(3 * kBlock, i);
        EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, 10)), 10u);
        EXPECT_EQ(must_put(*store, kFirst, chunk_of(kept, 0, 0)), 10u);
    }
    EXPECT_EQ(store->bytes(), 64 * 3 * kBlock);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(old, 0, 0)), 0u);  // was longest not put to
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(kept, 0, 0)), 10u);
}

// ---- Restarts and crashes ----------------------------------------------------------------------

TEST(Blobs, GoOnAfterARestart) {
    const TempDir dir;
    const std::string bytes = content(20'000, 8);
    const std::string whole = content(7000, 9);
    auto store = must_open(dir.path());
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, 9000)), 9000u);
    send(*store, attempt_of(kOther, 3), whole, 900);
    store = must_open(dir.path());
    EXPECT_EQ(store->bytes(), (3 + 2) * kBlock);
    EXPECT_EQ(store->sessions(), (std::vector<SessionId>{kSession, kOther}));
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, 0)), 9000u);
    EXPECT_EQ(store->bytes(), (5 + 2) * kBlock);  // announced again
    send(*store, kFirst, bytes, 4000);
    EXPECT_EQ(fetch(*store, kSession, io::sha256_hex(bytes)), bytes);
    EXPECT_EQ(fetch(*store, kOther, io::sha256_hex(whole)), whole);
}

TEST(Blobs, AllBytesOfATornOneAreLookedAtAgain) {
    const TempDir dir;
    const std::string bytes = content(20'000, 10);
    const std::string part = place(dir, kFirst, bytes) + ".part";
    for (const bool shorter : {false, true}) {
        auto store = must_open(dir.path());
        EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, 9000)), 9000u);
        store.reset();
        std::string torn = bytes.substr(0, 9000);
        if (shorter) {
            torn.resize(6000);
        } else {
            torn.replace(4096, 4096, 4096, '\0');  // pages that a power cut left unwritten
        }
        test::spill(part, torn);
        store = must_open(dir.path());
        EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, 0)), torn.size());
        if (!shorter) {
            EXPECT_EQ(code_of_put(*store, kFirst, chunk_of(bytes, torn.size(), 20'000)),
                      ErrorCode::conflict);
        }
        send(*store, kFirst, bytes, 4000);
        EXPECT_EQ(fetch(*store, kSession, io::sha256_hex(bytes)), bytes);
        must_remove(*store, kSession);
    }
}

TEST(Blobs, ReadAgainInPiecesAfterARestart) {
    const TempDir dir;
    const std::string bytes = content(130 * kMiB, 11);
    auto store = must_open(dir.path());
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, bytes.size() - 1)), bytes.size() - 1);
    store = must_open(dir.path());
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, 0)), bytes.size() - 1);
    EXPECT_EQ(code_of_put(*store, kFirst, chunk_of(bytes, bytes.size() - 1, 1)),
              ErrorCode::rate_limited);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, bytes.size() - 1, 1)), bytes.size());
    // Unlinked with another name elsewhere, that one keeps all its bytes.
    ASSERT_EQ(::link(place(dir, kFirst, bytes).c_str(), dir.path("backup").c_str()), 0);
    must_remove(*store, kSession);
    EXPECT_EQ(std::filesystem::file_size(dir.path("backup")), bytes.size());
    EXPECT_EQ(store->bytes(), 0u);
}

// Before each call that matters, what is on the disk then is what a broker would find: it holds a
// beginning of the bytes, all of them when that was answered, and can always be completed.
TEST(Blobs, SurviveACrashBeforeEachCall) {
    const TempDir dir;
    const std::string bytes = content(12'000, 12);
    auto store = must_open(dir.path("live"));
    std::uint64_t answered = 0;
    int crashes = 0;
    before_system_call = [&](const std::string&) {
        test::copy_folder(dir.path("live"), dir.path("crashed"));
        auto crashed = must_open(dir.path("crashed"));
        const std::uint64_t have = must_put(*crashed, kFirst, chunk_of(bytes, 0, 0));
        EXPECT_GE(have, answered);  // also when that was all
        send(*crashed, kFirst, bytes, 5000);
        EXPECT_EQ(fetch(*crashed, kSession, io::sha256_hex(bytes)), bytes);
        EXPECT_EQ(crashed->bytes(), 3 * kBlock);
        ++crashes;
        return 0;
    };
    while (answered < bytes.size())
        answered = must_put(*store, kFirst, chunk_of(bytes, answered, 5000));
    before_system_call = nullptr;
    EXPECT_GE(crashes, 3 + 3);  // writes; sync, rename, sync of the folder; and those of folders
}

// ---- Disks that are full or fail ---------------------------------------------------------------

TEST(Blobs, AFullDiskKeepsWhatIsThere) {
    const TempDir dir;
    auto store = must_open(dir.path());
    const std::string bytes = content(9000, 13);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, 3000)), 3000u);
    for (const int error : {ENOSPC, EDQUOT}) {
        before_system_call = [error](const std::string& call) {
            return call == "pwrite" ? error : 0;
        };
        EXPECT_EQ(code_of_put(*store, kFirst, chunk_of(bytes, 3000, 3000)), ErrorCode::storage_low);
        before_system_call = nullptr;
        EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, 0)), 3000u);
    }
    send(*store, kFirst, bytes, 3000);
    EXPECT_EQ(fetch(*store, kSession, io::sha256_hex(bytes)), bytes);
}

TEST(Blobs, EachCallMayFailAndNothingWrongIsEverAnswered) {
    const std::string bytes = content(12'000, 14);
    for (const int error : {EIO, ENOSPC}) {
        bool met = true;
        for (int call = 0; met; ++call) {
            const TempDir dir;
            auto store = must_open(dir.path("blobs"));
            int left = call;
            met = false;
            before_system_call = [&](const std::string&) {
                if (left-- != 0) return 0;
                met = true;
                return error;
            };
            std::uint64_t have = 0;
            int tries = 0;
            while (have < bytes.size() && ++tries < 20) {
                const auto answer = store->put(kFirst, chunk_of(bytes, have, 5000));
                if (answer.ok()) have = *answer;
                if (answer.ok()) continue;
                EXPECT_TRUE(answer.error().code == ErrorCode::io ||
                            answer.error().code == ErrorCode::storage_low)
                    << answer.error().message;
                have = must_put(*store, kFirst, chunk_of(bytes, 0, 0));
            }
            before_system_call = nullptr;
            EXPECT_EQ(have, bytes.size());
            EXPECT_EQ(fetch(*store, kSession, io::sha256_hex(bytes)), bytes);
            EXPECT_EQ(store->bytes(), 3 * kBlock);
            EXPECT_EQ(must_open(dir.path("blobs"))->bytes(), 3 * kBlock);
        }
    }
}

TEST(Blobs, ASyncThatFailedIsNotTriedAgain) {
    const TempDir dir;
    auto store = must_open(dir.path());
    const std::string bytes = content(5000, 15);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, 4000)), 4000u);
    before_system_call = [](const std::string& call) { return call == "fsync" ? EIO : 0; };
    EXPECT_EQ(code_of_put(*store, kFirst, chunk_of(bytes, 4000, 1000)), ErrorCode::io);
    before_system_call = nullptr;
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(bytes, 0, 0)), 0u);
    EXPECT_EQ(code_of_get(*store, kSession, io::sha256_hex(bytes)), ErrorCode::not_found);
}

TEST(Blobs, TheReserveOfTheDiskStaysFree) {
    const TempDir dir;
    const std::uint64_t free = io::free_bytes(dir.path());
    const std::string bytes = content(9000, 16);
    auto store =
        BlobStore::open({.folder = dir.path(), .bytes_max = 1u << 30, .reserve = 2 * free});
    ASSERT_TRUE(store.ok());
    EXPECT_EQ(code_of_put(**store, kFirst, chunk_of(bytes, 0, 9000)), ErrorCode::storage_low);
    EXPECT_EQ((*store)->bytes(), 0u);
    EXPECT_TRUE(io::list_folder(dir.path()).empty());
    // What was begun while there was room waits.
    EXPECT_EQ(must_put(*must_open(dir.path()), kFirst, chunk_of(bytes, 0, 3000)), 3000u);
    store = BlobStore::open({.folder = dir.path(), .bytes_max = 1u << 30, .reserve = 2 * free});
    ASSERT_TRUE(store.ok());
    EXPECT_EQ(code_of_put(**store, kFirst, chunk_of(bytes, 3000, 6000)), ErrorCode::storage_low);
    EXPECT_EQ(must_put(*must_open(dir.path()), kFirst, chunk_of(bytes, 0, 0)), 3000u);
}

TEST(Blobs, TheQuotaIsTakenWhenABlobBegins) {
    const TempDir dir;
    auto store = must_open(dir.path(), 10 * kBlock);
    const std::string one = content(6 * kBlock, 17);
    const std::string two = content(5 * kBlock, 18);
    const std::string small = content(4 * kBlock, 19);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(one, 0, 10)), 10u);
    EXPECT_EQ(code_of_put(*store, kFirst, chunk_of(two, 0, 10)), ErrorCode::storage_low);
    send(*store, kFirst, small, 5000);
    send(*store, kFirst, one, 5000);
    EXPECT_EQ(store->bytes(), 10 * kBlock);
    // A smaller quota takes nothing away, and refuses even what was begun.
    EXPECT_EQ(must_put(*must_open(dir.path()), attempt_of(kOther, 1), chunk_of(two, 0, 10)), 10u);
    store = must_open(dir.path(), 10 * kBlock);
    EXPECT_EQ(fetch(*store, kSession, io::sha256_hex(one)), one);
    EXPECT_EQ(code_of_put(*store, attempt_of(kOther, 1), chunk_of(two, 10, 10)),
              ErrorCode::storage_low);
    must_remove(*store, kSession);
    send(*store, attempt_of(kOther, 1), two, 5000);
    EXPECT_EQ(store->bytes(), 5 * kBlock);
}

// ---- Removing ----------------------------------------------------------------------------------

TEST(Blobs, ExpireWhileTheyAreRead) {
    const TempDir dir;
    auto store = must_open(dir.path());
    const std::string bytes = content(9000, 20);
    send(*store, kFirst, bytes, 9000);
    EXPECT_EQ(store->get(kSession, io::sha256_hex(bytes), 0, 4000)->data.size(), 4000u);
    must_remove(*store, kSession);
    const auto rest = store->get(kSession, io::sha256_hex(bytes), 4000, 4000);
    ASSERT_FALSE(rest.ok());
    EXPECT_EQ(rest.error().code, ErrorCode::not_found);
}

TEST(Blobs, ASessionGoesInPiecesAndTakesAllAlong) {
    const TempDir dir;
    auto store = must_open(dir.path());
    for (std::uint64_t i = 0; i < 150; ++i)
        send(*store, attempt_of(kSession, i < 75 ? 1 : 2), content(100, i), 100);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(content(9000, 500), 0, 10)), 10u);
    send(*store, attempt_of(kOther, 1), content(100, 1), 100);
    // A crash in the middle of an earlier removal left this.
    test::spill(dir.path() + "/" + kSession.str() + "/1-1/gone", "rest");
    EXPECT_TRUE(*store->remove_some(kSession));
    must_remove(*store, kSession);
    EXPECT_EQ(store->bytes(), kBlock);
    EXPECT_EQ(store->sessions(), (std::vector<SessionId>{kOther}));
    EXPECT_FALSE(io::exists(dir.path() + "/" + kSession.str()));
    must_remove(*store, kSession);  // nothing there any more is fine
    EXPECT_EQ(fetch(*store, kOther, io::sha256_hex(content(100, 1))), content(100, 1));
}

TEST(Blobs, WhatASessionLeftUnfinishedCanBeDropped) {
    const TempDir dir;
    auto store = must_open(dir.path());
    const std::string whole = content(5000, 21);
    const std::string half = content(9000, 22);
    send(*store, kFirst, whole, 5000);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(half, 0, 10)), 10u);
    EXPECT_EQ(must_put(*store, attempt_of(kSession, 2), chunk_of(half, 0, 10)), 10u);
    EXPECT_EQ(must_put(*store, attempt_of(kOther, 1), chunk_of(half, 0, 10)), 10u);
    EXPECT_EQ(store->unfinished(), (std::vector<SessionId>{kSession, kOther}));
    store->drop_partials(kSession);
    EXPECT_EQ(store->unfinished(), (std::vector<SessionId>{kOther}));
    EXPECT_EQ(store->bytes(), (2 + 3) * kBlock);
    EXPECT_FALSE(io::exists(place(dir, kFirst, half) + ".part"));
    EXPECT_EQ(must_put(*store, attempt_of(kOther, 1), chunk_of(half, 0, 0)), 10u);
    EXPECT_EQ(fetch(*store, kSession, io::sha256_hex(whole)), whole);
}

// ---- Copies ------------------------------------------------------------------------------------

BlobCopy must_copy(const BlobCopyPlan& plan) {
    const Result<BlobCopy> copy = copy_blobs(plan);
    EXPECT_TRUE(copy.ok()) << (copy.ok() ? "" : copy.error().message);
    return copy.ok() ? *copy : BlobCopy{};
}

TEST(BlobCopies, ShareTheirBytesAndOutliveTheOriginals) {
    const TempDir dir;
    auto store = must_open(dir.path("blobs"));
    const std::string one = content(5000, 30);
    const std::string two = content(6000, 31);
    const std::string half = content(9000, 32);
    send(*store, kFirst, one, 5000);
    EXPECT_EQ(must_put(*store, kFirst, chunk_of(half, 0, 10)), 10u);
    BlobCopyPlan plan{.from = dir.path("blobs"),
                      .to = dir.path("copy"),
                      .earlier = {},
                      .reserve = std::uint64_t{1} << 60,  // links need no room
                      .verify = true};
    EXPECT_EQ(must_copy(plan).bytes, 5000u);
    send(*store, attempt_of(kOther, 1), two, 6000);
    EXPECT_EQ(must_copy(plan).files, 1u);  // what is there already is not taken again
    EXPECT_EQ(must_copy(plan).files, 0u);
    must_remove(*store, kSession);
    auto copy = must_open(dir.path("copy"));
    EXPECT_EQ(copy->bytes(), (2 + 2) * kBlock);
    EXPECT_EQ(fetch(*copy, kSession, io::sha256_hex(one)), one);
    EXPECT_EQ(fetch(*copy, kOther, io::sha256_hex(two)), two);
    EXPECT_EQ(must_put(*copy, kFirst, chunk_of(half, 0, 0)), 0u);
    plan.from = dir.path("nowhere");
    plan.to = dir.path("empty");
    EXPECT_EQ(must_copy(plan).files, 0u);
    EXPECT_TRUE(io::exists(dir.path("empty")));
}

TEST(BlobCopies, LeaveOutWhatIsDamaged) {
    const TempDir dir;
    auto store = must_open(dir.path("blobs"));
    for (std::uint64_t i = 0; i < 5; ++i)
        send(*store, kFirst, content(5000, i), 5000);
    const std::string damaged =
        dir.path("blobs") + "/" + kSession.str() + "/1-1/" + io::sha256_hex(content(5000, 3));
    test::flip(damaged, 1234);
    BlobCopyPlan plan{.from = dir.path("blobs"),
                      .to = dir.path("copy"),
                      .earlier = {},
                      .reserve = 0,
                      .verify = true};
    BlobCopy copy = must_copy(plan);
    EXPECT_EQ(copy.files, 4u);
    EXPECT_EQ(copy.damaged, 1u);
}

// Another file system than the store's; where there is none, both are one, and links are made.
TEST(BlobCopies, GoToAnotherDiskAndLinkThereFromTheEarlierOne) {
    const TempDir dir;
    const std::string other = std::string(IW_BUILD_DIR) + "/blob_copies." + io::random_hex(4);
    ASSERT_TRUE(io::make_folders(other, 0700).ok());
    auto store = must_open(dir.path("blobs"));
    for (std::uint64_t i = 0; i < 4; ++i)
        send(*store, kFirst, content(5000, i), 5000);
    BlobCopyPlan plan{.from = dir.path("blobs"),
                      .to = other + "/one",
                      .earlier = {},
                      .reserve = 0,
                      .verify = false};
    EXPECT_EQ(must_copy(plan).files, 4u);
    send(*store, kFirst, content(5000, 4), 5000);
    plan.earlier = plan.to;
    plan.to = other + "/two";
    EXPECT_EQ(must_copy(plan).files, 5u);
    const std::string name = "/" + kSession.str() + "/1-1/" + io::sha256_hex(content(5000, 2));
    EXPECT_TRUE(std::filesystem::equivalent(other + "/one" + name, other + "/two" + name));
    EXPECT_EQ(fetch(*must_open(other + "/two"), kSession, io::sha256_hex(content(5000, 4))),
              content(5000, 4));
    struct stat here {};
    struct stat there {};
    ASSERT_EQ(::stat(dir.path("blobs").c_str(), &here), 0);
    ASSERT_EQ(::stat(other.c_str(), &there), 0);
    if (here.st_dev != there.st_dev) {
        plan.to = other + "/three";
        plan.earlier.clear();
        plan.reserve = std::uint64_t{1} << 60;
        EXPECT_EQ(must_copy(plan).left_out, 5u);
        EXPECT_TRUE(io::list_folder(plan.to + "/" + kSession.str() + "/1-1").empty());
    }
    EXPECT_TRUE(io::remove_tree(other).ok());
}

// ---- Files of others ---------------------------------------------------------------------------

TEST(Blobs, FilesThatAreNoneAreLeftAlone) {
    const TempDir dir;
    test::spill(dir.path("secret"), "secret");
    const std::string root = dir.path("blobs");
    const std::string folder = root + "/" + kSession.str() + "/1-1";
    ASSERT_TRUE(io::make_folders(folder, 0700).ok());
    ASSERT_TRUE(io::make_folders(root + "/lost+found", 0700).ok());
    test::spill(root + "/notes", "mine");
    test::spill(folder + "/notes", "mine");
    const std::string link = io::sha256_hex("link");
    const std::string fifo = io::sha256_hex("fifo");
    const std::string sub = io::sha256_hex("folder");
    ASSERT_EQ(::symlink(dir.path("secret").c_str(), (folder + "/" + link).c_str()), 0);
    ASSERT_EQ(::symlink(dir.path("secret").c_str(), (folder + "/" + fifo + ".part").c_str()), 0);
    ASSERT_EQ(::mkfifo((folder + "/" + fifo).c_str(), 0600), 0);
    ASSERT_TRUE(io::make_folders(folder + "/" + sub, 0700).ok());
    auto store = must_open(root);
    EXPECT_EQ(store->bytes(), 0u);
    EXPECT_EQ(store->sessions(), (std::vector<SessionId>{kSession}));
    for (const std::string& name : {link, fifo, sub})
        EXPECT_EQ(code_of_get(*store, kSession, name), ErrorCode::io) << name;
    EXPECT_EQ(code_of_put(*store, attempt_of(kSession, 1),
                          {.blob = io::sha256_hex("secrex"),
                           .size = 6,
                           .size_max = 100,
                           .all_max = 100,
                           .offset = 0,
                           .data = "secret"}),
              ErrorCode::conflict);
    EXPECT_EQ(test::slurp(dir.path("secret")), "secret");
    EXPECT_TRUE(io::exists(root + "/notes"));
}

}  // namespace
}  // namespace iw::broker
