#pragma once

// Histories for the tests of the stores: single records, and random but possible courses of many
// sessions.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "broker/core/record.h"
#include "common/base/random.h"

namespace iw::test {

inline constexpr std::int64_t kStartMs = 1'763'479'842'000;  // 2025-11-18 15:30:42 UTC

inline std::string two_digits(int value) {
    return (value < 10 ? "0" : "") + std::to_string(value);
}

// An id of that number, in the form of ids.
inline SessionId session_id(int number) {
    return SessionId("20251118-15" + two_digits(number / 60 % 60) + two_digits(number % 60) + "-a" +
                     std::to_string(number));
}

inline broker::Record record(Seq seq, broker::RecordBody body) {
    return {.seq = seq,
            .time = wall_from_ms(kStartMs + static_cast<std::int64_t>(seq) * 1000),
            .body = std::move(body)};
}

inline broker::SessionCreated created(int number) {
    broker::SessionCreated body;
    body.id = session_id(number);
    body.principal = "uid:1000";
    body.body_hash.fill(static_cast<std::uint8_t>(number));
    body.submission.key = "key-" + std::to_string(number);
    body.submission.agent = AgentName("a" + std::to_string(number));
    body.submission.prompt = "do what is number " + std::to_string(number);
    return body;
}

// Every field has a value that is not its default.
inline broker::SessionCreated full_created(int number) {
    broker::SessionCreated body = created(number);
    body.not_before = wall_from_ms(kStartMs + 5000);
    body.expires_at = wall_from_ms(kStartMs + 9000);
    Submission& s = body.submission;
    s.prompt = std::string("line\r\n\0`$(x)` \xf0\x9f\x98\x80", 19);
    s.project = "shop";
    s.origin = {.host = "alpha", .root = "/srv/shop"};
    s.agent_in_project = true;
    s.queue_anyway = true;
    s.priority = -7;
    s.delay = Duration(5000);
    s.expires = Duration(9000);
    s.timeout = Duration(60'000);
    s.disk_limit = 1u << 30;
    s.on_lost = OnLost::requeue;
    s.parent = session_id(1);
    s.retry_of = session_id(2);
    s.host = "beta";
    s.require = {{"gpu", "yes"}, {"zone", ""}};
    s.tags = {"nightly", "a \"quoted\" tag", ""};
    s.metadata = R"({"a":[1,2]})";
    return body;
}

inline broker::SessionEnded full_ended(const SessionId& id, Fence fence) {
    broker::SessionEnded body;
    body.id = id;
    body.fence = fence;
    body.status = SessionStatus::killed;
    body.detail = Detail::parent_killed;
    body.reason = "its parent was killed";
    body.kill_reason = "wrong branch";
    body.exit_code = 143;
    body.started_at = wall_from_ms(kStartMs + 20'000);
    body.completed_at = wall_from_ms(kStartMs + 30'000);
    body.workspace = "/srv/shop/docs/.scratch/sessions/x";
    body.result_status = "failure";
    body.result_size = 17;
    body.result_sha256 = std::string(64, 'e');
    body.result_inline = true;
    body.result = std::string("{\"status\":\"\0\xff\"}", 15);
    body.evidence = "exit record";
    return body;
}

inline broker::WorkerRegistered registered(const std::string& name) {
    broker::WorkerRegistered body;
    body.name = WorkerName(name);
    body.host = name + ".host";
    body.root = "/srv/" + name;
    body.project = "shop";
    body.state_id = "state-" + name;
    body.boot_id = "boot-" + name;
    body.start_count = 3;
    body.slots = 5;
    body.agents = {"claude", "grafana-agent"};
    body.labels = {{"gpu", "yes"}};
    body.software = "0.1.0";
    return body;
}

// One of each kind, in a possible order, with all fields in use.
inline std::vector<broker::Record> every_kind() {
    using namespace broker;
    const SessionId id = session_id(7);
    const Fence first{.generation = 1, .attempt = 1};
    const Fence second{.generation = 1, .attempt = 2};
    const WorkerName worker("alpha");
    std::vector<RecordBody> bodies = {
        registered("alpha"),
        full_created(7),
        AttemptAssigned{.id = id, .fence = first, .worker = worker, .host = "alpha.host"},
        AttemptReturned{.id = id,
                        .fence = first,
                        .cause = Detail::lost,
                        .platform_fault = false,
                        .reason = "no tmux",
                        .evidence = "declined"},
        AttemptAssigned{.id = id, .fence = second, .worker = worker, .host = "alpha.host"},
        AttemptStarted{.id = id,
                       .fence = second,
                       .started_at = wall_from_ms(kStartMs + 20'000),
                       .workspace = "/srv/shop/x"},
        KillWished{.id = id,
                   .principal = "session:20251118-153000-p",
                   .cause = Detail::parent_killed,
                   .reason = "wrong branch"},
        ReportSuperseded{.id = id, .fence = first, .number = 2, .what = "ended, exit 0"},
        full_ended(id, second),
        SessionClosed{.id = id, .by = "alpha"},
        WorkerNoted{.name = worker, .state = "unreachable", .evidence = "silent for 45 s"},
    };
    std::vector<Record> records;
    for (RecordBody& body : bodies)
        records.push_back(record(records.size() + 1, std::move(body)));
    return records;
}

// Courses of sessions as a broker could decide them, from a seed.
class History {
  public:
    explicit History(std::uint64_t seed) : random_(seed) {
        add(registered("alpha"));
        add(registered("beta"));
    }

    void grow(std::size_t records) {
        while (records_.size() < records)
            step();
    }
    const std::vector<broker::Record>& records() const { return records_; }

  private:
    enum class Phase { queued, assigned, running, closing };
    struct Course {
        Phase phase = Phase::queued;
        Fence fence{.generation = 1, .attempt = 0};
        bool kill = false;
        int faults = 0;
    };

    void add(broker::RecordBody body) {
        records_.push_back(record(records_.size() + 1, std::move(body)));
    }

    void step() {
        const std::uint64_t dice = random_.below(100);
        if (courses_.empty() || dice < 25) return create();
        if (dice < 28) return add(registered(worker().str()));
        if (dice < 32) return add(note());
        auto course = courses_.begin();
        std::advance(course, static_cast<long>(random_.below(courses_.size())));
        if (dice < 36) {
            return add(broker::ReportSuperseded{
                .id = course->first, .fence = {}, .number = 1, .what = "late"});
        }
        advance(course->first, course->second);
    }

    void create() {
        const int number = ++created_;
        broker::SessionCreated body =
            random_.below(3) == 0 ? full_created(number) : created(number);
        if (random_.below(4) == 0) body.submission.key.clear();
        courses_[body.id] = Course{};
        add(std::move(body));
    }

    void advance(const SessionId& id, Course& course) {
        switch (course.phase) {
            case Phase::queued:
                if (random_.below(8) == 0) return end(id, course);
                ++course.fence.attempt;
                course.phase = Phase::assigned;
                return add(broker::AttemptAssigned{
                    .id = id, .fence = course.fence, .worker = worker(), .host = "some.host"});
            case Phase::assigned:
            case Phase::running:
                return advance_held(id, course);
            case Phase::closing: {
                add(broker::SessionClosed{.id = id, .by = "alpha"});
                courses_.erase(id);
                return;
            }
        }
    }

    void advance_held(const SessionId& id, Course& course) {
        const std::uint64_t dice = random_.below(10);
        if (dice < 2 && !course.kill) {
            course.kill = true;
            return add(broker::KillWished{
                .id = id, .principal = "uid:0", .cause = Detail::killed, .reason = "enough"});
        }
        if (dice < 4 && course.faults < 2) {
            ++course.faults;
            course.phase = Phase::queued;
            return add(broker::AttemptReturned{.id = id,
                                               .fence = course.fence,
                                               .cause = Detail::start_failed,
                                               .platform_fault = true,
                                               .reason = "no room",
                                               .evidence = ""});
        }
        if (course.phase == Phase::assigned) {
            course.phase = Phase::running;
            return add(broker::AttemptStarted{
                .id = id,
                .fence = course.fence,
                .started_at = wall_from_ms(kStartMs + static_cast<std::int64_t>(records_.size())),
                .workspace = "/srv/" + id.str()});
        }
        end(id, course);
    }

    void end(const SessionId& id, Course& course) {
        course.phase = Phase::closing;
        if (random_.below(2) == 0) return add(full_ended(id, course.fence));
        broker::SessionEnded ended;
        ended.id = id;
        ended.fence = course.fence;
        ended.completed_at = wall_from_ms(kStartMs + static_cast<std::int64_t>(records_.size()));
        add(std::move(ended));
    }

    broker::WorkerNoted note() {
        static const std::vector<std::string> states = {"up", "unreachable", "lost", "away"};
        return {.name = worker(),
                .state = states[random_.below(states.size())],
                .evidence = "seen by the test"};
    }
    WorkerName worker() { return WorkerName(random_.below(2) == 0 ? "alpha" : "beta"); }

    Random random_;
    int created_ = 0;
    std::map<SessionId, Course> courses_;
    std::vector<broker::Record> records_;
};

}  // namespace iw::test
