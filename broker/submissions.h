#pragma once

// The way of submissions into the core: refuses what there is no room for, tells new idempotency
// keys from known ones, and holds a submission back while the database looks up its keys and those
// of its dependencies that are over.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/core/broker_core.h"
#include "broker/database_thread.h"
#include "broker/key_filter.h"
#include "broker/prompt_cache.h"
#include "broker/turn.h"
#include "common/base/time.h"
#include "common/messages/messages.h"

namespace iw::broker {

class Submissions {
  public:
    struct Parts {
        BrokerCore& core;
        DatabaseThread& database;
        Turn& turn;
        PromptCache& prompts;
    };
    struct Storage {
        std::string folder;         // on the disk that must have room
        std::uint64_t reserve = 0;  // bytes; 0: never refuse
    };
    // `keys` holds the digest of every kept key.
    Submissions(Parts parts, Storage storage, KeyFilter keys);

    void submit(const Requester& who, SubmitRequest request);
    void retry(const Requester& who, const RetryRequest& request);
    // Room on the disk, and whether submissions are refused for the lack of it.
    void describe(FleetReply& fleet);
    // From now on everything is refused with SHUTTING_DOWN, what is held back too.
    void shut_down() { shutting_down_ = true; }

  private:
    struct Pending {
        Requester who;
        std::vector<SubmitEvent::Item> items;
        bool is_retry = false;  // answered as `retry`
        std::size_t bytes = 0;
        std::set<SessionId> missing;  // dependencies that nobody knows
    };
    // What the database is asked for a pending submission: the key of an item, or a dependency.
    struct KeyLook {
        std::size_t item = 0;
        std::string key;
        std::optional<KnownKey> known;
    };
    struct Looks {
        std::vector<KeyLook> keys;
        std::map<SessionId, std::optional<SessionStatus>> dependencies;  // none: no such session
        bool empty() const { return keys.empty() && dependencies.empty(); }
    };
    struct RetrySource;

    std::optional<ErrorReply> refusal();
    bool is_storage_low();
    void measure();
    void admit(Pending pending);
    void look_up(Pending pending, Looks looks);
    void looked_up(Pending pending, Result<Looks> looks);
    // Dependencies of which neither the core nor an earlier look knows.
    void add_unsettled(const Pending& pending, Looks& looks) const;
    static void take(Pending& pending, const Looks& looks);
    void retry_found(const Requester& who, const RetryRequest& request, Result<RetrySource> source);
    void step(Pending pending);
    void note_created(std::size_t first_record);
    bool is_unapplied(std::uint64_t digest);

    static Result<Looks> look(Database& database, const Principal& principal, Looks looks);
    static Result<RetrySource> find_retry_source(Database& database, const std::string& id);
    static SubmitEvent::Item make_item(const Requester& who, Submission submission);
    Answer retry_answer(Answer answer) const;

    Parts parts_;
    Storage storage_;
    KeyFilter keys_;
    // Keys whose sessions the database may not hold yet: a look that missed one of them says
    // nothing.
    std::unordered_map<std::uint64_t, Seq> unapplied_;
    std::deque<std::pair<Seq, std::uint64_t>> unapplied_order_;
    std::size_t pending_bytes_ = 0;  // held back
    std::uint64_t free_bytes_ = 0;
    std::optional<Timestamp> measured_at_;
    bool shutting_down_ = false;
};

}  // namespace iw::broker
