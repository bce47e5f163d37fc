#pragma once

// Drives a BrokerCore by hand in tests: two clocks, short ways to say what happens, and the journal
// of all records. Invariants are checked after every step.

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "broker/core/broker_core.h"

namespace iw::broker::testing {

inline constexpr std::int64_t kStartMs = 1'763'480'000'000;  // 2025-11-18 15:33:20 UTC

inline Duration seconds(std::int64_t count) {
    return Duration(count * 1000);
}

class CoreDriver {
  public:
    CoreDriver() : CoreDriver(CoreConfig{}) {}
    explicit CoreDriver(CoreConfig config) : config_(config), core(config, 1) {
        time.steady = Timestamp(Duration(500'000));
        time.wall = wall_from_ms(kStartMs);
        core.started(time);
    }

    // ---- Time
    void advance(Duration by) {
        time.steady += by;
        time.wall += by;
    }
    Actions tick() { return tick(Duration(0)); }
    Actions tick(Duration stall) { return step(TickEvent{.stall = stall}); }
    Actions tick_after(Duration by) {
        advance(by);
        return tick();
    }

    // ---- Events
    Actions step(CoreEvent event) {
        Actions actions = core.step(time, std::move(event));
        for (const Record& record : actions.records)
            journal.push_back(record);
        core.check_invariants();
        return actions;
    }
    static Caller caller(std::uint64_t peer) {
        return {.peer = {peer}, .request = "r", .principal = "uid:1000", .inside = std::nullopt};
    }
    static Submission submission(const std::string& agent) {
        Submission submission;
        submission.agent = AgentName(agent);
        submission.prompt = "do it";
        return submission;
    }
    static BodyHash hash(std::uint8_t value) {
        BodyHash hash{};
        hash[0] = value;
        return hash;
    }
    SubmitOutcome submit(Submission submission) { return submit(std::move(submission), hash(1)); }
    SubmitOutcome submit(Submission submission, BodyHash body_hash) {
        SubmitEvent event;
        event.caller = caller(1);
        event.items.push_back({std::move(submission), body_hash, std::nullopt});
        last = step(std::move(event));
        return reply<SubmitReply>(last).sessions.at(0);
    }
    SessionId submitted(const std::string& agent) { return submitted(submission(agent)); }
    SessionId submitted(Submission submission) {
        const SubmitOutcome outcome = submit(std::move(submission));
        EXPECT_FALSE(outcome.error.has_value()) << outcome.error->message;
        return outcome.id;
    }
    SessionId submitted_inside(const SessionId& parent) {
        SubmitEvent event;
        event.caller = caller(7);
        event.caller.inside = AttemptRef{parent, fence(parent)};
        event.items.push_back({submission("a"), hash(1), std::nullopt});
        return reply<SubmitReply>(step(std::move(event))).sessions.at(0).id;
    }
    Actions kill(const SessionId& id, const std::string& reason) {
        return step(KillEvent{.caller = caller(1), .id = id, .reason = reason});
    }

    // A worker "w" on host "h" in root "/r" with two slots for agent "a".
    static WorkerHello worker(const std::string& name) {
        WorkerHello hello;
        hello.name = WorkerName(name);
        hello.host = "h";
        hello.root = "/r" + (name == "w" ? "" : "/" + name);
        hello.project = "p";
        hello.state_id = "state-" + name;
        hello.start_count = 1;
        hello.boot_id = "boot-1";
        hello.slots = 2;
        hello.agents = {"a"};
        return hello;
    }
    Actions hello(WorkerHello worker, std::uint64_t peer) {
        last = step(
            HelloEvent{.caller = caller(peer), .worker = std::move(worker), .software = "test"});
        return last;
    }
    Actions heartbeat(const std::string& name, std::uint64_t peer,
                      std::vector<AttemptState> attempts) {
        HeartbeatRequest request;
        request.attempts = std::move(attempts);
        last = step(HeartbeatEvent{
            .caller = caller(peer), .worker = WorkerName(name), .heartbeat = std::move(request)});
        return last;
    }
    Actions goodbye(const std::string& name, std::uint64_t peer) {
        return step(GoodbyeEvent{.caller = caller(peer), .worker = WorkerName(name)});
    }
    ReportAck report(const std::string& name, std::uint64_t peer, const SessionId& id, Fence fence,
                     ReportBody body) {
        Report report{.session = id, .fence = fence, .number = number(body), .body = body};
        last = step(ReportEvent{
            .caller = caller(peer), .worker = WorkerName(name), .reports = {std::move(report)}});
        return reply<ReportReply>(last).acks.at(0);
    }
    static std::uint32_t number(const ReportBody& body) {
        if (std::holds_alternative<EndedReport>(body)) return 2;
        return std::holds_alternative<ClosedReport>(body) ? 3 : 1;
    }

    // ---- Reports
    StartedReport started() const { return {.started_at = time.wall, .workspace = "/r/ws"}; }
    static DeclinedReport declined(bool platform_fault) {
        return {
            .cause = Detail::start_failed, .platform_fault = platform_fault, .reason = "no pty"};
    }
    EndedReport ended(EndCause cause) const {
        EndedReport report;
        report.cause = cause;
        report.ended_at = time.wall;
        report.started_at = time.wall;
        report.workspace = "/r/ws";
        return report;
    }
    EndedReport exited(int code) const {
        EndedReport report = ended(EndCause::exited);
        report.exit_code = code;
        report.success = code == 0;
        return report;
    }

    // ---- Looking
    template <typename Body>
    static Body reply(const Actions& actions) {
        for (const Outgoing& out : actions.outgoing) {
            const auto* sent = std::get_if<SendReply>(&out);
            if (sent == nullptr) continue;
            const auto* body = std::get_if<Reply>(&sent->body);
            if (body != nullptr && std::holds_alternative<Body>(*body))
                return std::get<Body>(*body);
        }
        ADD_FAILURE() << "no such reply";
        return {};
    }
    static std::optional<Error> refusal(const Actions& actions) {
        for (const Outgoing& out : actions.outgoing) {
            const auto* sent = std::get_if<SendReply>(&out);
            if (sent == nullptr) continue;
            if (const auto* error = std::get_if<ErrorReply>(&sent->body)) return error->error;
        }
        return std::nullopt;
    }
    template <typename Body>
    static std::vector<Body> pushes(const Actions& actions) {
        std::vector<Body> found;
        for (const Outgoing& out : actions.outgoing) {
            const auto* sent = std::get_if<SendPush>(&out);
            if (sent != nullptr && std::holds_alternative<Body>(sent->body)) {
                found.push_back(std::get<Body>(sent->body));
            }
        }
        return found;
    }
    static std::vector<SessionId> assigned(const Actions& actions) {
        std::vector<SessionId> ids;
        for (const AssignPush& each : pushes<AssignPush>(actions)) {
            for (const Assignment& one : each.assignments)
                ids.push_back(one.session);
        }
        return ids;
    }
    template <typename Body>
    static std::vector<Body> records(const Actions& actions) {
        std::vector<Body> found;
        for (const Record& record : actions.records) {
            if (const auto* body = std::get_if<Body>(&record.body)) found.push_back(*body);
        }
        return found;
    }
    SessionView view(const SessionId& id) const {
        const std::optional<SessionView> found = core.view(id, time);
        EXPECT_TRUE(found.has_value()) << id.str();
        return found.value_or(SessionView{});
    }
    std::string shown(const SessionId& id) const {
        const std::optional<SessionView> found = core.view(id, time);
        if (!found) return "gone";
        return std::string(name(found->status)) + "/" + std::string(name(found->detail));
    }
    Fence fence(const SessionId& id) const {
        const SessionView found = view(id);
        return {found.generation, found.attempt};
    }
    // The outcome that the journal holds for a session.
    SessionEnded outcome(const SessionId& id) const {
        for (const Record& record : journal) {
            const auto* ended = std::get_if<SessionEnded>(&record.body);
            if (ended != nullptr && ended->id == id) return *ended;
        }
        ADD_FAILURE() << id.str() << " has not ended";
        return {};
    }
    std::string outcome_text(const SessionId& id) const {
        const SessionEnded ended = outcome(id);
        return std::string(name(ended.status)) + "/" + std::string(name(ended.detail));
    }
    std::string worker_state(const std::string& name) const {
        for (const WorkerView& worker : core.workers(time).workers) {
            if (worker.name.str() == name) return worker.state;
        }
        return "unknown";
    }
    std::uint32_t used(const std::string& name) const {
        for (const WorkerView& worker : core.workers(time).workers) {
            if (worker.name.str() == name) return worker.used;
        }
        return 0;
    }

    // A second core that has been fed the journal, as after kill -9 with nothing in the database.
    BrokerCore replayed() const {
        BrokerCore other(config_, 1);
        for (const Record& record : journal)
            other.apply(record);
        other.started(time);
        other.check_invariants();
        return other;
    }

    CoreConfig config_;
    BrokerCore core;
    Now time;
    std::vector<Record> journal;
    Actions last;
};

inline AttemptState attempt(const SessionId& id, Fence fence, AttemptPhase phase) {
    return {.session = id, .fence = fence, .phase = phase};
}

}  // namespace iw::broker::testing
