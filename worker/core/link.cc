#include "worker/core/link.h"

#include <algorithm>

#include "common/base/check.h"
#include "worker/core/attempt.h"

namespace iw::worker {

namespace {

// Nobody is connected: the transport reconnects by itself, so asking again soon is cheap.
constexpr Duration kHelloPauseFirst{100};
constexpr Duration kHelloPauseLast{2'000};
// Said hello over a live connection and nobody answered: a new socket, ever more rarely.
constexpr Duration kGreetingPatience{5'000};
// Longer than the transport ever pauses between its own tries.
constexpr Duration kUnsentPatience{10'000};
constexpr Duration kSocketPauseFirst{1'000};
constexpr Duration kSocketPauseLast{30'000};
// A broker that announces nonsense must not make this worker spin.
constexpr Duration kHeartbeatMin{50};

}  // namespace

bool Link::heard(Timestamp now) {
    if (up() && now - heard_at_ > unreachable_) return false;
    heard_at_ = now;
    return true;
}

bool Link::welcomed(Timestamp now, WallTime wall, const WelcomeReply& welcome) {
    if (state_ != State::greeting) return false;
    // It may have waited in the buffer of a frozen worker, with assignments behind it.
    if (now - hello_sent_at_ > std::max(welcome.unreachable, kGreetingPatience)) return false;
    state_ = State::up;
    ++serial_;
    heard_at_ = now;
    heartbeat_ = std::max(welcome.heartbeat, kHeartbeatMin);
    unreachable_ = std::max(welcome.unreachable, heartbeat_ * 2);
    hello_pause_ = Duration{0};
    socket_pause_ = Duration{0};
    unsent_since_.reset();
    // The wishes to stop come with the answer to a heartbeat: ask at once.
    next_heartbeat_ = now;
    clock(now, to_ms(welcome.time) > 0 ? welcome.time : wall);
    return true;
}

void Link::clock(Timestamp now, WallTime broker_time) {
    clock_ = broker_time;
    clock_at_ = now;
}

void Link::refused(Timestamp now) {
    if (closed()) return;
    state_ = State::down;
    socket_pause_ = next_pause(socket_pause_, kSocketPauseFirst, kSocketPauseLast);
    next_hello_ = now + socket_pause_;
}

void Link::no_session(Timestamp now) {
    // While a hello is under way this answers something older.
    if (!up()) return;
    state_ = State::down;
    next_hello_ = now;
}

bool Link::not_sent(Timestamp now) {
    if (closed() || state_ == State::down) return false;
    state_ = State::down;
    hello_pause_ = next_pause(hello_pause_, kHelloPauseFirst, kHelloPauseLast);
    next_hello_ = now + hello_pause_;
    if (!unsent_since_) unsent_since_ = now;
    if (now - *unsent_since_ < kUnsentPatience) return false;
    unsent_since_ = now;
    return true;
}

void Link::lost(Timestamp now) {
    if (closed()) return;
    state_ = State::down;
    next_hello_ = now;
}

Link::Step Link::due(Timestamp now) const {
    switch (state_) {
        case State::closed:
            return Step::nothing;
        case State::down:
            return now >= next_hello_ ? Step::hello : Step::nothing;
        case State::greeting:
            return now >= greeting_until_ ? Step::give_up_greeting : Step::nothing;
        case State::up:
            if (now - heard_at_ > unreachable_) return Step::lost;
            return now >= next_heartbeat_ ? Step::heartbeat : Step::nothing;
    }
    return Step::nothing;
}

void Link::hello_sent(Timestamp now) {
    IW_CHECK(!up() && !closed());
    state_ = State::greeting;
    hello_sent_at_ = now;
    greeting_until_ = now + kGreetingPatience;
}

void Link::heartbeat_sent(Timestamp now) {
    IW_CHECK(up() && heartbeat_ >= kHeartbeatMin);
    next_heartbeat_ = now + heartbeat_;
}

void Link::greeting_given_up(Timestamp now) {
    refused(now);
}

WallTime Link::broker_time(Now now) const {
    if (!clock_) return now.wall;
    return *clock_ + (now.steady - clock_at_);
}

std::optional<Timestamp> Link::deadline() const {
    switch (state_) {
        case State::closed:
            return std::nullopt;
        case State::down:
            return next_hello_;
        case State::greeting:
            return greeting_until_;
        case State::up:
            // Silence counts from one past the bound, see fresh().
            return std::min(next_heartbeat_, heard_at_ + unreachable_ + Duration{1});
    }
    return std::nullopt;
}

}  // namespace iw::worker
