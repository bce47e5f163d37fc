#pragma once

// One attempt as the core holds it: the facts of its files, and what is under way that a restart
// may forget.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "common/base/time.h"
#include "common/messages/messages.h"
#include "worker/core/event.h"

namespace iw::worker {

// When a report was last sent, and over which connection: a new one makes everything due again.
struct SendState {
    std::uint64_t link = 0;
    Timestamp next_at;
    Duration pause{0};
    // The broker refused a message for its form: this report goes alone, so that one bad report
    // cannot hold up its neighbours.
    bool alone = false;
    Timestamp refused_until;  // it was refused alone too

    bool due(std::uint64_t current_link, Timestamp now) const {
        return now >= refused_until && (link != current_link || now >= next_at);
    }
    void sent(std::uint64_t current_link, Timestamp now);
    void repeat_now() { link = 0; }
    // True when it had been sent alone, so that the refusal means this very report.
    bool refuse(bool was_alone, Timestamp now);
};

// A pause that doubles from `first` to `last`.
Duration next_pause(Duration pause, Duration first, Duration last);

struct Attempt {
    AttemptSnapshot facts;

    bool busy = false;  // an action is under way whose result comes as an event
    Timestamp retry_at;
    Duration retry_pause{0};
    std::optional<Timestamp> wake;  // when time alone makes a difference

    // Closed before, and asked for again: the broker has lost the outcome that is on disk, and what
    // was reported.
    bool reopened = false;

    // Before the start. A dormant attempt is on disk, was never launched, and waits for the broker
    // to assign it once more; it is not listed, so that the broker does.
    bool dormant = false;
    Timestamp dormant_since;
    bool launched = false;
    Timestamp launched_at;
    Timestamp next_check;
    Duration check_pause{0};
    int absent = 0;                          // tmux said so this often in a row
    std::optional<std::string> decline;      // this worker cannot: the reason
    std::optional<std::string> agent_fault;  // nobody can: the reason
    std::optional<StopFact> stop_wish;       // not recorded yet
    std::optional<Duration> timeout_wish;    // not recorded yet

    // While it runs. Until the launcher says when the agent started, `started` is when the claim
    // was seen.
    bool started_written = false;
    bool launcher_gone = false;
    bool other_boot = false;
    Timestamp started;
    Timestamp next_measure;
    bool disk_warned = false;
    bool stop_unrecorded = false;  // a stop must work on a full disk, too
    Timestamp stop_again;
    Duration stop_pause{0};
    bool signalled = false;
    Timestamp kill_launcher_at;

    // A tree without its launcher.
    bool tree_term_sent = false;
    Timestamp tree_next;
    Timestamp tree_kill_at;
    Duration tree_pause{0};
    int tree_kills = 0;

    // After its end.
    Timestamp end_seen;
    bool session_killed = false;
    std::optional<Deliverables> deliverables;
    bool superseded = false;
    bool final_written = false;
    std::array<SendState, 3> sent;  // by report number less one

    bool unclaimed() const { return facts.holder == StartHolder::nobody; }
    bool holds_session() const;
    // The stop is to be carried out, on record or not.
    bool stopping() const { return facts.stop.has_value() || stop_unrecorded; }
    // What the worker enforces; zero: none.
    Duration timeout() const;
    // The broker's outcome says that another attempt follows.
    bool returns() const {
        return facts.outcome && facts.outcome->status == SessionStatus::created;
    }
    void fail(Timestamp now);
    void succeed();
};

AttemptPhase phase_of(const Attempt& attempt);
// The number of the report that the facts ask for and the broker has not acknowledged; nothing when
// there is none. Number 1 comes before 2, 2 before 3.
bool report_due(const Attempt& attempt, std::uint32_t number);
// How the attempt ended, with the stop that this worker recorded taken into account. Times are
// moved by `clock_offset` from this machine's wall clock to the broker's.
EndedReport ended_report(const Attempt& attempt, Duration clock_offset,
                         const std::string& workspace);

}  // namespace iw::worker
