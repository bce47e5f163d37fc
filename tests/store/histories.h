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

// The same with what came with version 2 of the database.
inline broker::SessionCreated related_created(int number) {
    broker::SessionCreated body = full_created(number);
    body.parent_fence = Fence{.generation = 1, .attempt = 4};
    body.ancestors = {session_id(5), session_id(1)};
    Submission& s = body.submission;
    s.retry = RetryPolicy{.attempts_max = 4,
                          .backoff = Duration(1500),
                          .backoff_max = Duration(60'000),
                          .causes = {Detail::exited, Detail::timeout}};
    s.after = {{.id = session_id(2), .on = AfterCondition::failure},
               {.id = session_id(3), .on = AfterCondition::any_end}};
    s.keep_children = true;
    return body;
}

inline broker::ReportSuperseded full_superseded(const SessionId& id, Fence fence) {
    return {.id = id,
            .fence = fence,
            .number = 2,
            .what = "ended: exit 3",
            .worker = WorkerName("beta"),
            .cause = "exited",
            .exit_code = 3,
            .result = std::string("{\"late\":\"\0\xff\"}", 13)};
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

inline std::vector<broker::Record> numbered(std::vector<broker::RecordBody> bodies) {
    std::vector<broker::Record> records;
    for (broker::RecordBody& body : bodies)
        records.push_back(record(records.size() + 1, std::move(body)));
    return records;
}

// One of each kind of the first version, in a possible order, with all fields that it had. Golden
// files hold it: it never changes.
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
    return numbered(std::move(bodies));
}

// One of each kind up to 15, likewise: for files from version 2 of the database on.
inline std::vector<broker::Record> every_kind_to_15() {
    using namespace broker;
    const SessionId id = session_id(7);
    const Fence first{.generation = 1, .attempt = 1};
    const Fence second{.generation = 1, .attempt = 2};
    const Fence third{.generation = 2, .attempt = 3};
    const WorkerName worker("alpha");
    return numbered({
        registered("alpha"),
        registered("beta"),
        related_created(7),
        TimeoutChanged{.id = id, .timeout = Duration(7'200'000), .principal = "uid:1000"},
        AttemptAssigned{.id = id, .fence = first, .worker = worker, .host = "alpha.host"},
        AttemptStarted{.id = id,
                       .fence = first,
                       .started_at = wall_from_ms(kStartMs + 6000),
                       .workspace = "/srv/shop/x"},
        AttemptReturned{.id = id,
                        .fence = first,
                        .cause = Detail::exited,
                        .platform_fault = false,
                        .reason = "exit 1; attempt 2 of 4 follows",
                        .evidence = "exit record",
                        .retry_at = wall_from_ms(kStartMs + 8000),
                        .exit_code = 1},
        HoldChanged{.scope = HoldScope::agent,
                    .name = "a7",
                    .on = true,
                    .principal = "uid:0",
                    .reason = "too eager",
                    .until = wall_from_ms(kStartMs + 3'600'000)},
        HoldChanged{.scope = HoldScope::worker,
                    .name = "beta",
                    .on = true,
                    .principal = "uid:0",
                    .reason = "new disks",
                    .until = std::nullopt},
        HoldChanged{.scope = HoldScope::agent,
                    .name = "a7",
                    .on = false,
                    .principal = "broker",
                    .reason = "its deadline came",
                    .until = std::nullopt},
        AttemptAssigned{.id = id, .fence = second, .worker = worker, .host = "alpha.host"},
        EpochBegun{.epoch = std::string(32, 'e'),
                   .generation = 2,
                   .hold = true,
                   .reason = "restored from /backups/one",
                   .principal = "uid:0"},
        AttemptAdopted{.id = id, .fence = third, .worker = WorkerName("beta"), .host = "beta.host"},
        RestoreReleased{.principal = "uid:0", .reason = "all were heard"},
        full_superseded(id, second),
        AttemptStarted{.id = id,
                       .fence = third,
                       .started_at = wall_from_ms(kStartMs + 20'000),
                       .workspace = "/srv/shop/x"},
        KillWished{.id = id,
                   .principal = "session:20251118-153000-p",
                   .cause = Detail::parent_killed,
                   .reason = "wrong branch"},
        full_ended(id, third),
        SessionClosed{.id = id, .by = "alpha"},
        WorkerNoted{.name = worker, .state = "unreachable", .evidence = "silent for 45 s"},
    });
}

// One of each kind up to 16 with what came with version 3 of the database, likewise.
inline std::vector<broker::Record> every_kind_to_16() {
    using namespace broker;
    const SessionId id = session_id(7);
    const SessionId below = session_id(8);
    const Fence fence{.generation = 1, .attempt = 1};
    const WorkerName worker("alpha");
    SessionCreated child = created(8);
    child.submission.parent = id;
    child.ancestors = {session_id(5), session_id(1), id};
    SessionCreated top = related_created(7);
    top.submission.result_schema = R"({"type":"object"})";
    top.submission.estimate = Duration(300'000);
    SessionEnded ended = full_ended(id, fence);
    ended.deliverables =
        Delivered{.manifest = std::string(64, 'd'), .files = 3, .bytes = 52'428'800};
    return numbered({
        registered("alpha"),
        std::move(top),
        std::move(child),
        SessionEdited{.id = id,
                      .principal = "uid:1000",
                      .parent = session_id(2),
                      .ancestors = {session_id(4), session_id(2)},
                      .below = {below},
                      .tags = std::vector<std::string>{"late", "", "a \"quoted\" tag"},
                      .metadata = R"({"b":2})"},
        AttemptAssigned{.id = id, .fence = fence, .worker = worker, .host = "alpha.host"},
        AttemptStarted{.id = id,
                       .fence = fence,
                       .started_at = wall_from_ms(kStartMs + 6000),
                       .workspace = "/srv/shop/x"},
        std::move(ended),
        SessionClosed{.id = id, .by = "alpha"},
        // Of a final session, and taking away: a value that is empty is not one that is absent.
        SessionEdited{.id = id,
                      .principal = "uid:0",
                      .parent = std::nullopt,
                      .ancestors = {},
                      .below = {},
                      .tags = std::vector<std::string>{},
                      .metadata = ""},
        SessionEdited{.id = below,
                      .principal = "uid:0",
                      .parent = SessionId(),
                      .ancestors = {},
                      .below = {},
                      .tags = std::nullopt,
                      .metadata = std::nullopt},
    });
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
        Fence fence;
        bool kill = false;
        int faults = 0;
        bool is_vouched = false;  // its parent
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
        if (dice < 35) return add(full_superseded(course->first, {.generation = 1, .attempt = 1}));
        if (dice < 38) return of_the_fleet();
        if (dice < 41 && course->second.phase != Phase::closing) {
            return add(broker::TimeoutChanged{.id = course->first,
                                              .timeout = Duration(1000 + random_.below(9000)),
                                              .principal = "uid:1000"});
        }
        if (dice < 44) return edit(course->first, course->second);
        advance(course->first, course->second);
    }

    // Of one that lives or is long over. Nobody has children here that would move along.
    void edit(const SessionId& id, const Course& course) {
        broker::SessionEdited edited;
        edited.id = id;
        edited.principal = "uid:1000";
        if (random_.below(2) == 0) edited.tags = std::vector<std::string>(random_.below(3), "t");
        if (random_.below(2) == 0) edited.metadata = random_.below(2) == 0 ? "" : "{}";
        const bool may_move = course.phase != Phase::closing && !course.is_vouched;
        if (random_.below(2) == 0 && may_move) {
            edited.parent = session_id(
                1 + static_cast<int>(random_.below(static_cast<std::uint64_t>(created_))));
            if (*edited.parent == id) edited.parent = SessionId();
            if (!edited.parent->empty()) edited.ancestors = {session_id(1), *edited.parent};
        }
        if (random_.below(4) == 0 && !over_.empty()) {
            edited.id = over_[random_.below(over_.size())];
            edited.parent.reset();
            edited.ancestors.clear();
        }
        add(std::move(edited));
    }

    void of_the_fleet() {
        const std::uint64_t dice = random_.below(20);
        if (dice == 0) {
            ++generation_;
            return add(broker::EpochBegun{.epoch = "epoch-" + std::to_string(generation_),
                                          .generation = generation_,
                                          .hold = random_.below(2) == 0,
                                          .reason = "tried",
                                          .principal = "uid:0"});
        }
        if (dice == 1) return add(broker::RestoreReleased{.principal = "uid:0", .reason = "heard"});
        static const std::vector<std::string> names = {"", "shop", "a1", "beta"};
        const std::uint64_t scope = random_.below(names.size());
        broker::HoldChanged hold{.scope = HoldScope{static_cast<int>(scope) + 1},
                                 .name = names[scope],
                                 .on = random_.below(2) == 0,
                                 .principal = "uid:0",
                                 .reason = "because " + std::to_string(dice),
                                 .until = std::nullopt};
        if (random_.below(2) == 0) hold.until = wall_from_ms(kStartMs + 99'000);
        add(std::move(hold));
    }

    void create() {
        const int number = ++created_;
        broker::SessionCreated body =
            random_.below(3) == 0 ? full_created(number) : created(number);
        if (random_.below(3) == 0) body = related_created(number);
        if (random_.below(4) == 0) body.submission.key.clear();
        if (random_.below(4) == 0) body.submission.result_schema = "{}";
        if (random_.below(4) == 0) body.submission.estimate = Duration(1000 + random_.below(9));
        courses_[body.id] = Course{.is_vouched = body.parent_fence.has_value()};
        add(std::move(body));
    }

    void advance(const SessionId& id, Course& course) {
        switch (course.phase) {
            case Phase::queued:
                if (random_.below(8) == 0) return end(id, course);
                if (random_.below(20) == 0) return adopt(id, course);
                course.fence = {.generation = generation_, .attempt = course.fence.attempt + 1};
                course.phase = Phase::assigned;
                return add(broker::AttemptAssigned{
                    .id = id, .fence = course.fence, .worker = worker(), .host = "some.host"});
            case Phase::assigned:
            case Phase::running:
                return advance_held(id, course);
            case Phase::closing: {
                add(broker::SessionClosed{.id = id, .by = "alpha"});
                over_.push_back(id);
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
            return give_back(id, course, true);
        }
        if (dice == 4) return give_back(id, course, false);
        if (dice == 5 && random_.below(4) == 0) return adopt(id, course);
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

    void give_back(const SessionId& id, Course& course, bool platform_fault) {
        course.phase = Phase::queued;
        broker::AttemptReturned returned{
            .id = id,
            .fence = course.fence,
            .cause = platform_fault ? Detail::start_failed : Detail::exited,
            .platform_fault = platform_fault,
            .reason = "no room",
            .evidence = "looked at",
            .retry_at = std::nullopt,
            .exit_code = std::nullopt};
        if (random_.below(2) == 0) returned.retry_at = wall_from_ms(kStartMs + 50'000);
        if (!platform_fault) returned.exit_code = 3;
        add(std::move(returned));
    }

    // Of an attempt that the state knows, or of a later one that it does not.
    void adopt(const SessionId& id, Course& course) {
        if (course.fence.attempt == 0 || random_.below(2) == 0) {
            course.fence = {.generation = generation_, .attempt = course.fence.attempt + 1};
        }
        course.phase = Phase::assigned;
        add(broker::AttemptAdopted{
            .id = id, .fence = course.fence, .worker = worker(), .host = "other.host"});
    }

    void end(const SessionId& id, Course& course) {
        course.phase = Phase::closing;
        if (random_.below(2) == 0) {
            broker::SessionEnded ended = full_ended(id, course.fence);
            if (random_.below(2) == 0) {
                ended.deliverables = Delivered{.manifest = std::string(64, 'd'),
                                               .files = random_.below(9),
                                               .bytes = random_.below(9000)};
            }
            return add(std::move(ended));
        }
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
    std::uint32_t generation_ = 1;
    std::map<SessionId, Course> courses_;
    std::vector<SessionId> over_;
    std::vector<broker::Record> records_;
};

}  // namespace iw::test
