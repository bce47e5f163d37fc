#pragma once

// A real broker and a real worker over one project root, in folders of their own. What the worker
// leaves running on purpose (its tmux server and agents) is ended with the fixture.

#include <signal.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/text.h"
#include "tests/integration/broker_fixture.h"

namespace iw::test {

inline std::string worker_program() {
    return std::string(IW_BUILD_DIR) + "/bin/iworker";
}

class TestFleet {
  public:
    static constexpr const char* kShortLeases =
        "heartbeat = \"200ms\"\nunreachable = \"1500ms\"\nlost = \"60s\"\n";

    TestFleet() : TestFleet(kShortLeases) {}
    explicit TestFleet(const std::string& broker_settings) : broker_(broker_settings) {
        IW_CHECK(io::make_folders(root() + "/scripts/ops", 0755).ok());
        IW_CHECK(io::make_folders(root() + "/agents", 0755).ok());
        broker_.start();
        peer_ = std::make_unique<TestPeer>(context_, broker_.endpoint());
    }
    ~TestFleet() {
        if (worker_) worker_->kill();
        end_tmux();
    }
    TestFleet(const TestFleet&) = delete;
    TestFleet& operator=(const TestFleet&) = delete;

    std::string root() const { return dir_.path("root"); }
    std::string state() const { return dir_.path("w"); }
    std::string file(const std::string& name) const { return dir_.path(name); }
    std::string log() const { return dir_.path("worker.log"); }
    TestBroker& broker() { return broker_; }
    io::Context& context() { return context_; }
    TestPeer& peer() { return *peer_; }
    ChildProcess& worker() { return *worker_; }

    void add_agent(const std::string& name, const std::string& script) {
        const std::string folder = root() + "/agents/" + name;
        IW_CHECK(io::make_folders(folder, 0755).ok());
        IW_CHECK(io::write_file(folder + "/run", script, 0755, io::Sync::none).ok());
    }

    ChildProcess::Options worker_options() const {
        return {.argv = {worker_program(), "--root", root(), "--state-dir", state(), "--broker",
                         broker_.endpoint(), "--stop-grace", "300ms", "--host", "here", "--project",
                         "demo"},
                .environment = {"IW_CFG_STATE_DIR=" + dir_.path("shared")},
                .log = log()};
    }
    void start_worker() { worker_.emplace(worker_options()); }
    // Both, and the broker knows the worker.
    bool start() {
        start_worker();
        return peer_->hello().ok() && worker_state("up");
    }
    bool worker_state(const std::string& state) {
        return wait_until(
            [&] {
                const auto workers = peer_->call<WorkersReply>(WorkersRequest{});
                return workers.ok() && !workers->workers.empty() &&
                       workers->workers[0].state == state;
            },
            kCap);
    }

    SessionId submit(Submission submission) {
        submission.origin = Origin{"here", io::real_path(root())};
        const Result<SubmitOutcome> outcome = submit_one(*peer_, std::move(submission));
        if (!outcome.ok()) return SessionId();
        return outcome->id;
    }
    SessionId submit(const std::string& agent, const std::string& prompt) {
        return submit(make_submission(agent, prompt, ""));
    }
    std::optional<SessionView> view(const SessionId& id) {
        const auto reply = peer_->call<StatusReply>(StatusRequest{.id = id.str(), .exact = true});
        if (!reply.ok()) return std::nullopt;
        return reply->session;
    }
    // Waits until the session shows `status`; what it showed last.
    SessionView wait_status(const SessionId& id, SessionStatus status) {
        SessionView last;
        static_cast<void>(wait_until(
            [&] {
                const auto now = view(id);
                if (now) last = *now;
                return now && now->status == status;
            },
            kCap));
        return last;
    }
    void kill_session(const SessionId& id, const std::string& reason) {
        const auto reply = peer_->call<KillReply>(KillRequest{.id = id.str(), .reason = reason});
        IW_CHECK(reply.ok());
    }

    std::string workspace(const SessionId& id) const {
        return io::real_path(root()) + "/docs/.scratch/sessions/" + id.str();
    }
    std::string text(const std::string& path) const {
        const Result<std::string> bytes = io::read_file(path, 16u << 20);
        return bytes.ok() ? *bytes : "";
    }
    nlohmann::json state_json(const SessionId& id) const {
        const auto json =
            nlohmann::json::parse(text(workspace(id) + "/state.json"), nullptr, false);
        return json.is_object() ? json : nlohmann::json{{"status", "missing"}};
    }
    std::size_t lines(const std::string& path) const {
        std::size_t count = 0;
        for (const char c : text(path))
            count += c == '\n' ? 1 : 0;
        return count;
    }
    // From the record that iexec wrote.
    std::optional<io::ProcessId> process_of(const SessionId& id, const std::string& who) const {
        const std::string path = state() + "/attempts/" + id.str() + "-1-1/process.json";
        const auto json = nlohmann::json::parse(text(path), nullptr, false);
        if (!json.is_object() || !json.contains(who)) return std::nullopt;
        const auto& process = json[who];
        return io::ProcessId{.pid = process["pid"].get<pid_t>(),
                             .start_ticks = process["start_ticks"].get<std::uint64_t>()};
    }

  private:
    void end_tmux() {
        const std::vector<std::string> words = split(trim(text(state() + "/tmux.pid")), ' ');
        long long pid = 0;
        long long ticks = 0;
        if (words.size() != 2 || !parse_int(words[0], 2, INT32_MAX, pid)) return;
        if (!parse_int(words[1], 0, INT64_MAX, ticks)) return;
        const io::ProcessId server{static_cast<pid_t>(pid), static_cast<std::uint64_t>(ticks)};
        // The terminals hang up, and iexec then ends what still runs.
        io::send_signal(server, SIGTERM);
        static_cast<void>(wait_until([&] { return !io::is_running(server); }, kCap));
    }

    TempDir dir_;
    io::Context context_;
    TestBroker broker_;
    std::unique_ptr<TestPeer> peer_;
    std::optional<ChildProcess> worker_;
};

}  // namespace iw::test
