#pragma once

// Brings the files of attempts that ran away from their project's root to the broker, before their
// end is reported: hashed, sent in pieces, several under way at once, the manifest last. Rides out
// connections that break, and asks the broker first what it has. Decides nothing about attempts.

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "common/base/result.h"
#include "common/base/time.h"
#include "common/messages/messages.h"
#include "common/workspace/deliverables.h"
#include "worker/core/event.h"

namespace iw::worker {

class Uploader {
  public:
    struct Handlers {
        // False: it could not be handed to the transport; nothing was sent.
        std::function<bool(std::uint64_t ticket, PutRequest request)> send;
        // The end of a job: its event, with what was delivered or why nothing was.
        std::function<void(JudgedEvent event)> on_done;
        std::function<void(const AttemptRef& attempt, const std::string& text)> on_warning;
    };
    struct Job {
        JudgedEvent event;   // as judged; completed by what comes of the upload
        std::string folder;  // where the attempt's files stand
        std::uint64_t bytes_max = 0;
    };
    explicit Uploader(Handlers handlers) : handlers_(std::move(handlers)) {}

    // One job per attempt: another one for the same is ignored while it lasts.
    void start(Job job);
    bool is_busy_with(const AttemptRef& attempt) const { return uploads_.contains(attempt); }
    // Another connection: what was under way over the last one is asked for again.
    void connected();
    // Nothing is sent until the next one.
    void disconnected() { connected_ = false; }
    void answer(std::uint64_t ticket, const Result<PutReply>& reply);
    // A slice of the work, short enough for a loop with other things to do.
    void work(Timestamp now);
    // When work() has something to do; nothing: not before an answer.
    std::optional<Timestamp> deadline(Timestamp now) const;

  private:
    // A blob on its way.
    struct Transfer {
        std::string blob;
        std::string path;  // of the file; empty: the manifest
        std::uint64_t size = 0;
        std::uint64_t next = 0;  // where the next piece begins
        std::uint64_t have = 0;  // as the broker said last
        int under_way = 0;
        bool asked = false;  // what the broker has of it is known, or is being asked
    };
    struct Upload {
        Job job;
        workspace::Collector collector;
        bool listed = false;  // the collector is done, and `waiting` is what it found
        bool manifest_sent = false;
        std::set<std::string> sent;     // whole blobs that the broker has
        std::deque<Transfer> waiting;   // not begun
        std::list<Transfer> transfers;  // begun
        std::string manifest;
        std::uint64_t bytes = 0;
        Timestamp not_before;  // the broker had no room
        std::string warned;    // the last reason, said once
    };
    struct Flight {
        AttemptRef attempt;
        std::string blob;
        Timestamp since;
    };
    using Uploads = std::map<AttemptRef, Upload>;

    bool collect(Upload& upload);
    void list_blobs(Upload& upload);
    bool send_piece(Upload& upload, Timestamp now);
    bool send_piece(Upload& upload, Transfer& transfer, Timestamp now);
    Transfer* next_transfer(Upload& upload);
    void take(Upload& upload, Transfer& transfer, std::uint64_t have);
    void take_error(const AttemptRef& attempt, const std::string& blob, const Error& error);
    void changed(Upload& upload, const std::string& blob);
    void begin_anew(Upload& upload);
    void expire(Timestamp now);
    void warn(Upload& upload, const std::string& text);
    void finish(const AttemptRef& attempt);
    void finish_over(const AttemptRef& attempt, const std::string& why);
    void finish_undelivered(const AttemptRef& attempt, const std::string& why);
    static Transfer* find(Upload& upload, const std::string& blob);

    Handlers handlers_;
    Uploads uploads_;
    std::map<std::uint64_t, Flight> flights_;  // by ticket
    std::uint64_t last_ticket_ = 0;
    AttemptRef turn_;  // who was served last
    bool connected_ = false;
    Timestamp now_;
};

}  // namespace iw::worker
