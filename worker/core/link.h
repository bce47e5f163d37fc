#pragma once

// The worker's side of the connection to its broker: when to say hello, when to send a heartbeat,
// and when silence means that nothing may be started any more.

#include <cstdint>
#include <optional>
#include <string>

#include "common/base/time.h"
#include "common/messages/messages.h"

namespace iw::worker {

class Link {
  public:
    // What time asks for.
    enum class Step { nothing, hello, heartbeat, give_up_greeting, lost };

    void start(Timestamp now) { next_hello_ = now; }
    // False: the silence before this message was too long, so the message is of a connection to be
    // given up.
    bool heard(Timestamp now);
    // False: it answers no hello, or one of so long ago that the broker may have taken this worker
    // for gone since; nothing has changed then.
    bool welcomed(Timestamp now, WallTime wall, const WelcomeReply& welcome);
    void clock(Timestamp now, WallTime broker_time);
    void refused(Timestamp now);
    void no_session(Timestamp now);
    // True when nobody has been connected for so long that a new socket has to be made: the
    // transport gives a peer up for good that once broke its protocol, and says nothing.
    bool not_sent(Timestamp now);
    void lost(Timestamp now);
    void close() { state_ = State::closed; }

    Step due(Timestamp now) const;
    void hello_sent(Timestamp now);
    void heartbeat_sent(Timestamp now);
    void heartbeat_soon(Timestamp now) { next_heartbeat_ = now; }
    void greeting_given_up(Timestamp now);

    bool up() const { return state_ == State::up; }
    bool closed() const { return state_ == State::closed; }
    // Up, and heard within the unreachable time: only then may an attempt be started.
    bool fresh(Timestamp now) const { return up() && now - heard_at_ <= unreachable_; }
    // The end of that time, as things stand; meaningful while up.
    Timestamp fresh_until() const { return heard_at_ + unreachable_; }
    // Counts welcomes; 0 before the first.
    std::uint64_t serial() const { return serial_; }
    WallTime broker_time(Now now) const;
    std::optional<Timestamp> deadline() const;

  private:
    enum class State { down, greeting, up, closed };

    State state_ = State::down;
    std::uint64_t serial_ = 0;
    Timestamp heard_at_;
    Timestamp next_hello_;
    std::optional<Timestamp> unsent_since_;  // nobody has been connected
    Timestamp hello_sent_at_;
    Timestamp greeting_until_;
    Timestamp next_heartbeat_;
    Duration hello_pause_{0};
    Duration socket_pause_{0};
    Duration heartbeat_{0};
    Duration unreachable_{0};
    std::optional<WallTime> clock_;  // the broker's time at clock_at_
    Timestamp clock_at_;
};

}  // namespace iw::worker
