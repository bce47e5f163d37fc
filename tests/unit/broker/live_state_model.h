#pragma once

// What a database makes of records, in the plainest way: for tests of recovery from a LiveState. It
// knows the records' meaning from record.h alone and shares no code with the core.

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "broker/core/record.h"
#include "common/base/overloaded.h"

namespace iw::broker::testing {

class LiveStateModel {
  public:
    void apply(const Record& record) {
        state_.seq = record.seq;
        if (const SessionId* id = session_of(record.body)) {
            const auto live = sessions_.find(*id);
            if (live != sessions_.end()) ++live->second.revision;
        }
        std::visit([&](const auto& body) { on(record, body); }, record.body);
    }

    LiveState state() const {
        LiveState copy = state_;
        for (const SessionId& id : order_) {
            const auto live = sessions_.find(id);
            if (live != sessions_.end()) copy.sessions.push_back(live->second);
        }
        for (const auto& [name, worker] : workers_)
            copy.workers.push_back(worker);
        for (const auto& [key, hold] : holds_)
            copy.holds.push_back(hold);
        return copy;
    }

  private:
    void on(const Record& record, const SessionCreated& body) {
        LiveSession& live = sessions_[body.id];
        live.id = body.id;
        live.principal = body.principal;
        live.submission = body.submission;
        live.submission.prompt.clear();
        live.submission.result_schema.clear();
        live.created_at = record.time;
        live.not_before = body.not_before;
        live.expires_at = body.expires_at;
        live.parent_fence = body.parent_fence;
        live.ancestors = body.ancestors;
        is_from_inside_[body.id] = body.parent_fence.has_value();
        live.inside_links = links_of(live);
        live.revision = 1;
        order_.push_back(body.id);
        const std::string second = body.id.str().substr(0, 15);
        const std::optional<WallTime> time = parse_utc(
            second.substr(0, 4) + "-" + second.substr(4, 2) + "-" + second.substr(6, 2) + "T" +
            second.substr(9, 2) + ":" + second.substr(11, 2) + ":" + second.substr(13, 2) + "Z");
        if (time.value() > state_.id_second) state_.newest_ids.clear();
        state_.id_second = std::max(state_.id_second, time.value());
        if (time.value() == state_.id_second) state_.newest_ids.push_back(body.id);
    }
    // By what each on the way down was submitted from; one that was never heard of from inside.
    std::optional<std::uint16_t> links_of(const LiveSession& live) const {
        if (live.ancestors.empty()) return std::nullopt;
        std::uint16_t links = 0;
        for (std::size_t i = 0; i < live.ancestors.size(); ++i) {
            const bool is_last = i + 1 == live.ancestors.size();
            const auto found = is_from_inside_.find(is_last ? live.id : live.ancestors[i + 1]);
            if (found == is_from_inside_.end() || found->second)
                links = static_cast<std::uint16_t>(links | 1u << i);
        }
        return links;
    }
    void on(const Record&, const AttemptAssigned& body) {
        give_to(sessions_.at(body.id), body.fence, body.worker, body.host);
    }
    void on(const Record&, const AttemptAdopted& body) {
        give_to(sessions_.at(body.id), body.fence, body.worker, body.host);
    }
    void give_to(LiveSession& live, Fence fence, const WorkerName& worker,
                 const std::string& host) {
        live.fence = fence;
        live.assigned = true;
        live.worker = worker;
        live.host = host;
        live.worker_state_id = workers_.at(worker).state_id;
        live.started_at.reset();
    }
    void on(const Record&, const AttemptStarted& body) {
        LiveSession& live = sessions_.at(body.id);
        live.started_at = body.started_at;
        live.workspace = body.workspace;
    }
    void on(const Record&, const AttemptReturned& body) {
        LiveSession& live = sessions_.at(body.id);
        live.assigned = false;
        live.started_at.reset();
        live.last_reason = body.reason;
        live.retry_at = body.retry_at;
        live.failed_by_itself = !body.platform_fault;
        if (body.platform_fault) ++live.platform_faults;
        if (!body.platform_fault) ++live.attempts_used;
    }
    void on(const Record&, const SessionEnded& body) {
        LiveSession& live = sessions_.at(body.id);
        live.assigned = false;
        // By record.h: an attempt that ran, and was not the platform's failure.
        const bool is_faulty = body.detail == Detail::lost || body.detail == Detail::start_failed;
        if (body.started_at && !is_faulty) ++live.attempts_used;
        live.ended = body;
        live.ended->result.clear();
    }
    void on(const Record&, const SessionClosed& body) { sessions_.erase(body.id); }
    void on(const Record&, const KillWished& body) { sessions_.at(body.id).kill = body; }
    void on(const Record&, const ReportSuperseded&) {}
    void on(const Record&, const WorkerRegistered& body) {
        workers_[body.name] = body;
        for (auto& [id, live] : sessions_) {
            if (!live.assigned || live.worker == body.name) continue;
            if (live.worker_state_id != body.state_id || body.state_id.empty()) continue;
            live.worker = body.name;
            live.host = body.host;
        }
    }
    void on(const Record&, const WorkerNoted& body) {
        state_.worker_states[body.name] = body.state;
    }

    void on(const Record&, const TimeoutChanged& body) {
        sessions_.at(body.id).submission.timeout = body.timeout;
    }
    void on(const Record&, const SessionEdited& body) {
        const auto found = sessions_.find(body.id);
        if (found == sessions_.end()) return;  // final
        LiveSession& live = found->second;
        if (body.tags) live.submission.tags = *body.tags;
        if (body.metadata) live.submission.metadata = *body.metadata;
        if (!body.parent) return;
        live.submission.parent = *body.parent;
        live.parent_fence.reset();
        is_from_inside_[body.id] = false;
        live.ancestors = body.ancestors;
        live.inside_links = links_of(live);
        for (const SessionId& id : body.below) {
            LiveSession& below = sessions_.at(id);
            std::vector<SessionId>& above = below.ancestors;
            const auto own = std::find(above.begin(), above.end(), body.id);
            std::vector<SessionId> moved = body.ancestors;
            moved.insert(moved.end(), own, above.end());
            above = std::move(moved);
            below.inside_links = links_of(below);
        }
    }
    void on(const Record& record, const HoldChanged& body) {
        const std::pair<HoldScope, std::string> key{body.scope, body.name};
        holds_.erase(key);
        if (!body.on) return;
        holds_[key] = HoldView{.scope = body.scope,
                               .name = body.name,
                               .principal = body.principal,
                               .reason = body.reason,
                               .since = record.time,
                               .until = body.until};
    }
    void on(const Record&, const EpochBegun& body) {
        state_.epoch = body.epoch;
        state_.generation = body.generation;
        state_.restored = body.hold;
        state_.restored_why = body.hold ? body.reason : "";
    }
    void on(const Record&, const RestoreReleased&) {
        state_.restored = false;
        state_.restored_why.clear();
    }

    LiveState state_;
    std::vector<SessionId> order_;
    std::map<SessionId, LiveSession> sessions_;
    std::map<SessionId, bool> is_from_inside_;  // of all that ever were
    std::map<WorkerName, WorkerRegistered> workers_;
    std::map<std::pair<HoldScope, std::string>, HoldView> holds_;
};

}  // namespace iw::broker::testing
