#pragma once

// What the database would hand back: rows, keys and events made from records, in the plainest way.

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/core/event.h"
#include "broker/core/record.h"
#include "tests/unit/broker/live_state_model.h"

namespace iw::sim {

class Database {
  public:
    void apply(const broker::Record& record) {
        live_.apply(record);
        if (const auto* created = std::get_if<broker::SessionCreated>(&record.body)) add(*created);
        std::visit([this](const auto& body) { note(body); }, record.body);
        records_.push_back(event_of(record));
    }

    Seq applied() const { return records_.size(); }
    broker::LiveState live(const std::string& epoch) const {
        broker::LiveState state = live_.state();
        if (state.epoch.empty()) state.epoch = epoch;
        return state;
    }
    std::optional<SessionView> session(const SessionId& id) const {
        const auto row = rows_.find(id);
        if (row == rows_.end()) return std::nullopt;
        return row->second.view;
    }
    std::optional<Submission> submission(const SessionId& id) const {
        const auto row = rows_.find(id);
        if (row == rows_.end()) return std::nullopt;
        return row->second.submission;
    }
    // By "principal/key".
    std::optional<broker::KnownKey> key(const std::string& key) const {
        const auto found = keys_.find(key);
        if (found == keys_.end()) return std::nullopt;
        return found->second;
    }
    const std::map<std::string, broker::KnownKey>& keys() const { return keys_; }

    EventsReply events(const EventsRequest& request, const std::string& epoch) const {
        EventsReply page;
        page.epoch = epoch;
        page.next = request.after;
        page.head = applied();
        page.gap = !request.epoch.empty() && request.epoch != epoch;
        if (page.gap) {
            page.next = page.head;
            return page;
        }
        while (page.next < page.head && page.events.size() < request.rows_max) {
            const Event& event = records_[page.next++];
            const auto& ids = request.ids;
            const bool is_wanted =
                ids.empty() || std::find(ids.begin(), ids.end(), event.id) != ids.end();
            if (is_wanted) page.events.push_back(event);
        }
        return page;
    }

  private:
    struct Row {
        Submission submission;
        SessionView view;
        std::optional<broker::SessionEnded> ended;
    };

    void add(const broker::SessionCreated& created) {
        Row& row = rows_[created.id];
        row.submission = created.submission;
        row.view.id = created.id;
        row.view.agent = created.submission.agent;
        row.view.origin = created.submission.origin;
        row.view.parent = created.submission.parent;
        row.view.tags = created.submission.tags;
        row.view.metadata = created.submission.metadata;
        if (created.submission.key.empty()) return;
        keys_[created.principal + "/" + created.submission.key] = {.id = created.id,
                                                                   .body_hash = created.body_hash};
    }
    void note(const broker::AttemptAssigned& body) { set_fence(body.id, body.fence, body.worker); }
    void note(const broker::AttemptAdopted& body) { set_fence(body.id, body.fence, body.worker); }
    void note(const broker::SessionEnded& body) { rows_.at(body.id).ended = body; }
    void note(const broker::SessionEdited& body) {
        Row& row = rows_.at(body.id);
        if (body.tags) row.submission.tags = row.view.tags = *body.tags;
        if (body.metadata) row.submission.metadata = row.view.metadata = *body.metadata;
        if (body.parent) row.submission.parent = row.view.parent = *body.parent;
    }
    template <typename Other>
    void note(const Other&) {}
    void set_fence(const SessionId& id, Fence fence, const WorkerName& worker) {
        SessionView& view = rows_.at(id).view;
        view.attempt = fence.attempt;
        view.generation = fence.generation;
        view.worker = worker.str();
    }

    Event event_of(const broker::Record& record) {
        Event event;
        event.seq = record.seq;
        event.time = record.time;
        const SessionId* id = broker::session_of(record.body);
        if (id == nullptr) return event;
        Row& row = rows_.at(*id);
        std::optional<broker::StatusChange> outcome;
        if (row.ended) outcome = {row.ended->status, row.ended->detail};
        const auto change = broker::status_after(record.body, outcome, row.view.status);
        if (change) {
            row.view.status = change->status;
            row.view.detail = change->detail;
        }
        event.id = *id;
        event.revision = ++row.view.revision;
        event.status = name(row.view.status);
        event.detail = name(row.view.detail);
        return event;
    }

    broker::testing::LiveStateModel live_;
    std::map<SessionId, Row> rows_;
    std::map<std::string, broker::KnownKey> keys_;
    std::vector<Event> records_;
};

}  // namespace iw::sim
