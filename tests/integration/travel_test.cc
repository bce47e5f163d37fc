// Sessions that run under another root than their project's: their files come home before their end
// shows there, through cuts, restarts and hosts without a worker.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <filesystem>

#include "common/workspace/workspace.h"
#include "tests/integration/worker_fixture.h"

namespace iw::test {
namespace {

// Files are large and the machine may be busy.
constexpr Duration kLong{120'000};
// A broker that is restarted must not take the owner for gone.
constexpr const char* kPatient = "heartbeat = \"200ms\"\nunreachable = \"20s\"\nlost = \"120s\"\n";

// Two roots of one project: the owner's, where sessions are submitted, and the runner's, which
// alone offers the agents.
class TravelFleet {
  public:
    TravelFleet() : owner_(kPatient) {
        IW_CHECK(io::make_folders(runner_root() + "/scripts/ops", 0755).ok());
        IW_CHECK(io::make_folders(runner_root() + "/agents", 0755).ok());
    }
    ~TravelFleet() {
        if (runner_) runner_->kill();
        if (other_) other_->kill();
        end_tmux_of(runner_state());
        end_tmux_of(owner_.file("o"));
    }

    TestFleet& owner() { return owner_; }
    ChildProcess& runner() { return *runner_; }
    std::string runner_root() const { return owner_.file("elsewhere"); }
    std::string runner_state() const { return owner_.file("e"); }
    std::string runner_log() const { return owner_.file("runner.log"); }
    std::string runner_workspace(const SessionId& id) const {
        return io::real_path(runner_root()) + "/docs/.scratch/sessions/" + id.str();
    }

    void add_agent(const std::string& script) {
        const std::string folder = runner_root() + "/agents/maker";
        IW_CHECK(io::make_folders(folder, 0755).ok());
        IW_CHECK(io::write_file(folder + "/run", script, 0755, io::Sync::none).ok());
    }
    void start_runner() {
        runner_.emplace(options_of(runner_root(), runner_state(), runner_log()));
    }
    // A second runner, whose agent of the same name does something else.
    void start_other_runner(const std::string& script) {
        const std::string root = owner_.file("other");
        IW_CHECK(io::make_folders(root + "/scripts/ops", 0755).ok());
        IW_CHECK(io::make_folders(root + "/agents/maker", 0755).ok());
        IW_CHECK(io::write_file(root + "/agents/maker/run", script, 0755, io::Sync::none).ok());
        other_.emplace(options_of(root, owner_.file("o"), owner_.file("other.log")));
    }
    // Both workers, known to the broker.
    bool start() {
        start_runner();
        owner_.start_worker();
        return owner_.peer().hello().ok() && workers_up(2);
    }
    bool workers_up(std::size_t count) {
        return wait_until(
            [&] {
                const auto workers = owner_.peer().call<WorkersReply>(WorkersRequest{});
                if (!workers.ok()) return false;
                return static_cast<std::size_t>(
                           std::ranges::count(workers->workers, "up", &WorkerView::state)) == count;
            },
            kLong);
    }
    // As `ictl submit` does at the origin: the session, and its workspace there.
    SessionId submit(Submission submission, const std::string& host) {
        submission.project = "demo";
        submission.queue_anyway = true;
        submission.origin = Origin{host, io::real_path(owner_.root())};
        const workspace::ProjectPaths project(submission.origin.root);
        IW_CHECK(workspace::prepare_project(project).ok());
        const std::string prompt = submission.prompt;
        const Result<SubmitOutcome> outcome = submit_one(owner_.peer(), std::move(submission));
        if (!outcome.ok()) return SessionId();
        const std::optional<SessionView> view = owner_.view(outcome->id);
        SessionView made = *view;
        made.status = SessionStatus::created;
        made.detail = Detail::queued;
        made.started_at.reset();
        IW_CHECK(workspace::create(project, made, prompt).ok());
        return outcome->id;
    }
    SessionId submit() { return submit(make_submission("maker", "make it", ""), "here"); }
    // What state.json at the origin shows, once it is final.
    nlohmann::json end_of(const SessionId& id) {
        static_cast<void>(wait_until(
            [&] {
                const auto state = owner_.state_json(id);
                const auto status = parse_session_status(state.value("status", ""));
                return status && is_final(*status);
            },
            kLong));
        return owner_.state_json(id);
    }
    std::string logs() const {
        return "owner:\n" + owner_.text(owner_.log()) + "runner:\n" + owner_.text(runner_log());
    }
    std::uint64_t bytes_at_broker() {
        std::uint64_t bytes = 0;
        std::error_code error;
        for (const auto& entry : std::filesystem::recursive_directory_iterator(
                 owner_.broker().data_dir() + "/blobs", error)) {
            if (entry.is_regular_file(error)) bytes += entry.file_size(error);
        }
        return bytes;
    }
    // Names at the top of the workspace at the origin.
    std::vector<std::string> names(const SessionId& id) {
        return io::list_folder(owner_.workspace(id));
    }

  private:
    ChildProcess::Options options_of(const std::string& root, const std::string& state,
                                     const std::string& log) const {
        ChildProcess::Options options = owner_.worker_options();
        for (std::size_t i = 0; i + 1 < options.argv.size(); ++i) {
            if (options.argv[i] == "--root") options.argv[i + 1] = root;
            if (options.argv[i] == "--state-dir") options.argv[i + 1] = state;
            if (options.argv[i] == "--host") options.argv[i + 1] = io::host_name();
        }
        options.log = log;
        return options;
    }
    static void end_tmux_of(const std::string& state) {
        const Result<std::string> text = io::read_file(state + "/tmux.pid", 4096);
        if (!text) return;
        const std::vector<std::string> words = split(trim(*text), ' ');
        long long pid = 0;
        long long ticks = 0;
        if (words.size() != 2 || !parse_int(words[0], 2, INT32_MAX, pid)) return;
        if (!parse_int(words[1], 0, INT64_MAX, ticks)) return;
        const io::ProcessId server{static_cast<pid_t>(pid), static_cast<std::uint64_t>(ticks)};
        io::send_signal(server, SIGTERM);
        static_cast<void>(wait_until([&] { return !io::is_running(server); }, kCap));
    }

    TestFleet owner_;
    std::optional<ChildProcess> runner_;
    std::optional<ChildProcess> other_;
};

constexpr const char* kMaker =
    "#!/bin/sh\ncd \"$IW_WORKSPACE\" || exit 9\n"
    "mkdir -p report/parts && echo part > report/parts/one\n"
    "echo tool > report/tool && chmod 755 report/tool\n"
    ": > empty\nln -s /etc/passwd link\n"
    "echo worked here\n"
    "echo '{\"status\": \"success\"}' > \"$IW_RESULT_FILE\"\n";

using Names = std::vector<std::string>;

TEST(Travel, FilesAreHomeWhenTheEndShows) {
    TravelFleet fleet;
    fleet.add_agent(kMaker);
    ASSERT_TRUE(fleet.start()) << fleet.logs();
    const SessionId id = fleet.submit();
    const nlohmann::json state = fleet.end_of(id);
    ASSERT_EQ(state["status"], "COMPLETED") << state.dump(2) << fleet.logs();
    EXPECT_EQ(state["result_status"], "success");
    EXPECT_EQ(state["workspace"], fleet.owner().workspace(id));
    const std::string home = fleet.owner().workspace(id) + "/";
    EXPECT_EQ(fleet.names(id), (Names{"empty", "output.log", "prompt.md", "report", "result.json",
                                      "session.log", "state.json"}));
    EXPECT_EQ(fleet.owner().text(home + "report/parts/one"), "part\n");
    EXPECT_EQ(::access((home + "report/tool").c_str(), X_OK), 0);
    EXPECT_NE(fleet.owner().text(home + "output.log").find("worked here"), std::string::npos);
    const std::string log = fleet.owner().text(home + "session.log");
    for (const char* line :
         {"Session created", "tmux session started", "Status: CREATED → RUNNING\n",
          "Status: RUNNING → COMPLETED\n", "left behind: link: a link"})
        EXPECT_NE(log.find(line), std::string::npos) << line << " in\n" << log;
    const SessionView view = *fleet.owner().view(id);
    ASSERT_TRUE(view.deliverables.has_value());
    EXPECT_EQ(view.deliverables->files, 5u);
}

TEST(Travel, FiftyMegabytesComeThroughThreeCuts) {
    TravelFleet fleet;
    fleet.add_agent(
        "#!/bin/sh\ncd \"$IW_WORKSPACE\" || exit 9\n"
        "head -c 52428800 /dev/urandom > big && sha256sum < big > sum\n");
    ASSERT_TRUE(fleet.start()) << fleet.logs();
    const SessionId id = fleet.submit();
    for (const std::uint64_t reached : {4u << 20, 16u << 20, 32u << 20}) {
        ASSERT_TRUE(wait_until([&] { return fleet.bytes_at_broker() >= reached; }, kLong))
            << fleet.logs();
        fleet.owner().broker().restart();
    }
    const nlohmann::json state = fleet.end_of(id);
    ASSERT_EQ(state["status"], "COMPLETED") << state.dump(2) << fleet.logs();
    const std::string home = fleet.owner().workspace(id);
    const Result<std::string> big = io::read_file(home + "/big", 64u << 20);
    ASSERT_TRUE(big.ok()) << big.error().message;
    EXPECT_EQ(big->size(), 52428800u);
    EXPECT_EQ(fleet.owner().text(home + "/sum"), io::sha256_hex(*big) + "  -\n");
}

TEST(Travel, SixHundredMegabytesFailWithTheReason) {
    TravelFleet fleet;
    fleet.add_agent(
        "#!/bin/sh\ncd \"$IW_WORKSPACE\" || exit 9\necho small > small\ntruncate -s 600MB big\n");
    ASSERT_TRUE(fleet.start()) << fleet.logs();
    const SessionId id = fleet.submit();
    const nlohmann::json state = fleet.end_of(id);
    EXPECT_EQ(state["status"], "FAILED") << fleet.logs();
    EXPECT_EQ(state["detail"], "disk-limit");
    EXPECT_NE(state["reason"].get<std::string>().find("600 MB > 500 MB"), std::string::npos)
        << state.dump(2);
    EXPECT_EQ(fleet.names(id), (Names{"prompt.md", "session.log", "state.json"}));
    EXPECT_EQ(fleet.bytes_at_broker(), 0u);
}

TEST(Travel, AnOwnerThatIsKilledInTheMiddleGoesOn) {
    TravelFleet fleet;
    fleet.add_agent(
        "#!/bin/sh\ncd \"$IW_WORKSPACE\" || exit 9\n"
        "for i in 1 2 3 4 5 6 7 8; do head -c 4000000 /dev/urandom > f$i; done\n"
        "sha256sum f* > sums\n");
    ASSERT_TRUE(fleet.start()) << fleet.logs();
    const SessionId id = fleet.submit();
    const auto begun = [&] {
        return std::ranges::any_of(fleet.names(id), [](const std::string& name) {
            return name.starts_with(".incoming-") || name == "sums";
        });
    };
    ASSERT_TRUE(wait_until(begun, kLong)) << fleet.logs();
    fleet.owner().worker().kill();
    fleet.owner().start_worker();
    const nlohmann::json state = fleet.end_of(id);
    ASSERT_EQ(state["status"], "COMPLETED") << state.dump(2) << fleet.logs();
    const std::string home = fleet.owner().workspace(id);
    std::string sums;
    for (int i = 1; i <= 8; ++i) {
        const std::string name = "f" + std::to_string(i);
        sums += io::sha256_hex(fleet.owner().text(home + "/" + name)) + "  " + name + "\n";
    }
    EXPECT_EQ(fleet.owner().text(home + "/sums"), sums);
    for (const std::string& name : fleet.names(id))
        EXPECT_FALSE(name.starts_with(".incoming-")) << name;
}

TEST(Travel, ARunnerThatIsKilledWhileItSendsGoesOn) {
    TravelFleet fleet;
    fleet.add_agent(
        "#!/bin/sh\ncd \"$IW_WORKSPACE\" || exit 9\n"
        "head -c 30000000 /dev/urandom > big && sha256sum < big > sum\n");
    ASSERT_TRUE(fleet.start()) << fleet.logs();
    const SessionId id = fleet.submit();
    ASSERT_TRUE(wait_until([&] { return fleet.bytes_at_broker() >= 4u << 20; }, kLong))
        << fleet.logs();
    fleet.runner().kill();
    EXPECT_FALSE(is_final(fleet.owner().view(id)->status));
    fleet.start_runner();
    const nlohmann::json state = fleet.end_of(id);
    ASSERT_EQ(state["status"], "COMPLETED") << state.dump(2) << fleet.logs();
    EXPECT_EQ(state["attempt"], 1);
    const std::string home = fleet.owner().workspace(id);
    const Result<std::string> big = io::read_file(home + "/big", 64u << 20);
    ASSERT_TRUE(big.ok()) << big.error().message;
    EXPECT_EQ(fleet.owner().text(home + "/sum"), io::sha256_hex(*big) + "  -\n");
}

TEST(Travel, ARunnerThatDiedAfterItsAgentEndedDeliversWhenItReturns) {
    TravelFleet fleet;
    fleet.add_agent(
        "#!/bin/sh\ncd \"$IW_WORKSPACE\" || exit 9\n"
        "while [ ! -e \"$IW_PROJECT_ROOT/go\" ]; do sleep 0.05; done\necho late > late\n");
    ASSERT_TRUE(fleet.start()) << fleet.logs();
    const SessionId id = fleet.submit();
    ASSERT_TRUE(
        wait_until([&] { return fleet.owner().state_json(id)["status"] == "RUNNING"; }, kLong))
        << fleet.logs();
    fleet.runner().kill();
    ASSERT_TRUE(io::write_file(fleet.runner_root() + "/go", "", 0644, io::Sync::none).ok());
    const std::string exit_record =
        fleet.runner_state() + "/attempts/" + id.str() + "-1-1/exit.json";
    ASSERT_TRUE(wait_until([&] { return io::exists(exit_record); }, kLong));
    EXPECT_EQ(fleet.owner().state_json(id)["status"], "RUNNING");
    fleet.start_runner();
    EXPECT_EQ(fleet.end_of(id)["status"], "COMPLETED") << fleet.logs();
    EXPECT_EQ(fleet.owner().text(fleet.owner().workspace(id) + "/late"), "late\n");
}

TEST(Travel, ARemovedWorkspaceOfARunThatIsElsewhereIsMadeAgain) {
    TravelFleet fleet;
    fleet.add_agent(
        "#!/bin/sh\ncd \"$IW_WORKSPACE\" || exit 9\n"
        "while [ ! -e \"$IW_PROJECT_ROOT/go\" ]; do sleep 0.05; done\necho made > made\n");
    ASSERT_TRUE(fleet.start()) << fleet.logs();
    const SessionId id = fleet.submit();
    ASSERT_TRUE(
        wait_until([&] { return fleet.owner().state_json(id)["status"] == "RUNNING"; }, kLong))
        << fleet.logs();
    const std::string home = fleet.owner().workspace(id);
    const std::string aside = fleet.owner().file("aside");
    ASSERT_EQ(::rename(home.c_str(), aside.c_str()), 0);
    ASSERT_TRUE(
        wait_until([&] { return fleet.owner().state_json(id)["status"] == "RUNNING"; }, kLong))
        << fleet.logs();
    EXPECT_EQ(fleet.owner().text(home + "/prompt.md"), "make it");
    ASSERT_TRUE(io::write_file(fleet.runner_root() + "/go", "", 0644, io::Sync::none).ok());
    EXPECT_EQ(fleet.end_of(id)["status"], "COMPLETED") << fleet.logs();
    EXPECT_EQ(fleet.owner().text(home + "/made"), "made\n");
    EXPECT_FALSE(io::exists(aside + "/made"));
}

TEST(Travel, WhatAnEarlierAttemptLeftComesHomeToo) {
    TravelFleet fleet;
    fleet.add_agent(
        "#!/bin/sh\ncd \"$IW_WORKSPACE\" || exit 9\n"
        "echo $IW_ATTEMPT > number\n[ \"$IW_ATTEMPT\" = 2 ]\n");
    ASSERT_TRUE(fleet.start()) << fleet.logs();
    Submission submission = make_submission("maker", "again", "");
    submission.retry = RetryPolicy{
        .attempts_max = 2, .backoff = Duration{50}, .backoff_max = Duration{100}, .causes = {}};
    const SessionId id = fleet.submit(std::move(submission), "here");
    EXPECT_EQ(fleet.end_of(id)["status"], "COMPLETED") << fleet.logs();
    const std::string home = fleet.owner().workspace(id);
    EXPECT_EQ(fleet.owner().text(home + "/number"), "2\n");
    EXPECT_EQ(fleet.owner().text(home + "/attempts/1/number"), "1\n");
}

TEST(Travel, ARetryOnAnotherHostBringsItsOwnFilesAlone) {
    TravelFleet fleet;
    fleet.add_agent(
        "#!/bin/sh\ncd \"$IW_WORKSPACE\" || exit 9\n"
        "echo $IW_ATTEMPT > number\necho first > first\nexit 1\n");
    ASSERT_TRUE(fleet.start()) << fleet.logs();
    Submission submission = make_submission("maker", "again", "");
    submission.retry = RetryPolicy{.attempts_max = 2,
                                   .backoff = Duration{4'000},
                                   .backoff_max = Duration{4'000},
                                   .causes = {}};
    const SessionId id = fleet.submit(std::move(submission), "here");
    const auto failed_once = [&] {
        const auto view = fleet.owner().view(id);
        return view && view->detail == Detail::retrying;
    };
    ASSERT_TRUE(wait_until(failed_once, kLong)) << fleet.logs();
    fleet.runner().send_signal(SIGTERM);
    ASSERT_TRUE(fleet.runner().wait_exit(kCap).has_value());
    fleet.start_other_runner(
        "#!/bin/sh\ncd \"$IW_WORKSPACE\" || exit 9\necho $IW_ATTEMPT > number\n");
    EXPECT_EQ(fleet.end_of(id)["status"], "COMPLETED") << fleet.logs();
    EXPECT_EQ(fleet.owner().text(fleet.owner().workspace(id) + "/number"), "2\n");
    EXPECT_EQ(fleet.names(id),
              (Names{"number", "output.log", "prompt.md", "session.log", "state.json"}));
}

TEST(Travel, ATimeoutElsewhereIsToldInThisProjectsLog) {
    TravelFleet fleet;
    fleet.add_agent("#!/bin/sh\nexec sleep 600\n");
    ASSERT_TRUE(fleet.start()) << fleet.logs();
    Submission submission = make_submission("maker", "long", "");
    submission.timeout = Duration{1'000};
    const SessionId id = fleet.submit(std::move(submission), "here");
    const nlohmann::json state = fleet.end_of(id);
    EXPECT_EQ(state["status"], "KILLED") << fleet.logs();
    const std::string log = fleet.owner().text(fleet.owner().root() + "/logs/orchestrator.log");
    EXPECT_NE(log.find("[WARN] Session timeout: " + id.str() + " ("), std::string::npos) << log;
    EXPECT_NE(log.find(" > 1s)"), std::string::npos) << log;
}

// Another process that brings files into a workspace keeps others out: as a disk that is full.
io::UniqueFd hold(const std::string& workspace) {
    io::UniqueFd fd(::open(workspace.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    IW_CHECK(fd.valid() && ::flock(fd.get(), LOCK_EX) == 0);
    return fd;
}

TEST(Travel, WhatCannotBePutThereIsToldAndTriedAgain) {
    TravelFleet fleet;
    fleet.add_agent(
        "#!/bin/sh\ncd \"$IW_WORKSPACE\" || exit 9\n"
        "while [ ! -e \"$IW_PROJECT_ROOT/go\" ]; do sleep 0.05; done\n"
        "echo '{}' > result.json\n");
    ASSERT_TRUE(fleet.start()) << fleet.logs();
    const SessionId id = fleet.submit();
    const std::string home = fleet.owner().workspace(id);
    io::UniqueFd held = hold(home);
    ASSERT_TRUE(io::write_file(fleet.runner_root() + "/go", "", 0644, io::Sync::none).ok());
    const auto told = [&] {
        return fleet.owner().text(home + "/session.log").find("cannot be brought here yet") !=
               std::string::npos;
    };
    ASSERT_TRUE(wait_until(told, kLong)) << fleet.logs();
    EXPECT_EQ(fleet.owner().state_json(id)["status"], "RUNNING");
    EXPECT_EQ(fleet.owner().view(id)->status, SessionStatus::running);
    EXPECT_FALSE(io::exists(home + "/result.json"));
    held.reset();
    EXPECT_EQ(fleet.end_of(id)["status"], "COMPLETED") << fleet.logs();
    EXPECT_TRUE(io::exists(home + "/result.json"));
}

// The broker waits for nobody who said goodbye, so it tells the end once, in a list.
TEST(Travel, AnEndThatTheOwnerMissedIsTriedAgainToo) {
    TravelFleet fleet;
    fleet.add_agent(
        "#!/bin/sh\ncd \"$IW_WORKSPACE\" || exit 9\n"
        "while [ ! -e \"$IW_PROJECT_ROOT/go\" ]; do sleep 0.05; done\necho late > late\n");
    ASSERT_TRUE(fleet.start()) << fleet.logs();
    const SessionId id = fleet.submit();
    const std::string home = fleet.owner().workspace(id);
    ASSERT_TRUE(
        wait_until([&] { return fleet.owner().state_json(id)["status"] == "RUNNING"; }, kLong))
        << fleet.logs();
    fleet.owner().worker().send_signal(SIGTERM);
    ASSERT_TRUE(fleet.owner().worker().wait_exit(kCap).has_value());
    ASSERT_TRUE(io::write_file(fleet.runner_root() + "/go", "", 0644, io::Sync::none).ok());
    ASSERT_EQ(fleet.owner().wait_status(id, SessionStatus::completed).status,
              SessionStatus::completed);
    // A script has its own idea of it, as Example 7's.
    nlohmann::json edited = fleet.owner().state_json(id);
    edited["status"] = "KILLED";
    ASSERT_TRUE(io::write_file(home + "/state.json", edited.dump(), 0644, io::Sync::none).ok());
    io::UniqueFd held = hold(home);
    fleet.owner().start_worker();
    const auto told = [&] {
        return fleet.owner().text(home + "/session.log").find("cannot be brought here yet") !=
               std::string::npos;
    };
    ASSERT_TRUE(wait_until(told, kLong)) << fleet.logs();
    EXPECT_FALSE(io::exists(home + "/late"));
    held.reset();
    ASSERT_TRUE(wait_until([&] { return io::exists(home + "/late"); }, kCap)) << fleet.logs();
    ASSERT_TRUE(
        wait_until([&] { return fleet.owner().state_json(id)["status"] == "COMPLETED"; }, kCap))
        << fleet.logs();
}

// It began while no worker was there, and holds the workspace until it has written the end.
TEST(Travel, AnEndThatIctlIsWritingIsNotTakenBack) {
    TravelFleet fleet;
    fleet.add_agent(
        "#!/bin/sh\ncd \"$IW_WORKSPACE\" || exit 9\n"
        "while [ ! -e \"$IW_PROJECT_ROOT/go\" ]; do sleep 0.05; done\n");
    ASSERT_TRUE(fleet.start()) << fleet.logs();
    const SessionId id = fleet.submit();
    const workspace::ProjectPaths project(fleet.owner().root());
    const std::string home = project.workspace(id);
    const auto status = [&] { return fleet.owner().state_json(id)["status"]; };
    ASSERT_TRUE(wait_until([&] { return status() == "RUNNING"; }, kLong)) << fleet.logs();
    fleet.owner().worker().send_signal(SIGTERM);
    ASSERT_TRUE(fleet.owner().worker().wait_exit(kCap).has_value());
    ASSERT_TRUE(io::write_file(fleet.runner_root() + "/go", "", 0644, io::Sync::none).ok());
    const SessionView ended = fleet.owner().wait_status(id, SessionStatus::completed);
    io::UniqueFd held = hold(home);
    fleet.owner().start_worker();
    const auto told = [&] {
        return fleet.owner().text(home + "/session.log").find("cannot be brought here yet") !=
               std::string::npos;
    };
    ASSERT_TRUE(wait_until(told, kLong)) << fleet.logs();
    ASSERT_TRUE(workspace::write_end(project, ended, SessionStatus::running, io::wall_now()).ok());
    held.reset();
    // It is kept again, as every workspace that stands there: an edit reaches the broker.
    nlohmann::json edited = fleet.owner().state_json(id);
    edited["tags"] = {"seen"};
    ASSERT_TRUE(io::write_file(home + "/state.json", edited.dump(), 0644, io::Sync::none).ok());
    bool taken_back = false;
    const auto known = [&] {
        taken_back = taken_back || status() == "RUNNING";
        return fleet.owner().view(id)->tags == std::vector<std::string>{"seen"};
    };
    EXPECT_TRUE(wait_until(known, kLong)) << fleet.logs();
    EXPECT_FALSE(taken_back);
    EXPECT_EQ(status(), "COMPLETED");
}

// ---- After a week ------------------------------------------------------------------------------

// As if the attempt had been closed eight days ago, which its worker finds at its next start.
void make_old(const std::string& state, const SessionId& id) {
    const std::string closed = state + "/attempts/" + id.str() + "-1-1/closed";
    ASSERT_TRUE(wait_until([&] { return io::exists(closed); }, kLong));
    timespec old{};
    ASSERT_EQ(::clock_gettime(CLOCK_REALTIME, &old), 0);
    old.tv_sec -= 8L * 24 * 3600;
    const timespec times[2] = {old, old};
    ASSERT_EQ(::utimensat(AT_FDCWD, closed.c_str(), times, 0), 0);
}

TEST(Travel, WhereItRanItsWorkspaceGoesWithTheAttempt) {
    TravelFleet fleet;
    fleet.add_agent(kMaker);
    ASSERT_TRUE(fleet.start()) << fleet.logs();
    const SessionId id = fleet.submit();
    ASSERT_EQ(fleet.end_of(id)["status"], "COMPLETED") << fleet.logs();
    make_old(fleet.runner_state(), id);
    fleet.runner().send_signal(SIGTERM);
    ASSERT_TRUE(fleet.runner().wait_exit(kCap).has_value());
    EXPECT_TRUE(io::exists(fleet.runner_workspace(id) + "/empty"));
    fleet.start_runner();
    EXPECT_TRUE(wait_until([&] { return !io::exists(fleet.runner_workspace(id)); }, kCap));
    EXPECT_TRUE(io::exists(fleet.owner().workspace(id) + "/empty"));
}

// The host's name is another one since, so its own sessions look like somebody else's.
TEST(Travel, AWorkspaceOfThisProjectStaysWhateverTheHostIsCalled) {
    TestFleet fleet;
    fleet.add_agent("own", "#!/bin/sh\necho work > \"$IW_WORKSPACE/work\"\n");
    ASSERT_TRUE(fleet.start());
    const SessionId id = fleet.submit("own", "p");
    ASSERT_EQ(fleet.wait_status(id, SessionStatus::completed).status, SessionStatus::completed);
    make_old(fleet.state(), id);
    fleet.worker().send_signal(SIGTERM);
    ASSERT_TRUE(fleet.worker().wait_exit(kCap).has_value());
    ChildProcess::Options options = fleet.worker_options();
    *std::ranges::find(options.argv, "here") = "renamed";
    ChildProcess renamed(options);
    const std::string attempt = fleet.state() + "/attempts/" + id.str() + "-1-1";
    EXPECT_TRUE(wait_until([&] { return !io::exists(attempt); }, kCap)) << fleet.text(fleet.log());
    EXPECT_TRUE(io::exists(fleet.workspace(id) + "/work"));
    renamed.kill();
}

// ictl knows the system's name for the host, whatever the worker is told to call it.
TEST(Travel, AWorkspaceOfThisProjectStaysThoughItsWorkerHasANameOfItsOwn) {
    TestFleet fleet;
    fleet.add_agent("own", "#!/bin/sh\necho work > \"$IW_WORKSPACE/work\"\n");
    ASSERT_TRUE(fleet.start());
    Submission submission = make_submission("own", "p", "");
    submission.project = "demo";
    submission.queue_anyway = true;
    submission.origin = Origin{io::host_name(), io::real_path(fleet.root())};
    const Result<SubmitOutcome> outcome = submit_one(fleet.peer(), std::move(submission));
    ASSERT_TRUE(outcome.ok());
    const SessionId id = outcome->id;
    ASSERT_EQ(fleet.wait_status(id, SessionStatus::completed).status, SessionStatus::completed);
    make_old(fleet.state(), id);
    fleet.worker().send_signal(SIGTERM);
    ASSERT_TRUE(fleet.worker().wait_exit(kCap).has_value());
    fleet.start_worker();
    const std::string attempt = fleet.state() + "/attempts/" + id.str() + "-1-1";
    EXPECT_TRUE(wait_until([&] { return !io::exists(attempt); }, kCap)) << fleet.text(fleet.log());
    EXPECT_TRUE(io::exists(fleet.workspace(id) + "/work"));
}

// ---- Without a worker at the origin ------------------------------------------------------------

class TravelAlone : public ::testing::Test {
  protected:
    void SetUp() override {
        fleet_.add_agent(kMaker);
        fleet_.start_runner();
        ASSERT_TRUE(fleet_.owner().peer().hello().ok());
        ASSERT_TRUE(fleet_.workers_up(1)) << fleet_.logs();
        id_ = fleet_.submit(make_submission("maker", "make it", ""), io::host_name());
        const SessionView ended = fleet_.owner().wait_status(id_, SessionStatus::completed);
        ASSERT_EQ(ended.status, SessionStatus::completed) << fleet_.logs();
    }
    io::CommandResult ictl(std::vector<std::string> arguments) {
        std::vector<std::string> argv = {std::string(IW_BUILD_DIR) + "/bin/ictl"};
        argv.insert(argv.end(), arguments.begin(), arguments.end());
        argv.insert(argv.end(), {"--broker", fleet_.owner().broker().endpoint()});
        std::vector<std::string> environment = io::environment_variables();
        environment.push_back("IW_CFG_STATE_DIR=" + fleet_.owner().file("shared"));
        return io::run_command(argv, environment, "", 1u << 20, 60'000);
    }
    std::string home() { return fleet_.owner().workspace(id_) + "/"; }

    TravelFleet fleet_;
    SessionId id_;
};

TEST_F(TravelAlone, StatusBringsTheFilesBeforeItShowsTheEnd) {
    EXPECT_NE(fleet_.owner().state_json(id_)["status"], "COMPLETED");
    const io::CommandResult shown = ictl({"status", id_.str(), "--brief"});
    EXPECT_EQ(shown.exit_code, 0) << shown.output;
    EXPECT_NE(shown.output.find("COMPLETED"), std::string::npos) << shown.output;
    EXPECT_EQ(fleet_.owner().state_json(id_)["status"], "COMPLETED");
    EXPECT_EQ(fleet_.owner().text(home() + "report/parts/one"), "part\n");
    EXPECT_EQ(fleet_.names(id_), (Names{"empty", "output.log", "prompt.md", "report", "result.json",
                                        "session.log", "state.json"}));
}

TEST_F(TravelAlone, FetchBringsThemAnywhere) {
    const std::string to = fleet_.owner().file("got");
    const io::CommandResult all = ictl({"fetch", id_.str(), "--to", to});
    EXPECT_EQ(all.exit_code, 0) << all.output;
    EXPECT_EQ(io::list_folder(to), (Names{"empty", "output.log", "report", "result.json"}));
    const std::string part = fleet_.owner().file("part");
    const io::CommandResult some = ictl({"fetch", id_.str(), "report/", "--to", part, "--json"});
    EXPECT_EQ(some.exit_code, 0) << some.output;
    EXPECT_EQ(io::list_folder(part), Names{"report"});
    const io::CommandResult list = ictl({"fetch", id_.str(), "--list"});
    EXPECT_EQ(list.exit_code, 0);
    EXPECT_NE(list.output.find("0755  report/tool"), std::string::npos) << list.output;
    EXPECT_EQ(ictl({"fetch", id_.str(), "nothing"}).exit_code, 1);
}

}  // namespace
}  // namespace iw::test
