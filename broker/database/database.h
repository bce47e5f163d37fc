#pragma once

// The database: sessions, attempts, workers, keys and events as SQLite tables, brought up to date
// behind the journal, which is the truth until the database has been synced past it. One
// connection, owned by one thread (the caller's); nothing here locks. Tables: broker/STORE.md.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "broker/core/event.h"
#include "broker/core/record.h"
#include "common/base/result.h"
#include "common/messages/messages.h"

namespace iw::broker {

struct DatabaseOptions {
    std::string file;
    Duration event_retention{30LL * 24 * 3600 * 1000};
    Duration session_retention{30LL * 24 * 3600 * 1000};  // of final sessions and their keys
    std::int64_t sessions_max = 1'000'000;  // final ones that are kept for so long, at most
};

// What of a submission is kept apart, since nobody needs it before an attempt is handed out.
struct KeptPrompt {
    std::string prompt;
    std::string result_schema;

    bool operator==(const KeptPrompt&) const = default;
};

class Database {
  public:
    // Opens or makes it. config: newer or foreign file (exit 65); conflict: somebody else has it
    // open (75); io: cannot be read or written (74).
    static Result<std::unique_ptr<Database>> open(DatabaseOptions options);
    virtual ~Database() = default;

    // Of the newest EpochBegun that was applied; before the first one made with the database.
    virtual std::string epoch() const = 0;
    virtual std::uint32_t generation() const = 0;
    virtual Seq applied() const = 0;

    // One transaction: rows, events and the seq reached. Records continue applied().
    virtual Status apply(std::span<const Record> records) = 0;
    // Makes what is applied safe on disk (checkpoint); the seq up to which it is.
    virtual Result<Seq> sync() = 0;
    // A copy of everything that is applied, made piece by piece in a file that is not there yet.
    // begin_copy ends an earlier one. copy_more: true, there is more; what is applied meanwhile is
    // in the copy, too; after false or an error the copy is closed. Neither syncs it.
    virtual Status begin_copy(const std::string& file) = 0;
    virtual Result<bool> copy_more() = 0;
    // Bytes that a copy takes now.
    virtual Result<std::uint64_t> bytes() = 0;
    // Drops what is past its retention; bounded work a call; true when there may be more.
    virtual Result<bool> prune(WallTime now) = 0;

    // All of a LiveState but its sessions; they follow one by one, in order of creation: a million
    // at once would take more memory than the broker needs for them.
    virtual Result<LiveState> load_frame() = 0;
    virtual Status each_live(const std::function<void(LiveSession&&)>& each) = 0;
    // Both together.
    Result<LiveState> load_live();
    virtual Result<std::optional<SessionView>> session(const SessionId& id) = 0;
    // The statuses of those of these that are kept, as outsiders see them.
    virtual Result<std::map<SessionId, SessionStatus>> statuses(
        const std::vector<SessionId>& ids) = 0;
    // Ids that begin with the prefix, at most `max`, sorted.
    virtual Result<std::vector<SessionId>> match(std::string_view prefix, std::size_t max) = 0;
    // A page may be short, even empty, and still have a next: what is looked at for one page is
    // bounded. gone: the cursor's session is no longer kept.
    virtual Result<ListReply> list(const ListRequest& request) = 0;
    // `wait` is not looked at. What is looked at for one page is bounded, so it may be short, even
    // empty, while its `next` is below `head`.
    virtual Result<EventsReply> events(const EventsRequest& request) = 0;
    virtual Result<std::optional<KeptPrompt>> prompt(const SessionId& id) = 0;
    virtual Result<std::optional<ResultReply>> result(const SessionId& id) = 0;
    // The submission of a kept session with its prompt and key: what `retry` submits again.
    virtual Result<std::optional<Submission>> submission(const SessionId& id) = 0;
    virtual Result<std::optional<KnownKey>> key(const Principal& principal,
                                                const std::string& key) = 0;
    // key_digest of every kept key.
    virtual Status each_key(const std::function<void(std::uint64_t digest)>& each) = 0;
};

// What a database file says of itself, after a check of its whole content. Changes nothing; the
// file is not open elsewhere. config: damaged, foreign or newer; io: cannot be read.
struct DatabaseIdentity {
    std::string epoch;
    std::uint32_t generation = 0;
    Seq applied = 0;
};
Result<DatabaseIdentity> check_database(const std::string& file);
// The same without the check, for a file that may be damaged; without what its log may hold
// besides.
Result<DatabaseIdentity> look_at_database(const std::string& file);

// 64 bits over principal and key: for a filter in memory that tells surely-new keys from
// perhaps-known ones.
std::uint64_t key_digest(const Principal& principal, const std::string& key);

}  // namespace iw::broker
