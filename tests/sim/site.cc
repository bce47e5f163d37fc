#include "tests/sim/site.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/planted.h"

namespace iw::sim {

using worker::EndFact;
using worker::LaunchOutcome;
using worker::StartHolder;

Site::Site(Parts parts, WorkerName name, std::uint32_t slots)
    : parts_(parts), name_(std::move(name)), slots_(slots) {}

void Site::later(Duration delay, std::function<void()> what) {
    parts_.world.in(delay, [power = std::weak_ptr<char>(power_), what = std::move(what)] {
        if (!power.expired()) what();
    });
}

void Site::note(const AttemptRef& attempt, const std::string& what) {
    parts_.world.note(name_.str(), attempt_name(attempt) + " " + what);
}

// ---- The state directory -----------------------------------------------------------------------

worker::AttemptSnapshot Site::snapshot(const AttemptRef& attempt) const {
    const AttemptFolder& folder = disk_.at(attempt);
    worker::AttemptSnapshot snapshot;
    snapshot.attempt = attempt;
    snapshot.assignment = folder.assignment;
    if (snapshot.assignment) snapshot.assignment->prompt.clear();
    snapshot.holder = folder.holder;
    snapshot.holder_reason = folder.holder_reason;
    if (folder.process) snapshot.started_at = folder.process->started_at;
    if (folder.process && folder.process->boot_id == parts_.host.boot_id())
        snapshot.started = folder.process->started;
    snapshot.timeout = folder.timeout;
    snapshot.stop = folder.stop;
    snapshot.end = folder.end;
    snapshot.log_done = folder.log_done;
    snapshot.outcome = folder.outcome;
    snapshot.reported = folder.reported;
    snapshot.closed_at = folder.closed_at;
    return snapshot;
}

worker::LauncherState Site::launcher_state(const AttemptRef& attempt) const {
    const AttemptFolder& folder = disk_.at(attempt);
    if (!folder.process || folder.end) return worker::LauncherState::not_asked;
    if (folder.process->boot_id != parts_.host.boot_id()) return worker::LauncherState::other_boot;
    return launchers_.contains(attempt) ? worker::LauncherState::alive
                                        : worker::LauncherState::gone;
}

void Site::record_appeared(const AttemptRef& attempt) {
    later(parts_.world.between(Duration(0), Duration(20)), [this, attempt] {
        if (watch_.on_record) watch_.on_record(attempt);
    });
}

Site::Launcher* Site::launcher(const AttemptRef& attempt, std::uint64_t serial) {
    const auto found = launchers_.find(attempt);
    return found == launchers_.end() || found->second.serial != serial ? nullptr : &found->second;
}

Site::Agent* Site::agent(const AttemptRef& attempt, std::uint64_t serial) {
    const auto found = agents_.find(attempt);
    return found == agents_.end() || found->second.serial != serial ? nullptr : &found->second;
}

// ---- tmux --------------------------------------------------------------------------------------

worker::LaunchedEvent Site::launch(const worker::Launch& action) {
    const AttemptRef attempt{action.assignment.session, action.assignment.fence};
    const auto failed = [&](LaunchOutcome outcome, const std::string& reason) {
        return worker::LaunchedEvent{.attempt = attempt, .outcome = outcome, .reason = reason};
    };
    if (parts_.host.clock.read().steady > action.start_by)
        return failed(LaunchOutcome::withheld, "");
    World& world = parts_.world;
    const std::string& prompt = disk_.at(attempt).assignment->prompt;
    if (parts_.plans.find(prompt).cannot_start)
        return failed(LaunchOutcome::agent_fault, "no such command");
    if (world.fault_one_in(25)) return failed(LaunchOutcome::platform_fault, "no pty");
    // A session of that name is taken for this attempt's.
    if (sessions_.contains(attempt.session)) return failed(LaunchOutcome::launched, "");
    if (world.fault_one_in(40)) return failed(LaunchOutcome::launched, "");  // gone at once
    sessions_[attempt.session] = attempt;
    const std::uint64_t serial = ++last_serial_;
    launchers_[attempt] = Launcher{.serial = serial, .start_by = action.start_by};
    const bool is_slow = world.fault_one_in(25);
    const Duration delay =
        is_slow ? world.between(1_s, 90_s) : world.between(Duration(5), Duration(400));
    later(delay, [this, attempt, serial] { claim(attempt, serial); });
    return failed(LaunchOutcome::launched, "");
}

worker::SessionCheckedEvent Site::check(const AttemptRef& attempt) {
    if (parts_.world.fault_one_in(15)) return {attempt, worker::Presence::unknown};
    const bool is_there = sessions_.contains(attempt.session);
    return {attempt, is_there ? worker::Presence::present : worker::Presence::absent};
}

void Site::kill_session(const SessionId& session) {
    const auto found = sessions_.find(session);
    if (found == sessions_.end()) return;
    const AttemptRef attempt = found->second;
    sessions_.erase(found);
    hang_up(attempt);
}

// ---- Launchers ---------------------------------------------------------------------------------

void Site::claim(const AttemptRef& attempt, std::uint64_t serial) {
    Launcher* mine = launcher(attempt, serial);
    if (mine == nullptr) return;
    const auto folder = disk_.find(attempt);
    const bool is_late = parts_.host.clock.read().steady > mine->start_by;
    if (is_late || folder == disk_.end() || folder->second.holder != StartHolder::nobody) {
        note(attempt, is_late ? "is not started: too late" : "is not started: its start is taken");
        return end_launcher(attempt);
    }
    folder->second.holder = StartHolder::launcher;
    mine->is_claimed = true;
    note(attempt, "claimed");
    record_appeared(attempt);
    const Duration delay = parts_.world.between(Duration(1), Duration(40));
    later(delay, [this, attempt, serial] { start_agent(attempt, serial); });
}

void Site::start_agent(const AttemptRef& attempt, std::uint64_t serial) {
    if (launcher(attempt, serial) == nullptr) return;
    AttemptFolder& folder = disk_.at(attempt);
    const Now now = parts_.host.clock.read();
    if (folder.stop) {
        return write_exit(attempt, serial,
                          EndFact{.cause = EndCause::stopped,
                                  .reason = "stopped before the start",
                                  .ended_at = now.wall});
    }
    const Plan& plan = parts_.plans.find(folder.assignment->prompt);
    note(attempt, "agent starts");
    parts_.oracle.agent_started(attempt, plan.prompt, parts_.world.now());
    agents_[attempt] = Agent{.serial = serial, .plan = plan};
    live(attempt, serial);
    const bool is_slow = parts_.world.fault_one_in(40);
    const Duration delay =
        is_slow ? parts_.world.between(1_s, 30_s) : parts_.world.between(Duration(1), Duration(20));
    later(delay, [this, attempt, serial, now] { write_process(attempt, serial, now); });
}

void Site::write_process(const AttemptRef& attempt, std::uint64_t serial, Now started) {
    if (launcher(attempt, serial) == nullptr) return;
    AttemptFolder& folder = disk_.at(attempt);
    if (folder.end) return;
    folder.process = {parts_.host.boot_id(), started.wall, started.steady};
    record_appeared(attempt);
    stop_if_recorded(attempt);
}

void Site::stop_if_recorded(const AttemptRef& attempt) {
    if (disk_.contains(attempt) && disk_.at(attempt).stop) stop(attempt);
}

void Site::stop(const AttemptRef& attempt) {
    const auto found = launchers_.find(attempt);
    if (found == launchers_.end() || found->second.stop_sent) return;
    if (!agents_.contains(attempt)) return;
    found->second.stop_sent = true;
    terminate(attempt, limits::kStopGrace);
}

// The terminal has closed under it.
void Site::hang_up(const AttemptRef& attempt) {
    const auto found = launchers_.find(attempt);
    if (found == launchers_.end() || found->second.hangup) return;
    if (!agents_.contains(attempt)) return;
    stop_if_recorded(attempt);
    if (found->second.stop_sent) return;
    found->second.hangup = true;
    terminate(attempt, limits::kStopGrace);
}

void Site::end_launcher(const AttemptRef& attempt) {
    launchers_.erase(attempt);
    const auto session = sessions_.find(attempt.session);
    if (session != sessions_.end() && session->second == attempt) sessions_.erase(session);
    const bool is_known = disk_.contains(attempt) && disk_.at(attempt).process;
    later(parts_.world.between(Duration(0), Duration(5)), [this, attempt, is_known] {
        if (is_known && watch_.on_launcher_gone) watch_.on_launcher_gone(attempt);
    });
}

void Site::write_exit(const AttemptRef& attempt, std::uint64_t serial, EndFact end) {
    if (launcher(attempt, serial) == nullptr) return;
    const auto folder = disk_.find(attempt);
    if (folder != disk_.end() && !folder->second.end) folder->second.end = std::move(end);
    note(attempt, "exit record");
    record_appeared(attempt);
    end_launcher(attempt);
    const Duration delay = parts_.world.fault_one_in(20)
                               ? parts_.world.between(5_s, 30_s)
                               : parts_.world.between(Duration(1), Duration(50));
    later(delay, [this, attempt] {
        const auto ended = disk_.find(attempt);
        if (ended == disk_.end()) return;
        ended->second.log_done = true;
        record_appeared(attempt);
    });
}

void Site::signal_launcher(const worker::SignalLauncher& action) {
    const AttemptRef& attempt = action.attempt;
    if (!launchers_.contains(attempt)) return;
    if (!action.kill) return action.recorded ? stop_if_recorded(attempt) : stop(attempt);
    note(attempt, "launcher killed by its worker");
    end_launcher(attempt);
}

worker::TreeEvent Site::signal_tree(const AttemptRef& attempt, worker::TreeSignal signal) {
    const auto found = agents_.find(attempt);
    const std::size_t left = found == agents_.end() ? 0 : 1;
    if (left > 0 && signal == worker::TreeSignal::term) terminate(attempt, 3'600_s);
    if (left > 0 && signal == worker::TreeSignal::kill) {
        parts_.oracle.agent_stopped(attempt, parts_.world.now());
        end_agent(attempt, found->second.serial, Oracle::End::stopped, 137);
    }
    return {attempt, left, "looked at the processes"};
}

// ---- Agents ------------------------------------------------------------------------------------

void Site::terminate(const AttemptRef& attempt, Duration grace) {
    const auto found = agents_.find(attempt);
    if (found == agents_.end()) return;
    parts_.oracle.agent_stopped(attempt, parts_.world.now());
    note(attempt, "is asked to end");
    const std::uint64_t serial = found->second.serial;
    if (!found->second.plan.ignores_term) {
        const Duration delay = parts_.world.between(Duration(1), 4_s);
        const int code = parts_.world.one_in(4) ? 0 : 143;
        later(delay, [this, attempt, serial, code] {
            end_agent(attempt, serial, Oracle::End::stopped, code);
        });
    }
    later(grace,
          [this, attempt, serial] { end_agent(attempt, serial, Oracle::End::stopped, 137); });
}

void Site::end_agent(const AttemptRef& attempt, std::uint64_t serial, Oracle::End how, int code) {
    if (agent(attempt, serial) == nullptr) return;
    note(attempt, "agent ends with " + std::to_string(code));
    agents_.erase(attempt);
    parts_.oracle.agent_ended(attempt, how, code);
    const Launcher* mine = launcher(attempt, serial);
    if (mine == nullptr) return;
    EndFact end{.cause = code >= 128 ? EndCause::signal : EndCause::exited,
                .exit_code = code,
                .stop_sent = mine->stop_sent,
                .reason = "exit code " + std::to_string(code),
                .evidence = "",
                .started_at = std::nullopt,
                .ended_at = parts_.host.clock.read().wall};
    const auto folder = disk_.find(attempt);
    if (folder != disk_.end() && folder->second.process)
        end.started_at = folder->second.process->started_at;
    if (mine->stop_sent) end.cause = EndCause::stopped;
    if (!mine->stop_sent && mine->hangup) {
        end.cause = EndCause::lost;
        end.evidence = "the launcher saw its terminal close";
    }
    const bool is_slow = parts_.world.fault_one_in(40);
    const Duration delay = is_slow ? parts_.world.between(1_s, 60_s)
                                   : parts_.world.between(Duration(1), Duration(300));
    later(delay, [this, attempt, serial, end] { write_exit(attempt, serial, end); });
}

// Children first, one after the other; then it waits for them; then its own work.
void Site::live(const AttemptRef& attempt, std::uint64_t serial) {
    Agent* me = agent(attempt, serial);
    if (me == nullptr) return;
    if (me->next_child < me->plan.children.size()) {
        const Duration delay = parts_.world.between(Duration(10), 5_s);
        return later(delay, [this, attempt, serial] { submit_child(attempt, serial); });
    }
    if (!me->children.empty()) return await_children(attempt, serial);
    const Oracle::End how = me->plan.code >= 128 ? Oracle::End::by_signal : Oracle::End::by_itself;
    later(me->plan.run, [this, attempt, serial, how, code = me->plan.code] {
        end_agent(attempt, serial, how, code);
    });
}

// Under one key until there is an answer, as ictl does.
void Site::submit_child(const AttemptRef& attempt, std::uint64_t serial) {
    Agent* me = agent(attempt, serial);
    if (me == nullptr || me->next_child >= me->plan.children.size()) return;
    const std::size_t number = me->next_child;
    Submission child;
    child.key = "child-" + std::to_string(number) + "-" + std::to_string(attempt.fence.attempt);
    child.agent = AgentName("a");
    child.prompt = me->plan.children[number];
    child.queue_anyway = true;
    const auto answered = [this, attempt, serial, number, key = child.key](Answer answer) {
        Agent* asking = agent(attempt, serial);
        if (asking == nullptr || asking->next_child != number) return;
        const auto* body = std::get_if<Reply>(&answer);
        const auto* made = body == nullptr ? nullptr : std::get_if<SubmitReply>(body);
        if (made != nullptr && !made->sessions.at(0).error) {
            const SessionId& id = made->sessions[0].id;
            parts_.oracle.acknowledged(attempt.session.str() + "/" + key, id);
            asking->children.push_back(id);
        }
        ++asking->next_child;
        live(attempt, serial);
    };
    if (watch_.on_relay)
        watch_.on_relay(attempt, Request(SubmitRequest{.sessions = {child}}), answered);
    const Duration again = parts_.world.between(5_s, 15_s);
    later(again, [this, attempt, serial, number] {
        const Agent* asking = agent(attempt, serial);
        if (asking != nullptr && asking->next_child == number) submit_child(attempt, serial);
    });
}

// By asking again and again; a child that is never answered for is given up in the end.
void Site::await_children(const AttemptRef& attempt, std::uint64_t serial) {
    Agent* me = agent(attempt, serial);
    if (me == nullptr) return;
    const Duration pause = parts_.world.between(5_s, 30_s);
    me->plan.patience -= pause;
    if (me->plan.patience <= Duration(0)) me->children.clear();
    if (me->children.empty()) return live(attempt, serial);
    const SessionId child = me->children.back();
    const auto answered = [this, attempt, serial, child](Answer answer) {
        Agent* asking = agent(attempt, serial);
        const auto* body = std::get_if<Reply>(&answer);
        const auto* found = body == nullptr ? nullptr : std::get_if<StatusReply>(body);
        if (found == nullptr) return;
        parts_.oracle.told(child, found->session.status);
        if (asking == nullptr || !is_final(found->session.status)) return;
        std::erase(asking->children, child);
    };
    if (watch_.on_relay)
        watch_.on_relay(attempt, Request(StatusRequest{.id = child.str(), .exact = true}),
                        answered);
    later(pause, [this, attempt, serial] { await_children(attempt, serial); });
}

// ---- Faults ------------------------------------------------------------------------------------

void Site::power_off() {
    for (const auto& [attempt, agent] : agents_) {
        parts_.oracle.disturbed(attempt);
        parts_.oracle.agent_ended(attempt, Oracle::End::platform, 0);
    }
    for (const auto& [attempt, launcher] : launchers_)
        parts_.oracle.disturbed(attempt);
    power_ = std::make_shared<char>('x');
    agents_.clear();
    launchers_.clear();
    sessions_.clear();
    for (auto& [attempt, folder] : disk_) {
        // Its exit record may not have been written yet.
        if (!folder.end) parts_.oracle.disturbed(attempt);
        folder.reported = folder.reported_synced;
        if (IW_PLANT(claim_not_synced) && !folder.end) {
            folder.holder = StartHolder::nobody;
            folder.process.reset();
        }
    }
}

void Site::wipe() {
    for (const auto& [attempt, folder] : disk_)
        parts_.oracle.disturbed(attempt);
    seen_.reset();
    disk_.clear();
    ++wipes_;
    starts_ = 0;
}

void Site::kill_tmux_server() {
    parts_.world.note(name_.str(), "tmux server killed");
    std::vector<AttemptRef> attempts;
    for (const auto& [session, attempt] : sessions_)
        attempts.push_back(attempt);
    sessions_.clear();
    for (const AttemptRef& attempt : attempts) {
        parts_.oracle.disturbed(attempt);
        if (launchers_.contains(attempt) && !launchers_.at(attempt).is_claimed) {
            launchers_.erase(attempt);  // ended by its terminal before it could claim
        } else {
            hang_up(attempt);
        }
    }
}

void Site::kill_some_launcher() {
    if (launchers_.empty()) return;
    auto victim = launchers_.begin();
    std::advance(victim, static_cast<std::ptrdiff_t>(parts_.world.below(launchers_.size())));
    const AttemptRef attempt = victim->first;
    note(attempt, "launcher killed");
    parts_.oracle.disturbed(attempt);
    end_launcher(attempt);
}

std::string Site::describe() const {
    std::string text;
    for (const auto& [attempt, agent] : agents_)
        text += " " + attempt_name(attempt);
    return text;
}

}  // namespace iw::sim
