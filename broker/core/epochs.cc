// Epochs. A store that was brought back from a backup, or that has lost something, knows less than
// its workers: it hands out nothing until they have told what they had and an admin has released
// it. Every fence from then on is above all that were given out before.

#include <algorithm>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"
#include "common/base/text.h"

namespace iw::broker {

namespace {

// A worker that lists more attempts that nobody knows is not remembered in full.
constexpr std::size_t kUnknownMax = 10'000;
constexpr std::size_t kNamesShown = 10;
// Nobody gets there honestly, and there must be room above.
constexpr std::uint32_t kGenerationMax = 4'000'000'000;
constexpr std::uint32_t kAttemptMax = 4'000'000'000;
constexpr std::uint32_t kLeapMax = 1'000'000;
// A clock is rarely set back by more.
constexpr Duration kIdAheadMax{7LL * 24 * 3600 * 1000};

bool is_believable(Fence fence) {
    return fence.generation >= 1 && fence.generation < kGenerationMax && fence.attempt >= 1 &&
           fence.attempt < kAttemptMax;
}

// From 1 to kLeapMax, and another one for nearly every epoch (FNV-1a).
std::uint32_t leap_of(const std::string& epoch) {
    std::uint32_t hash = 2'166'136'261u;
    for (const char byte : epoch) {
        hash ^= static_cast<std::uint8_t>(byte);
        hash *= 16'777'619u;
    }
    return 1 + hash % kLeapMax;
}

}  // namespace

void BrokerCore::State::await_workers() {
    store_ids_ = durable_.ids();
    for (auto& [name, presence] : presence_) {
        presence.is_unheard = true;
        presence.is_listing = true;
        presence.listed.clear();
        presence.owed.clear();
    }
}

// What was forgotten may have had ids up to this very second: a session of today with one of them
// would be taken for the one that a worker still remembers.
void BrokerCore::State::skip_past_ids() {
    if (durable_.generation() > 1) durable_.skip_ids(time_.wall);
}

void BrokerCore::State::on(BeginEpochEvent event) {
    if (event.caller && event.caller->inside) {
        return refuse(*event.caller, ErrorCode::forbidden,
                      "a session may not begin an epoch; ask whoever runs the fleet");
    }
    const std::uint32_t generation = durable_.generation() + 1;
    transition("fleet", "generation " + std::to_string(durable_.generation()),
               "generation " + std::to_string(generation), event.reason);
    emit(EpochBegun{.epoch = std::move(event.epoch),
                    .generation = generation,
                    .hold = true,
                    .reason = std::move(event.reason),
                    .principal = std::move(event.principal)});
    skip_past_ids();
    await_workers();
    // Whether these attempts are over is looked at again when all is known.
    std::erase_if(cascades_, [this](const Cascade& cascade) {
        if (!cascade.kill) returned_.push_back(cascade.root);
        return !cascade.kill;
    });
    if (!event.caller) return;
    reply(
        *event.caller,
        ReleaseReply{.epoch = durable_.epoch(), .generation = durable_.generation(), .held = true});
}

// ---- What workers had
// ----------------------------------------------------------------------------------------

// Also of a worker that comes only after the release: the epoch that it was last in tells. A store
// that was never restored has nothing to learn from one that comes from another broker.
void BrokerCore::State::begin_listing(const WorkerHello& hello, Presence& presence) {
    const bool is_of_other_epoch =
        hello.seen && durable_.generation() > 1 && hello.seen->epoch != durable_.epoch();
    if (durable_.restored() || is_of_other_epoch) presence.is_listing = true;
    if (!presence.is_listing) return;
    presence.listed.clear();
    presence.owed.clear();
    presence.unknown.clear();
}

void BrokerCore::State::merge(const Worker& worker, Presence& presence,
                              const std::vector<AttemptState>& attempts) {
    if (!presence.is_listing) return;
    for (const AttemptState& attempt : attempts) {
        if (!is_believable(attempt.fence)) continue;
        raise_generation_above(attempt.fence);
        Session* session = durable_.session(attempt.session);
        if (session == nullptr) {
            // A session from after the backup, if its id is newer than those that the store had.
            const bool is_unknown = store_ids_.is_unknown(attempt.session);
            const std::optional<WallTime> second = second_of(attempt.session);
            // No new session may get the id of one that this store has forgotten. Of one that
            // claims to be from far ahead nothing is believed.
            if (is_unknown && *second < time_.wall + kIdAheadMax) durable_.skip_ids(*second);
            if (is_unknown && presence.unknown.size() < kUnknownMax) {
                presence.unknown.insert({.session = attempt.session, .fence = attempt.fence});
            }
            continue;
        }
        if (is_to_be_adopted(*session, worker, attempt)) {
            emit(AttemptAdopted{.id = attempt.session,
                                .fence = attempt.fence,
                                .worker = worker.registration.name,
                                .host = worker.registration.host});
        }
        const bool is_its_own =
            session->is_held() && session->fence == attempt.fence && is_of(*session, worker);
        if (!is_its_own) continue;
        presence.listed.insert(session->ordinal);
        // What was accepted only may be dropped again; the open list then shows it as missing.
        if (attempt.phase == AttemptPhase::accepted) continue;
        presence.owed[session->ordinal] = attempt.phase;
    }
}

// A backup from before an earlier restore makes the generation of that restore a second time. Until
// the release nothing has been given out in it, so it can still be left to those who had it.
void BrokerCore::State::raise_generation_above(Fence fence) {
    const std::uint32_t generation = durable_.generation();
    if (!durable_.restored() || fence.generation < generation) return;
    raise_generation(fence.generation + 1, "a worker knows the one before");
}

void BrokerCore::State::raise_generation(std::uint32_t generation, const std::string& why) {
    IW_CHECK(durable_.restored().has_value());
    transition("fleet", "generation " + std::to_string(durable_.generation()),
               "generation " + std::to_string(generation), why);
    emit(EpochBegun{.epoch = durable_.epoch(),
                    .generation = generation,
                    .hold = true,
                    .reason = *durable_.restored(),
                    .principal = "broker"});
}

// At the session's own fence only one that is still alive, of a session that waits: that attempt
// was given up on silence. How every other one of that fence ended is on record here.
bool BrokerCore::State::is_to_be_adopted(const Session& session, const Worker& worker,
                                         const AttemptState& attempt) const {
    if (session.phase == Phase::closing || attempt.phase == AttemptPhase::declined) return false;
    if (attempt.fence > session.fence) return true;
    const bool is_alive =
        attempt.phase == AttemptPhase::accepted || attempt.phase == AttemptPhase::running;
    return attempt.fence == session.fence && session.phase == Phase::queued && is_alive &&
           is_of(session, worker);
}

void BrokerCore::State::end_listing(const Worker& worker, Presence& presence) {
    presence.is_listing = false;
    transition("worker=" + worker.registration.name.str(), worker.state, worker.state,
               "has listed all its attempts");
    if (durable_.restored()) return;
    lose_unlisted(worker, presence);
    ready_.touch(worker);
}

void BrokerCore::State::lose_unlisted(const Worker& worker, Presence& presence) {
    std::vector<const Session*> forgotten;
    for (const auto& [ordinal, session] : worker.held) {
        if (session->phase != Phase::running || is_orphan(*session, worker)) continue;
        if (!presence.listed.contains(ordinal)) forgotten.push_back(session);
    }
    presence.listed.clear();
    for (const Session* session : forgotten) {
        lose(*session, "worker " + worker.registration.name.str() +
                           " has listed all its attempts, and this one is not among them");
    }
}

// ---- Release
// -------------------------------------------------------------------------------------------------

// A name whose state directory has moved to another one is heard under that.
std::vector<WorkerName> BrokerCore::State::unheard() const {
    std::set<std::string> heard;
    for (const auto& [name, worker] : durable_.workers()) {
        if (!presence_.at(name).is_unheard) heard.insert(worker.registration.state_id);
    }
    std::vector<WorkerName> names;
    for (const auto& [name, worker] : durable_.workers()) {
        const Presence& presence = presence_.at(name);
        if (!presence.is_unheard || !presence.confirmed_dead.empty()) continue;
        if (!heard.contains(worker.registration.state_id)) names.push_back(name);
    }
    return names;
}

std::optional<Error> BrokerCore::State::release_refusal() const {
    const auto conflict = [](std::string message) {
        return make_error(ErrorCode::conflict, std::move(message));
    };
    const std::vector<WorkerName> silent = unheard();
    if (!silent.empty()) {
        std::vector<std::string> names;
        for (const WorkerName& name : silent) {
            if (names.size() < kNamesShown) names.push_back(name.str());
        }
        return conflict("not heard since the restore: " + join(names, ", ") +
                        (silent.size() > kNamesShown ? ", ..." : "") +
                        "; start them, confirm them dead, or release with force: what they ran "
                        "may then run twice");
    }
    for (const auto& [name, presence] : presence_) {
        if (presence.is_unheard || !presence.confirmed_dead.empty()) continue;
        const bool is_owing = presence.owes_ends();
        if (!presence.is_listing && !is_owing) continue;
        return conflict(
            "worker " + name.str() + " has not yet " +
            (is_owing ? "reported how attempts have ended" : "listed all its attempts") +
            "; try again in a few seconds");
    }
    return std::nullopt;
}

void BrokerCore::State::on(ReleaseEvent event) {
    const Caller& caller = event.caller;
    if (caller.inside) {
        return refuse(caller, ErrorCode::forbidden,
                      "a session may not release a restore; ask whoever runs the fleet");
    }
    if (!durable_.restored()) {
        return refuse(caller, ErrorCode::conflict,
                      "nothing is held back by a restore; pauses are lifted by `ictl resume`");
    }
    std::optional<Error> error = release_refusal();
    if (error && !event.force) return refuse(caller, error->code, std::move(error->message));
    // Who was not asked may have had the next generation already, from a restore of the same
    // backup: a leap that only this epoch makes keeps its fences apart from those.
    const std::uint32_t generation = durable_.generation();
    if (error && generation < kGenerationMax) {
        raise_generation(generation + leap_of(durable_.epoch()), "released by force");
    }
    transition("fleet", "restored", "released", event.reason);
    emit(RestoreReleased{.principal = caller.principal, .reason = event.reason});
    for (const auto& [name, worker] : durable_.workers()) {
        Presence& presence = presence_.at(name);
        if (!presence.confirmed_dead.empty()) {
            lose_confirmed(worker, presence.confirmed_dead);
        } else if (!presence.is_listing && !presence.is_unheard) {
            lose_unlisted(worker, presence);
        }
    }
    ready_.touch_all();
    reply(caller,
          ReleaseReply{
              .epoch = durable_.epoch(), .generation = durable_.generation(), .held = false});
}

FleetReply BrokerCore::State::fleet() const {
    FleetReply fleet;
    fleet.epoch = durable_.epoch();
    fleet.generation = durable_.generation();
    fleet.seq = durable_.head();
    fleet.restored = durable_.restored().has_value();
    fleet.restored_why = durable_.restored().value_or("");
    if (fleet.restored) fleet.unheard = unheard();
    for (const auto& [key, hold] : durable_.holds())
        fleet.holds.push_back(hold);
    fleet.queued = durable_.count(Phase::queued);
    fleet.assigned = durable_.count(Phase::assigned);
    fleet.running = durable_.count(Phase::running);
    fleet.closing = durable_.count(Phase::closing);
    return fleet;
}

}  // namespace iw::broker
