// Pauses and drains: who is given nothing new, said by whom, why and until when. What runs goes on,
// and so does what descends from it: a parent that waits for its children could otherwise never
// end.

#include <algorithm>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"
#include "common/base/text.h"

namespace iw::broker {

namespace {

constexpr std::size_t kHoldsMax = 1000;
constexpr Duration kLastsMax{10LL * 366 * 24 * 3600 * 1000};

Error bad(std::string message) {
    return make_error(ErrorCode::bad_request, std::move(message));
}

std::optional<Error> form_refusal(const HoldRequest& request) {
    const bool is_fleet = request.scope == HoldScope::fleet;
    if (is_fleet && !request.name.empty()) return bad("name: the fleet has none; leave it out");
    if (!is_fleet && request.name.empty()) {
        return bad("name: of the " + std::string(name(request.scope)) + " is required");
    }
    if (!request.lasts) return std::nullopt;
    if (!request.on) return bad("lasts: only what is laid on can end by itself");
    if (*request.lasts < Duration(1) || *request.lasts > kLastsMax) {
        return bad("lasts: is not between 1 ms and 10 years");
    }
    return std::nullopt;
}

std::string described(const HoldView& hold) {
    std::string text = " by " + hold.principal + " since " + format_utc(hold.since);
    if (hold.until) text += " until " + format_utc(*hold.until);
    if (!hold.reason.empty()) text += ": " + hold.reason;
    return text;
}

// "project shop"; "the fleet".
std::string named(HoldScope scope, const std::string& name_of) {
    if (scope == HoldScope::fleet) return "the fleet";
    return std::string(name(scope)) + " " + printable(name_of, true);
}

}  // namespace

std::optional<Error> BrokerCore::State::unknown_worker(const std::string& worker) const {
    if (durable_.worker(WorkerName(worker)) != nullptr) return std::nullopt;
    std::vector<std::string> known;
    for (const auto& [name, each] : durable_.workers())
        known.push_back(name.str());
    std::string message = "no worker " + printable(worker, true) + " is registered";
    const std::string near = nearest(worker, known);
    if (!near.empty()) message += "; did you mean " + near + "?";
    return make_error(ErrorCode::not_found, message + " (`ictl workers` lists them)");
}

void BrokerCore::State::on(HoldEvent event) {
    const Caller& caller = event.caller;
    const HoldRequest& request = event.request;
    if (caller.inside) {
        return refuse(caller, ErrorCode::forbidden,
                      "a session may not pause, drain or resume; ask whoever runs the fleet");
    }
    std::optional<Error> error = form_refusal(request);
    if (!error && request.scope == HoldScope::worker) error = unknown_worker(request.name);
    if (!error && request.on && durable_.holds().size() >= kHoldsMax) {
        error = make_error(ErrorCode::conflict,
                           "there are 1000 pauses and drains already; lift one with `ictl resume`");
    }
    if (error) return refuse(caller, error->code, std::move(error->message));
    HoldReply answer;
    answer.changed = change_hold(request, caller.principal);
    const auto hold = durable_.holds().find({request.scope, request.name});
    if (hold != durable_.holds().end()) answer.hold = hold->second;
    if (request.scope == HoldScope::worker) {
        for (const auto& [ordinal, session] : durable_.worker(WorkerName(request.name))->held)
            answer.running.push_back(*session->id);
    }
    reply(caller, std::move(answer));
}

bool BrokerCore::State::change_hold(const HoldRequest& request, const Principal& principal) {
    const auto hold = durable_.holds().find({request.scope, request.name});
    const bool is_on = hold != durable_.holds().end();
    if (!request.on && !is_on) return false;
    // Said again without anything new, it stands as it was first said.
    const bool is_same = is_on && request.on && hold->second.reason == request.reason &&
                         !hold->second.until && !request.lasts;
    if (is_same) return false;
    HoldChanged changed{.scope = request.scope,
                        .name = request.name,
                        .on = request.on,
                        .principal = principal,
                        .reason = request.reason,
                        .until = std::nullopt};
    if (request.lasts) changed.until = time_.wall + *request.lasts;
    emit_hold(std::move(changed));
    return true;
}

void BrokerCore::State::emit_hold(HoldChanged changed) {
    const DurableState::HoldKey key{changed.scope, changed.name};
    const bool is_lifted = !changed.on;
    transition("hold=" + named(changed.scope, changed.name),
               durable_.holds().contains(key) ? "on" : "off", is_lifted ? "off" : "on",
               "by " + changed.principal + (changed.reason.empty() ? "" : ": " + changed.reason));
    hold_ends_.erase(key);
    if (changed.until) hold_ends_[key] = time_.steady + (*changed.until - time_.wall);
    emit(std::move(changed));
    if (is_lifted) ready_.touch_all();
}

// As with due times, the wall clock is looked at once and may be set afterwards. Was it set back
// before, the hold is still never longer than it was asked for.
void BrokerCore::State::begin_holds() {
    for (const auto& [key, hold] : durable_.holds()) {
        if (!hold.until) continue;
        const Duration left = std::min(*hold.until - time_.wall, *hold.until - hold.since);
        hold_ends_[key] = time_.steady + left;
    }
}

void BrokerCore::State::end_holds() {
    std::vector<DurableState::HoldKey> over;
    for (const auto& [key, end] : hold_ends_) {
        if (end <= time_.steady) over.push_back(key);
    }
    for (const DurableState::HoldKey& key : over) {
        emit_hold(HoldChanged{.scope = key.first,
                              .name = key.second,
                              .on = false,
                              .principal = "broker",
                              .reason = "its deadline came",
                              .until = std::nullopt});
    }
}

const HoldView* BrokerCore::State::hold_on(HoldScope scope, const std::string& name) const {
    const auto hold = durable_.holds().find({scope, name});
    return hold == durable_.holds().end() ? nullptr : &hold->second;
}

const HoldView* BrokerCore::State::pause_of(const Placement& placement) const {
    if (durable_.holds().empty()) return nullptr;
    if (const HoldView* hold = hold_on(HoldScope::fleet, "")) return hold;
    if (const HoldView* hold = hold_on(HoldScope::agent, placement.agent.str())) return hold;
    return hold_on(HoldScope::project, placement.project);
}

const HoldView* BrokerCore::State::drain_of(const Worker& worker) const {
    if (durable_.holds().empty()) return nullptr;
    return hold_on(HoldScope::worker, worker.registration.name.str());
}

bool BrokerCore::State::is_below_held(const Session& session) const {
    const std::vector<SessionId>& above = session.particular().ancestors;
    return std::any_of(above.begin(), above.end(), [this](const SessionId& id) {
        const Session* ancestor = durable_.session(id);
        return ancestor != nullptr && ancestor->is_held();
    });
}

std::string BrokerCore::State::held_back_by(const Session& session) const {
    if (durable_.restored()) {
        return "restored (" + *durable_.restored() +
               "); nothing is handed out before `ictl resume --after-restore`";
    }
    if (durable_.holds().empty()) return {};
    const Placement& placement = session.placement->placement;
    const HoldView* pause = pause_of(placement);
    if (pause != nullptr && !is_below_held(session)) {
        const std::string what =
            pause->scope == HoldScope::fleet ? "" : named(pause->scope, pause->name) + " is ";
        return what + "paused" + described(*pause);
    }
    // Drained workers count when no other one that is there could run it.
    const ReadyQueue::Class* placement_class = ready_.find(session.placement->number);
    if (placement_class == nullptr) return {};
    const Worker* drained = nullptr;
    for (const Worker* worker : placement_class->eligible) {
        if (!is_reachable(*worker)) continue;
        if (drain_of(*worker) == nullptr || worker->lending.is_family(session)) return {};
        if (drained == nullptr) drained = worker;
    }
    if (drained == nullptr) return {};
    return "worker " + drained->registration.name.str() + " is drained" +
           described(*drain_of(*drained));
}

}  // namespace iw::broker
