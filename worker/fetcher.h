#pragma once

// Brings the files of attempts that ran elsewhere into the workspaces of this root, before their
// end is written there: the manifest first, then its blobs, several at once, then all into place.
// What came stays over a restart or a failure, and the next try goes on with it.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/time.h"
#include "common/messages/messages.h"
#include "common/workspace/deliverables.h"
#include "common/workspace/incoming.h"
#include "worker/core/action.h"

namespace iw::worker {

class Fetcher {
  public:
    struct Handlers {
        // False: it could not be handed to the transport; nothing was sent.
        std::function<bool(std::uint64_t ticket, GetRequest request)> send;
        // The end of a job. ok: what the broker has is in place, or the workspace is gone; the
        // lines say what is missing. An error: it may succeed later (storage_low: when there is
        // room).
        std::function<void(const WriteFinal& action, const Result<std::vector<std::string>>& lines)>
            on_done;
    };
    explicit Fetcher(Handlers handlers) : handlers_(std::move(handlers)) {}

    // `workspace`: the folder that the files go to. One job per attempt.
    void start(WriteFinal action, const std::string& workspace);
    bool is_busy_with(const SessionId& id) const;
    // Another connection: what was under way over the last one is asked for again.
    void connected();
    // Nothing is sent until the next one.
    void disconnected() { connected_ = false; }
    void answer(std::uint64_t ticket, const Result<GetReply>& reply);
    void work(Timestamp now);
    // When work() has something to do; nothing: not before an answer.
    std::optional<Timestamp> deadline(Timestamp now) const;

  private:
    struct Fetch {
        WriteFinal action;
        std::string workspace;
        std::string manifest;  // as far as it came
        std::optional<workspace::Incoming> incoming;
        std::map<std::string, int> spoiled;  // blobs that came with a wrong checksum, how often
        std::vector<std::string> lines;
        Timestamp not_before;
    };
    struct Flight {
        AttemptRef attempt;
        std::string blob;
        std::uint64_t offset = 0;
        Timestamp since;
    };

    bool ask(Fetch& fetch, Timestamp now);
    bool ask(Fetch& fetch, const std::string& blob, std::uint64_t offset, Timestamp now);
    bool is_under_way(const AttemptRef& attempt, const std::string& blob) const;
    void take_manifest(Fetch& fetch, const GetReply& reply);
    void begin(Fetch& fetch);
    void take_piece(Fetch& fetch, const Flight& flight, const GetReply& reply);
    void take_error(Fetch& fetch, const Flight& flight, const Error& error);
    void install(Fetch& fetch);
    void finish(Fetch& fetch, std::optional<Error> error);

    Handlers handlers_;
    std::map<AttemptRef, Fetch> fetches_;
    std::map<std::uint64_t, Flight> flights_;  // by ticket
    std::uint64_t last_ticket_ = 0;
    bool connected_ = false;
    Timestamp now_;
};

}  // namespace iw::worker
