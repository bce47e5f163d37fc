#pragma once

// A worker's core on a bench: a clock that the test moves, and the actions it asked for.

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "worker/core/worker_core.h"

namespace iw::worker::test {

inline CoreConfig bench_config() {
    CoreConfig config;
    config.name = WorkerName("host:project");
    config.host = "host";
    config.root = "/root-folder";
    config.project = "project";
    config.state_id = "state";
    config.start_count = 1;
    config.boot_id = "boot";
    config.slots = 5;
    config.agents = {"alpha"};
    config.sessions_folder = "/root-folder/sessions";
    return config;
}

inline AttemptRef attempt_ref(const std::string& session, std::uint32_t number) {
    return AttemptRef{SessionId(session), Fence{.generation = 1, .attempt = number}};
}

inline Assignment assignment_of(const AttemptRef& ref) {
    Assignment assignment;
    assignment.session = ref.session;
    assignment.fence = ref.fence;
    assignment.agent = AgentName("alpha");
    assignment.project = "project";
    assignment.prompt = "do it";
    assignment.created_at = wall_from_ms(1'000'000);
    assignment.timeout = Duration{1'800'000};
    return assignment;
}

inline SessionView outcome_of(const AttemptRef& ref, SessionStatus status) {
    SessionView view;
    view.id = ref.session;
    view.generation = ref.fence.generation;
    view.attempt = ref.fence.attempt;
    view.status = status;
    return view;
}

class Bench {
  public:
    explicit Bench(CoreConfig config) : core(std::move(config)) {}

    Now now() const { return Now{.steady = steady, .wall = wall}; }
    void pass(Duration duration) {
        steady += duration;
        wall += duration;
    }
    // Steps and keeps the actions of this step only.
    void step(CoreEvent event) { actions = core.step(now(), std::move(event)); }

    template <typename Kind>
    std::vector<Kind> all() const {
        std::vector<Kind> found;
        for (const Action& action : actions) {
            if (const auto* kind = std::get_if<Kind>(&action)) found.push_back(*kind);
        }
        return found;
    }
    template <typename Kind>
    bool has() const {
        return !all<Kind>().empty();
    }

    void welcome() {
        step(TickEvent{});
        WelcomeReply reply;
        reply.time = wall + broker_ahead;
        reply.heartbeat = Duration{10'000};
        reply.unreachable = Duration{45'000};
        reply.lost = Duration{600'000};
        step(WelcomeEvent{reply});
    }
    // Brings an attempt to running: everything succeeds.
    void run(const AttemptRef& ref) {
        step(AssignEvent{{assignment_of(ref)}});
        step(AcceptedEvent{ref, std::nullopt});
        step(LaunchedEvent{ref, LaunchOutcome::launched, ""});
        AttemptSnapshot seen;
        seen.attempt = ref;
        seen.holder = StartHolder::launcher;
        seen.started_at = wall;
        step(SeenEvent{seen});
        step(WrittenEvent{ref, WrittenFile::started, std::nullopt});
    }
    void end(const AttemptRef& ref, EndFact end) {
        AttemptSnapshot seen;
        seen.attempt = ref;
        seen.end = std::move(end);
        seen.log_done = true;
        step(SeenEvent{seen});
    }
    void acknowledge(const AttemptRef& ref, std::uint32_t number) {
        step(AcksEvent{{ReportAck{ref.session, ref.fence, number, std::nullopt, std::nullopt}}});
    }

    Timestamp steady = Timestamp(Duration{1'000'000});
    WallTime wall = wall_from_ms(50'000'000);
    Duration broker_ahead{0};
    Actions actions;
    WorkerCore core;
};

inline EndFact exited(int code, WallTime at) {
    EndFact end;
    end.cause = EndCause::exited;
    end.exit_code = code;
    end.ended_at = at;
    return end;
}

}  // namespace iw::worker::test
