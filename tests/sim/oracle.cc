#include "tests/sim/oracle.h"

#include <algorithm>

#include "common/base/limits.h"

namespace iw::sim {

namespace {

// The broker notices a stall of its own from here on; a shorter one it may count as silence.
constexpr Duration kUnnoticed{13'000};
// Timeouts are kept on clocks that run up to a tenth too fast.
constexpr int kRateSlackPercent = 88;

}  // namespace

void Oracle::fail(std::string what) {
    if (!violation_ && !is_replaying_) violation_ = std::move(what);
}

// ---- P1, P2: what clients were told ------------------------------------------------------------

void Oracle::acknowledged(const std::string& key, const SessionId& id) {
    if (is_forgotten(id)) return;  // the answer was under way
    if (!sessions_.contains(id)) fail("P1: " + id.str() + " was acknowledged and is not on disk");
    const auto [entry, is_new] = keys_.emplace(key, id);
    if (!is_new && entry->second != id) {
        fail("P2: key " + key + " gave " + entry->second.str() + " and " + id.str());
    }
}

void Oracle::told(const SessionId& id, SessionStatus status) {
    if (is_restored_ && forgotten_.contains(id)) return;
    const auto final = told_final_.find(id);
    if (final != told_final_.end() && final->second != status) {
        fail("P1: " + id.str() + " was shown final and then as something else");
    }
    if (!is_final(status)) return;
    told_final_[id] = status;
    const auto known = sessions_.find(id);
    if (known == sessions_.end() || !known->second.is_closed || known->second.ended != status) {
        fail("P1: " + id.str() + " was shown final and is not so on disk");
    }
}

void Oracle::on(const broker::SessionCreated& body, Timestamp decided) {
    Known known{.submission = body.submission, .above = {}, .fence = {}};
    if (const auto parent = sessions_.find(body.submission.parent); parent != sessions_.end()) {
        known.above = parent->second.above;
        known.above.push_back(body.submission.parent);
    }
    if (body.submission.expires) {
        // On the broker's clock, which may run fast.
        known.expires = decided + *body.submission.expires * kRateSlackPercent / 100;
    }
    known.timeout_min = body.submission.timeout;
    if (!sessions_.emplace(body.id, std::move(known)).second) {
        fail("P1: " + body.id.str() + " was made twice");
    }
    if (body.submission.key.empty()) return;
    const auto key = created_keys_.emplace(body.principal + "/" + body.submission.key, body.id);
    if (!key.second) fail("P2: key " + body.submission.key + " made two sessions");
}

// ---- P3: attempts ------------------------------------------------------------------------------

void Oracle::committed(const broker::Record& record, Timestamp decided) {
    if (record.seq != history_.size() + 1) fail("P6: a record's number is used twice or missing");
    const SessionId* id = std::visit(
        [](const auto& body) -> const SessionId* {
            if constexpr (requires { body.id; }) return &body.id;
            return nullptr;
        },
        record.body);
    history_.push_back(id == nullptr ? SessionId() : *id);
    if (!is_replaying_) records_.push_back({record, decided});
    const bool is_created = std::holds_alternative<broker::SessionCreated>(record.body);
    if (id != nullptr && !is_created && !sessions_.contains(*id)) {
        return fail("P1: a record about " + id->str() + ", which was never made");
    }
    std::visit([&](const auto& body) { on(body, decided); }, record.body);
    rules_.committed(record);
}

void Oracle::on(const broker::AttemptAssigned& body, Timestamp) {
    Known& known = sessions_.at(body.id);
    if (known.is_held || known.ended) fail("P3: " + body.id.str() + " was given out twice");
    if (body.fence <= known.fence) fail("P3: a fence of " + body.id.str() + " is used again");
    known.fence = body.fence;
    known.is_held = true;
    known.worker = body.worker;
    known.state_id = workers_[body.worker].state_id;
}

void Oracle::agent_started(const AttemptRef& attempt, const std::string& prompt, Timestamp now) {
    const std::string name = attempt_name(attempt);
    if (agents_.contains(attempt)) fail("P3: " + name + " was started twice");
    for (const auto& [other, agent] : agents_) {
        // An earlier one that was given away may live on until it is told so.
        if (other.session != attempt.session || !agent.is_alive) continue;
        if (is_forgotten(attempt.session)) continue;
        const Known& known = sessions_.at(attempt.session);
        const bool is_given_away = other.fence < known.fence || !known.is_held;
        if (!is_given_away) fail("P3: " + name + " and an earlier attempt run at once");
    }
    agents_[attempt] = Agent{.started = now};
    check_second_run(attempt);
    if (forgotten_attempts_.contains(attempt)) return;
    const auto known = sessions_.find(attempt.session);
    if (known == sessions_.end() || known->second.fence < attempt.fence) {
        return fail("P3: " + name + " was started and its assignment is not on disk");
    }
    // Of an admin's word it need not know yet.
    const bool is_current = known->second.fence == attempt.fence && known->second.is_held;
    if (!is_current && !confirmed_.contains(attempt)) {
        fail("P3: " + name + " was started after it had been given away");
    }
    if (known->second.submission.prompt != prompt) fail("P1: " + name + " got another prompt");
}

void Oracle::agent_ended(const AttemptRef& attempt, End how, int code) {
    Agent& agent = agents_.at(attempt);
    agent.is_alive = false;
    agent.how = how;
    agent.code = code;
}

const Oracle::Agent* Oracle::agent(const AttemptRef& attempt) const {
    const auto found = agents_.find(attempt);
    return found == agents_.end() ? nullptr : &found->second;
}

// ---- P4: silence -------------------------------------------------------------------------------

void Oracle::broker_started(Timestamp now) {
    broker_started_ = now;
    for (auto& [name, heard] : heard_name_)
        heard = now;
    for (auto& [state, heard] : heard_state_)
        heard = now;
}

void Oracle::broker_stood_still(Duration how_long) {
    if (how_long <= kUnnoticed) return;
    for (auto& [name, heard] : heard_name_)
        heard += how_long - kUnnoticed;
    for (auto& [state, heard] : heard_state_)
        heard += how_long - kUnnoticed;
}

void Oracle::heard(const WorkerName& worker, Timestamp now) {
    heard_name_[worker] = now;
    heard_state_[state_of_[worker]] = now;
}

void Oracle::greeted(const WorkerName& worker, const std::string& state_id, Timestamp now) {
    state_of_[worker] = state_id;
    greeted_[state_id] = now;
    heard(worker, now);
}

// A millisecond of each reading may be lost to rounding.
Duration Oracle::silence(Timestamp heard, Timestamp now) const {
    return Duration((now - heard).count() * broker_rate_ / 1'000'000 + 2);
}

void Oracle::on(const broker::WorkerRegistered& body, Timestamp) {
    workers_[body.name] = body;
    for (auto& [id, known] : sessions_) {
        if (known.is_held && known.state_id == body.state_id) known.worker = body.name;
    }
}

void Oracle::on(const broker::WorkerNoted& body, Timestamp decided) {
    states_[body.name] = body.state;
    const Duration silent = silence(heard_name_[body.name], decided);
    const bool is_lost = body.state == "lost" && silent < limits::kLostAfter;
    const bool is_unreachable = body.state == "unreachable" && silent < limits::kUnreachableAfter;
    if (!is_lost && !is_unreachable) return;
    fail("P4: " + body.name.str() + " is called " + body.state + " after only " +
         std::to_string(silent.count()) + " ms of silence");
}

void Oracle::check_lost(const Known& known, const AttemptRef& attempt, const std::string& evidence,
                        Timestamp decided) {
    const std::string name = attempt_name(attempt);
    if (evidence.empty()) fail("P4: " + name + " was lost without evidence");
    if (evidence.starts_with("confirmed dead") && confirmed_workers_.contains(known.worker)) {
        confirmed_.insert(attempt);
        return;
    }
    const Agent* ran = agent(attempt);
    const bool is_alive = ran != nullptr && ran->is_alive;
    const auto greeted = greeted_.find(workers_[known.worker].state_id);
    const bool is_greeting = greeted != greeted_.end() && greeted->second == decided;
    if (reported_lost_.contains(attempt) || is_greeting || disturbed_.contains(attempt)) {
        if (is_alive && !disturbed_.contains(attempt)) fail("P5: " + name + " was lost and runs");
        if (ran != nullptr && !disturbed_.contains(attempt)) {
            fail("P5: " + name + " was lost although nothing had happened to it");
        }
        return;
    }
    const Duration silent = silence(heard_state_[known.state_id], decided);
    const bool is_orphan = workers_[known.worker].state_id != known.state_id;
    if (known.submission.on_lost == OnLost::wait && !is_orphan) {
        fail("P4: " + name + " was lost on silence although its policy is wait");
    }
    if (silent >= limits::kLostAfter) return;
    fail("P4: " + name + " was lost after " + std::to_string(silent.count()) + " ms of silence");
}

void Oracle::on(const broker::AttemptReturned& body, Timestamp decided) {
    Known& known = sessions_.at(body.id);
    if (!known.is_held || body.fence != known.fence) {
        fail("P3: a stale attempt of " + body.id.str() + " was returned");
    }
    const AttemptRef attempt{body.id, body.fence};
    const Agent* ran = agent(attempt);
    if (body.cause == Detail::lost) check_lost(known, attempt, body.evidence, decided);
    if (body.cause == Detail::start_failed && ran != nullptr) {
        fail("P3: " + attempt_name(attempt) + " ran and was returned as not started");
    }
    if (!body.platform_fault) check_end(known, attempt, body.cause, body.exit_code, decided);
    known.is_held = false;
    returned_.insert(attempt);
}

// ---- P5: what ends what runs -------------------------------------------------------------------

bool Oracle::is_kill_due(const Known& known, const SessionId& id) const {
    if (kill_asked_.contains(id)) return true;
    return std::any_of(known.above.begin(), known.above.end(), [this](const SessionId& above) {
        // The children of an attempt that is over are killed before the next one.
        const Known& parent = sessions_.at(above);
        return kill_asked_.contains(above) || parent.fence.attempt > 1 || !parent.is_held ||
               forgotten_.contains(above);
    });
}

bool Oracle::is_timed_out(const Known& known, const AttemptRef& attempt, Timestamp now) const {
    const Agent* ran = agent(attempt);
    return ran != nullptr &&
           now - ran->started >= known.timeout_min * kRateSlackPercent / 100 - Duration(1'000);
}

void Oracle::agent_stopped(const AttemptRef& attempt, Timestamp now) {
    // Of a session that nobody knows any more; its timeout may have come.
    if (is_forgotten(attempt.session)) return;
    const Known& known = sessions_.at(attempt.session);
    const bool is_current = known.is_held && known.fence == attempt.fence;
    if (!is_current || disturbed_.contains(attempt) || is_kill_due(known, attempt.session) ||
        is_timed_out(known, attempt, now)) {
        return;
    }
    fail("P5: " + attempt_name(attempt) + " was stopped, and nobody had asked for it");
}

// An end that counts is the end that the attempt's own agent had.
void Oracle::check_end(const Known& known, const AttemptRef& attempt, Detail how,
                       std::optional<int> code, Timestamp now) {
    const Agent* ran = agent(attempt);
    const std::string name = attempt_name(attempt);
    const bool by_itself = ran != nullptr && !ran->is_alive && ran->how == End::by_itself;
    if (how == Detail::done && (!by_itself || ran->code != 0))
        fail("P3: " + name + " is done and did not succeed");
    if (how == Detail::exited && (!by_itself || ran->code != code.value_or(-1)))
        fail("P3: " + name + " failed with another code than its agent's");
    if (how == Detail::signal && (ran == nullptr || ran->is_alive || ran->how == End::by_itself))
        fail("P3: " + name + " failed by a signal that it did not get");
    const bool is_told = how == Detail::timeout && !forgotten_.contains(attempt.session);
    if (is_told && !is_timed_out(known, attempt, now)) fail("P4: " + name + " had time left");
    if (how == Detail::start_failed && ran != nullptr)
        fail("P3: " + name + " ran and ended as not started");
}

void Oracle::check_outcome(const Known& known, const broker::SessionEnded& ended,
                           Timestamp decided) {
    const AttemptRef attempt{ended.id, ended.fence};
    const Agent* ran = agent(attempt);
    const std::string name = attempt_name(attempt);
    if (ended.detail == Detail::lost) return check_lost(known, attempt, ended.evidence, decided);
    check_end(known, attempt, ended.detail, ended.exit_code, decided);
    const bool was_killed = ended.detail == Detail::killed || ended.detail == Detail::parent_killed;
    if (was_killed && !is_kill_due(known, ended.id)) fail("P4: " + name + " was killed by nobody");
    // Of a start whose record was cut off nobody knows.
    const bool may_expire = (ran == nullptr || disturbed_.contains(attempt)) && known.expires &&
                            decided >= *known.expires;
    if (ended.detail == Detail::expired && !may_expire) fail("P4: " + name + " expired too early");
}

void Oracle::on(const broker::SessionEnded& body, Timestamp decided) {
    Known& known = sessions_.at(body.id);
    if (known.ended) fail("P3: " + body.id.str() + " ended twice");
    if (body.fence != known.fence) fail("P3: a stale attempt of " + body.id.str() + " counted");
    check_outcome(known, body, decided);
    known.ended = body.status;
    known.is_held = false;
}

// P7: a session is final when its files are where people read them, or nobody is left to wait for.
void Oracle::check_closed(const Known& known, const broker::SessionClosed& closed,
                          Timestamp decided) {
    const Origin& origin = known.submission.origin;
    for (const auto& [name, worker] : workers_) {
        const bool is_owner = worker.host == origin.host && worker.root == origin.root;
        const std::string& state = states_[name];
        if (!is_owner || state == "away") continue;
        if (closed.by == name.str()) {
            if (!files_.contains({name, closed.id}))
                fail("P7: " + closed.id.str() + " is final before its files are there");
            return;
        }
        // Given up for good reason, and heard in this very turn: after what was closed, since its
        // record would say so otherwise.
        const Timestamp heard = heard_name_[name];
        if ((state == "unreachable" || state == "lost") && heard == decided) continue;
        if (silence(heard, decided) < limits::kUnreachableAfter)
            fail("P7: " + closed.id.str() + " did not wait for its owner " + name.str());
    }
}

void Oracle::on(const broker::SessionEdited& body, Timestamp) {
    if (!body.parent) return;
    const auto add = [&body](Known& known) {
        known.above.insert(known.above.end(), body.ancestors.begin(), body.ancestors.end());
    };
    add(sessions_.at(body.id));
    for (const SessionId& id : body.below)
        add(sessions_.at(id));
}

void Oracle::on(const broker::SessionClosed& body, Timestamp decided) {
    Known& known = sessions_.at(body.id);
    check_closed(known, body, decided);
    if (!known.ended || known.is_closed) fail("P3: " + body.id.str() + " closed out of turn");
    known.is_closed = true;
}

void Oracle::on(const broker::TimeoutChanged& body, Timestamp) {
    Known& known = sessions_.at(body.id);
    known.timeout_min = std::min(known.timeout_min, body.timeout);
}

// ---- P6: watchers ------------------------------------------------------------------------------

void Oracle::page(const std::string& watcher, const EventsRequest& request,
                  const EventsReply& page) {
    Seq& seen = seen_[watcher];
    if (page.gap) {
        if (page.epoch == request.epoch) fail("P6: " + watcher + " was told of a gap without need");
        seen = page.next;
        return;
    }
    for (const Event& event : page.events) {
        const bool is_next = event.seq == seen + 1 || (!request.ids.empty() && event.seq > seen);
        if (!is_next) fail("P6: " + watcher + " sees a hole, a repeat or an older event");
        for (Seq seq = seen + 1; seq < event.seq && seq <= history_.size(); ++seq) {
            const auto& ids = request.ids;
            if (std::find(ids.begin(), ids.end(), history_[seq - 1]) != ids.end())
                fail("P6: " + watcher + " missed an event");
        }
        if (event.seq > history_.size() || history_[event.seq - 1] != event.id) {
            fail("P6: " + watcher + " saw an event that is not on disk");
        }
        seen = event.seq;
    }
    if (page.next < seen) fail("P6: the cursor of " + watcher + " goes back");
    if (!request.ids.empty()) seen = page.next;
}

// ---- The end -----------------------------------------------------------------------------------

void Oracle::finished() {
    for (const auto& [id, known] : sessions_) {
        if (!known.is_closed) fail("liveness: " + id.str() + " did not end");
    }
    for (const auto& [attempt, agent] : agents_) {
        if (agent.is_alive) fail("liveness: " + attempt_name(attempt) + " still runs");
    }
    for (const auto& [watcher, seen] : seen_) {
        if (seen < history_.size()) fail("P6: " + watcher + " did not see the end");
    }
}

}  // namespace iw::sim
