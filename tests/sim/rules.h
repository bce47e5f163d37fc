#pragma once

// Judges what was asked for besides the promises: room and lending, retries, dependencies, holds.
// From records alone, like the oracle without any code of the cores.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/core/record.h"

namespace iw::sim {

class Rules {
  public:
    void committed(const broker::Record& record);
    const std::optional<std::string>& violation() const { return violation_; }

  private:
    struct Known {
        Submission submission;
        std::vector<SessionId> above;
        bool is_held = false;
        WorkerName worker;
        std::uint32_t used = 0;  // attempts that count
        bool is_killed = false;
        std::optional<SessionStatus> ended;
        bool is_closed = false;
    };

    void fail(std::string what);
    void on(const broker::SessionCreated& body);
    void on(const broker::AttemptAssigned& body);
    void on(const broker::AttemptAdopted& body);
    void on(const broker::AttemptReturned& body);
    void on(const broker::SessionEnded& body);
    void on(const broker::KillWished& body) { sessions_.at(body.id).is_killed = true; }
    void on(const broker::SessionClosed& body) { sessions_.at(body.id).is_closed = true; }
    void on(const broker::WorkerRegistered& body);
    void on(const broker::SessionEdited& body);
    void on(const broker::HoldChanged& body) { holds_[{body.scope, body.name}] = body.on; }
    template <typename Other>
    void on(const Other&) {}
    void check_room(const WorkerName& worker);
    void check_after(const SessionId& id, const Known& known);
    void check_holds(const SessionId& id, const Known& known);
    // Whether its end is the one that is asked for; nothing before its end.
    std::optional<bool> is_met(const Dependency& dependency) const;
    bool is_held(HoldScope scope, const std::string& name) const;
    // An ancestor has an attempt under way: at this worker, or anywhere when that is null.
    bool is_of_held(const Known& known, const WorkerName* at) const;

    std::map<SessionId, Known> sessions_;
    std::map<WorkerName, std::pair<std::string, std::uint32_t>> workers_;  // state and slots
    std::map<SessionId, std::string> states_;                              // of who holds it
    std::map<std::pair<HoldScope, std::string>, bool> holds_;
    std::optional<std::string> violation_;
};

}  // namespace iw::sim
