#pragma once

// What decides where a session may run. Sessions alike in it form one class: the queue is ordered
// per class, so that handing out work costs the number of classes and never the number of sessions.

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "broker/core/record.h"
#include "common/base/ids.h"
#include "common/messages/messages.h"

namespace iw::broker {

struct Placement {
    AgentName agent;
    std::string project;
    Origin origin;
    std::string host;
    std::map<std::string, std::string> require;
    bool agent_in_project = false;

    auto operator<=>(const Placement&) const = default;
    bool operator==(const Placement&) const = default;
};

struct PlacementClass {
    Placement placement;
    std::uint32_t number = 0;  // stands for the class in orders; never reused
    std::size_t sessions = 0;  // live ones of this class
};

class PlacementTable {
  public:
    // The class of a submission, counted up by one session.
    PlacementClass* join(const Submission& submission);
    // One session fewer; the last one takes the class along.
    void leave(PlacementClass* placement);

    std::size_t size() const { return classes_.size(); }

  private:
    std::map<Placement, std::unique_ptr<PlacementClass>> classes_;
    std::uint32_t next_number_ = 1;
};

// Whether it is the worker of that root: of a session from there, the owner.
bool is_at(const WorkerRegistered& worker, const Origin& origin);
// Whether the worker could ever run the class, its room and its presence apart.
bool can_run(const WorkerRegistered& worker, const Placement& placement);
// "offers grafana-agent for project shop at build-1:/srv/shop": what a session of this class waits
// for.
std::string wanted(const Placement& placement);

}  // namespace iw::broker
