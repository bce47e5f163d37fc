#pragma once

// The worker's process around the real core: performs its actions against a Site, hands results
// back, and can be killed between any two of them.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/network.h"
#include "tests/sim/site.h"
#include "worker/core/worker_core.h"

namespace iw::sim {

class WorkerShell {
  public:
    struct Parts {
        World& world;
        Network& network;
        Site& site;
        std::function<void()> on_death;
    };
    explicit WorkerShell(Parts parts);
    ~WorkerShell();
    WorkerShell(const WorkerShell&) = delete;
    WorkerShell& operator=(const WorkerShell&) = delete;

    // Adopts what it finds on disk. Nothing of it may be called after its death.
    void start();
    void kill(const std::string& why);
    void shut_down();
    void freeze();
    void thaw();
    bool is_frozen() const { return is_frozen_; }
    bool is_dead() const { return life_ == nullptr; }
    bool is_idle() const;
    std::string describe() const;

  private:
    struct Expected {
        bool is_hello = false;
        std::vector<worker::ReportRef> reports;
        std::function<void(Site::Answer)> on_relay;
    };

    void later(Duration delay, std::function<void()> what);
    // From outside: a message, a file, a process. Waits while the process stands still.
    void arrive(std::function<void()> what);
    void wake();
    void turn();
    void plan();
    void dispatch(worker::CoreEvent event);
    void result(worker::CoreEvent event) { results_.push_back(std::move(event)); }
    bool perform(worker::Action& action);
    void note(const std::string& what) { parts_.world.note(parts_.site.name().str(), what); }

    void look_at(const AttemptRef& attempt);
    void launcher_gone(const AttemptRef& attempt);
    bool relay(const AttemptRef& inside, Request request,
               std::function<void(Site::Answer)> on_answer);
    bool send(Request request, Expected expected, std::optional<AttemptRef> inside);
    void take(Payload payload);
    void take_reply(const Expected& expected, Reply reply, bool is_relay);
    void take_error(const Expected& expected, const ErrorReply& error, bool is_relay);
    void take_push(Push push);
    void connect();

    void act(worker::SendHello& action);
    void act(worker::Reconnect&) { connect(); }
    void act(worker::SendHeartbeat& action);
    void act(worker::SendReports& action);
    void act(worker::SendGoodbye&);
    void act(worker::RecordSeen& action);
    void act(worker::RecordLimits& action);
    void act(worker::AcceptAssignment& action);
    void act(worker::TakeClaim& action);
    void act(worker::RecordStop& action);
    void act(worker::RecordEnd& action);
    void act(worker::RecordOutcome& action);
    void act(worker::RecordReported& action);
    void act(worker::RecordClosed& action);
    void act(worker::ForgetAttempt& action);
    void act(worker::ReopenAttempt& action);
    void act(worker::Launch& action);
    void act(worker::CheckSession& action);
    void act(worker::KillSession& action);
    void act(worker::SignalLauncher& action);
    void act(worker::SignalTree& action);
    void act(worker::MeasureDisk& action);
    void act(worker::WriteStarted& action);
    void act(worker::Judge& action);
    void act(worker::WriteFinal& action);
    void act(worker::NoteSession& action);
    void act(worker::Transition& action);
    // What is not modelled here.
    template <typename Other>
    void act(Other&) {}
    // A write can fail; then nothing of it is there.
    std::optional<Error> disk_error();

    Parts parts_;
    worker::WorkerCore core_;
    std::shared_ptr<char> life_ = std::make_shared<char>('x');
    bool is_frozen_ = false;
    bool is_ending_ = false;
    Network::SocketId socket_ = 0;
    std::uint64_t last_request_ = 0;
    std::map<std::string, Expected> expected_;
    std::deque<worker::CoreEvent> results_;
    std::deque<std::function<void()>> arrived_;
    std::uint64_t wake_ = 0;
    bool is_woken_ = false;
};

}  // namespace iw::sim
