#pragma once

// A worker for random histories, written from common/PROTOCOL.md: it starts an attempt at most
// once, repeats its reports until they are acknowledged, and remembers everything over its own
// restarts.

#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "common/base/random.h"
#include "common/messages/messages.h"

namespace iw::broker::testing {

class FakeWorker {
  public:
    struct Attempt {
        AttemptPhase phase = AttemptPhase::accepted;
        bool is_start_acked = false;
        bool is_end_acked = false;
        std::optional<ReportBody> end;  // declined or ended, once decided
        Duration timeout{0};
    };

    explicit FakeWorker(WorkerHello hello) : hello_(std::move(hello)) {}

    // ---- From the broker
    void receive(const Push& push) {
        if (const auto* assign = std::get_if<AssignPush>(&push)) {
            for (const Assignment& each : assign->assignments)
                accept({each.session, each.fence}, each.timeout);
        } else if (const auto* limits = std::get_if<LimitsPush>(&push)) {
            for (const LimitChange& each : limits->limits) {
                const auto attempt = attempts_.find(AttemptRef{each.session, each.fence});
                if (attempt != attempts_.end()) attempt->second.timeout = each.timeout;
            }
        } else if (const auto* stop = std::get_if<StopPush>(&push)) {
            for (const StopOrder& each : stop->stops)
                this->stop(each);
        } else if (const auto* close = std::get_if<ClosePush>(&push)) {
            for (const Outcome& each : close->outcomes) {
                const SessionView& view = each.session;
                closing_.insert(AttemptRef{view.id, {view.generation, view.attempt}});
            }
        }
    }
    void stop(const StopOrder& order) {
        const AttemptRef ref{order.session, order.fence};
        Attempt& attempt = attempts_[ref];
        // Whoever stops what is over has not heard of its end.
        if (attempt.end) {
            attempt.is_end_acked = false;
            return;
        }
        EndedReport report;
        report.cause = EndCause::stopped;
        report.stop_cause = order.cause;
        report.reason = order.reason;
        finish(attempt, report);
    }
    void acknowledged(const ReportAck& ack) {
        const AttemptRef ref{ack.session, ack.fence};
        if (ack.number == 3) {
            if (!ack.error) closing_.erase(ref);
            if (ack.error && ack.error->code == ErrorCode::stale_fence) closing_.erase(ref);
            return;
        }
        const auto attempt = attempts_.find(ref);
        if (attempt == attempts_.end()) return;
        if (ack.error) {
            // Superseded or unknown: nothing about it is anybody's business any more.
            if (!attempt->second.end) finish(attempt->second, EndedReport{});
            attempt->second.is_start_acked = attempt->second.is_end_acked = true;
            return;
        }
        const bool is_end =
            attempt->second.end.has_value() && number(*attempt->second.end) == ack.number;
        if (is_end) attempt->second.is_end_acked = true;
        if (ack.number == 1 && !is_end) attempt->second.is_start_acked = true;
        // One that shows CREATED says that another attempt follows, and nothing is to be closed.
        if (ack.outcome && is_final(ack.outcome->session.status)) closing_.insert(ref);
    }

    // ---- By itself
    void work(Random& random) {
        for (auto& [ref, attempt] : attempts_) {
            if (attempt.end || random.below(3) != 0) continue;
            if (attempt.phase == AttemptPhase::accepted) {
                start(ref, attempt, random);
                continue;
            }
            EndedReport report;
            report.cause = static_cast<EndCause>(1 + random.below(6));
            if (report.cause == EndCause::stopped) report.stop_cause = Detail::timeout;
            report.success = random.below(2) == 0;
            report.started_at = wall_from_ms(1);
            report.ended_at = wall_from_ms(1);
            finish(attempt, report);
        }
    }
    // Everything that has no acknowledgement yet.
    std::vector<Report> outbox() const {
        std::vector<Report> reports;
        for (const auto& [ref, attempt] : attempts_) {
            if (attempt.phase == AttemptPhase::running && !attempt.is_start_acked) {
                StartedReport started{.started_at = wall_from_ms(1), .workspace = "/r"};
                reports.push_back({ref.session, ref.fence, 1, started});
            }
            if (attempt.end && !attempt.is_end_acked) {
                reports.push_back({ref.session, ref.fence, number(*attempt.end), *attempt.end});
            }
        }
        for (const AttemptRef& ref : closing_) {
            reports.push_back({ref.session, ref.fence, 3, ClosedReport{}});
        }
        if (reports.size() > limits::kReportBatchMax) reports.resize(limits::kReportBatchMax);
        return reports;
    }
    // What is over and acknowledged: asked for after a restore of the broker's store.
    std::vector<AttemptState> closed() const {
        std::vector<AttemptState> states;
        for (const auto& [ref, attempt] : attempts_) {
            if (attempt.is_end_acked)
                states.push_back({ref.session, ref.fence, AttemptPhase::closed});
        }
        return states;
    }
    std::vector<AttemptState> inventory() const {
        std::vector<AttemptState> states;
        for (const auto& [ref, attempt] : attempts_) {
            if (attempt.is_end_acked) continue;
            states.push_back({ref.session, ref.fence, attempt.phase});
            const bool is_limited =
                attempt.phase == AttemptPhase::accepted || attempt.phase == AttemptPhase::running;
            if (is_limited) states.back().timeout = attempt.timeout;
        }
        return states;
    }
    WorkerHello hello() const {
        WorkerHello hello = hello_;
        hello.inventory = inventory();
        return hello;
    }
    // The broker's epoch, as a welcome stated it.
    void belong_to(const std::string& epoch) { hello_.seen = SeenHead{.epoch = epoch, .seq = 0}; }
    void restart() { ++hello_.start_count; }
    // Restarted under another name, or under its first one again, with the same state directory.
    void rename() {
        restart();
        const std::string name = hello_.name.str();
        const bool is_other = name.ends_with("-other");
        hello_.name = WorkerName(is_other ? name.substr(0, name.size() - 6) : name + "-other");
    }
    // The state directory is gone, and so is all it knew. Processes live on unless the host went
    // down.
    void wipe(std::uint64_t serial, bool is_reboot) {
        hello_.state_id = "state-" + std::to_string(serial);
        if (is_reboot) hello_.boot_id = "boot-" + std::to_string(serial);
        hello_.start_count = 1;
        hello_.seen.reset();
        attempts_.clear();
        closing_.clear();
    }
    const WorkerName& name() const { return hello_.name; }
    const std::vector<AttemptRef>& started() const { return started_; }
    // Sessions of which an attempt was started since the last call.
    std::vector<SessionId> take_begun() { return std::exchange(begun_, {}); }

  private:
    static std::uint32_t number(const ReportBody& body) {
        return std::holds_alternative<EndedReport>(body) ? 2 : 1;
    }
    // Whoever assigns a known attempt knows less of it, and is told again.
    void accept(const AttemptRef& ref, Duration timeout) {
        const auto [attempt, is_new] = attempts_.try_emplace(ref);
        if (is_new) attempt->second.timeout = timeout;
        if (!is_new) attempt->second.is_start_acked = attempt->second.is_end_acked = false;
    }
    void start(const AttemptRef& ref, Attempt& attempt, Random& random) {
        if (random.below(8) == 0) {
            DeclinedReport declined;
            declined.platform_fault = random.below(3) != 0;
            attempt.phase = AttemptPhase::declined;
            attempt.end = declined;
            return;
        }
        attempt.phase = AttemptPhase::running;
        started_.push_back(ref);
        begun_.push_back(ref.session);
    }
    static void finish(Attempt& attempt, EndedReport report) {
        attempt.phase = AttemptPhase::ended;
        attempt.end = std::move(report);
    }

    WorkerHello hello_;
    std::map<AttemptRef, Attempt> attempts_;
    std::set<AttemptRef> closing_;
    std::vector<AttemptRef> started_;
    std::vector<SessionId> begun_;
};

}  // namespace iw::broker::testing
