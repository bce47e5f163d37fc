#include "worker/worker_server.h"

#include <signal.h>
#include <sys/inotify.h>

#include <algorithm>
#include <utility>

#include "common/base/overloaded.h"
#include "common/io/config_file.h"
#include "common/io/logging.h"
#include "common/io/process_end.h"
#include "common/io/system_clock.h"
#include "worker/attempt_facts.h"

namespace iw::worker {
namespace {

// Records appear by rename or link, never by being written in place.
constexpr std::uint32_t kRecordsAppear = IN_MOVED_TO | IN_CREATE;
// The broker is told of a goodbye; without an answer the end waits no longer than this.
constexpr Duration kGoodbyePatience{1'000};
constexpr Duration kHousekeepingPause{86'400'000};

// Records of others; our own need no second look.
bool is_foreign_record(const std::string& name) {
    return name == "start" || name == "process.json" || name == "exit.json" || name == "log.json";
}

Agents::Options agents_options(const WorkerOptions& options) {
    return Agents::Options{
        .root = options.root,
        .profile_files = {io::share_folder() + "/config/agents.toml",
                          "/etc/native-orchestrator/agents.toml", io::config_files("agents").back(),
                          options.root + "/scripts/ops/project.toml"},
        .default_profile = "claude",
        .bin_folder = io::bin_folder()};
}

CoreConfig core_config(const WorkerOptions& options, const Identity& identity,
                       const Agents& agents) {
    CoreConfig config;
    config.name = options.name;
    config.host = options.host;
    config.root = options.root;
    config.project = options.project;
    config.state_id = identity.state_id;
    config.start_count = identity.start_count;
    config.boot_id = identity.boot_id;
    config.slots = options.slots.value_or(slots_of_project(options.root));
    config.agents = agents.offered();
    config.labels = options.labels;
    config.seen = identity.seen;
    config.sessions_folder = workspace::ProjectPaths(options.root).sessions;
    config.stop_grace = options.stop_grace;
    return config;
}

Refusal refusal_of(const Error& error, int exit_code) {
    return Refusal{.exit_code = exit_code, .message = error.message};
}

}  // namespace

std::variant<WorkerServer::Parts, Refusal> WorkerServer::open(const WorkerOptions& options) {
    if (const Status fits = LocalSockets::check_folder(options.state_dir + "/s"); !fits) {
        return refusal_of(fits.error(), kExitConfig);
    }
    if (const Status ready = workspace::prepare_project(workspace::ProjectPaths(options.root));
        !ready) {
        return refusal_of(ready.error(), kExitCannotCreate);
    }
    Result<AttemptStore> store = AttemptStore::open(options.state_dir);
    if (!store) return refusal_of(store.error(), kExitIo);
    Result<Agents> agents = Agents::load(agents_options(options));
    if (!agents) return refusal_of(agents.error(), kExitConfig);
    Result<Tmux> tmux = Tmux::open({.state_folder = options.state_dir,
                                    .launcher = io::libexec_folder() + "/iexec",
                                    .log_writer = io::libexec_folder() + "/ilogd"});
    if (!tmux) return refusal_of(tmux.error(), kExitUnavailable);
    Result<FolderWatch> watch = FolderWatch::open();
    if (!watch) return refusal_of(watch.error(), kExitIo);
    return Parts{std::move(*store), std::move(*agents), std::move(*tmux), std::move(*watch)};
}

WorkerServer::WorkerServer(WorkerOptions options, const Identity& identity, Parts parts,
                           io::Context& context, io::SignalFd& signals, Reload reload)
    : options_(std::move(options)),
      boot_id_(identity.boot_id),
      parts_(std::move(parts)),
      project_(options_.root),
      signals_(signals),
      reload_(std::move(reload)),
      link_(context, loop_, options_.broker,
            {.on_event = [this](CoreEvent event) { dispatch(std::move(event)); },
             .on_relay = [this](std::uint64_t ticket,
                                Result<RelayReply> reply) { sockets_.answer(ticket, reply); },
             .on_goodbye = [this] { said_goodbye_ = true; },
             .on_follow = [this](FollowPush push) { follow(std::move(push)); }}),
      sockets_(context, loop_, options_.state_dir + "/s",
               [this](std::uint64_t ticket, RelayRequest request) {
                   return core_.linked() && link_.send_relay(ticket, std::move(request));
               }),
      project_watch_(parts_.watch, options_.root,
                     {.on_agents = [this] { offer_changed_ = true; },
                      .on_config = [this] { offer_changed_ = true; }}),
      runner_({.options = options_,
               .project = project_,
               .store = parts_.store,
               .agents = parts_.agents,
               .tmux = parts_.tmux,
               .sockets = sockets_,
               .may_start = [this] { return core_.may_start(core_now()); }}),
      keeper_(keeper_parts()),
      checks_(loop_, io::libexec_folder() + "/ischema"),
      uploader_(uploader_handlers()),
      fetcher_(fetcher_handlers()),
      core_(core_config(options_, identity, parts_.agents)) {}

WorkerServer::~WorkerServer() = default;

// ---- Loop --------------------------------------------------------------------------------------

int WorkerServer::run() {
    loop_.add_fd(signals_.fd(), [this] { read_signals(); });
    loop_.add_fd(parts_.watch.fd(), [this] { read_watch(); });
    project_watch_.refresh();
    if (const Status opened = link_.open(); !opened) {
        io::log(io::LogLevel::error, "cannot connect", {{"error", opened.error().message}});
        return kExitSoftware;
    }
    // Without knowing what earlier processes left, this one must not tell the broker that it has
    // nothing.
    if (!adopt()) return kExitIo;
    keep_house();
    io::log(
        io::LogLevel::info, "started",
        {{"worker", options_.name.str()}, {"root", options_.root}, {"broker", options_.broker}});
    while (!stopping_ || (!said_goodbye_ && io::steady_now() < stop_by_)) {
        if (const Status waited = loop_.wait(deadline()); !waited) {
            io::log(io::LogLevel::error, "cannot wait", {{"error", waited.error().message}});
            return kExitSoftware;
        }
        if (std::exchange(offer_changed_, false)) offer();
        keeper_.tick(io::steady_now());
        if (io::steady_now() >= keep_house_at_) keep_house();
        dispatch(TickEvent{});
        checks_.work(io::steady_now());
        uploader_.work(io::steady_now());
        fetcher_.work(io::steady_now());
    }
    io::log(io::LogLevel::info, "stopped", {{"worker", options_.name.str()}});
    return kExitOk;
}

Now WorkerServer::core_now() const {
    return Now{.steady = io::boottime_now(), .wall = io::wall_now()};
}

std::optional<Timestamp> WorkerServer::deadline() const {
    if (stopping_) return stop_by_;
    const Timestamp now = io::steady_now();
    std::optional<Timestamp> wanted = core_.next_deadline();
    // The core lives on CLOCK_BOOTTIME, waiting on CLOCK_MONOTONIC; the two differ by suspends.
    if (wanted) wanted = now + (*wanted - io::boottime_now());
    for (const std::optional<Timestamp>& other :
         {std::optional(keep_house_at_), keeper_.deadline(), checks_.deadline(now),
          uploader_.deadline(now), fetcher_.deadline(now)})
        if (other) wanted = wanted ? std::min(*wanted, *other) : *other;
    return wanted;
}

// Events that come up while actions are performed wait until those are done.
void WorkerServer::dispatch(CoreEvent event) {
    events_.push_back(std::move(event));
    if (dispatching_) return;
    dispatching_ = true;
    while (!events_.empty()) {
        CoreEvent next = std::move(events_.front());
        events_.pop_front();
        Actions actions = core_.step(core_now(), std::move(next));
        for (Action& action : actions)
            perform(action);
        if (core_.linked() != linked_) relink();
    }
    dispatching_ = false;
}

void WorkerServer::perform(Action& action) {
    std::visit([this](auto& what) { act(what); }, action);
}

// ---- Attempts on disk --------------------------------------------------------------------------

bool WorkerServer::adopt() {
    const Result<std::vector<AttemptFacts>> all = parts_.store.load_all();
    if (!all) {
        io::log(io::LogLevel::error, "cannot read attempts", {{"error", all.error().message}});
        return false;
    }
    for (const AttemptFacts& facts : *all) {
        if (facts.error.empty() || facts.closed) {
            adopt(facts);
        } else {
            adopt_broken(facts);
        }
    }
    // What appeared between reading and watching.
    look_at_all();
    watch_tmux_socket();
    watch_tmux();
    return true;
}

void WorkerServer::adopt(const AttemptFacts& facts) {
    const AttemptSnapshot snapshot =
        snapshot_of(facts, parts_.store.folder(facts.attempt), boot_id_);
    LauncherState launcher = LauncherState::not_asked;
    if (!snapshot.closed_at) {
        watch_attempt(facts.attempt);
        launcher = watch_launcher(facts.attempt, facts);
    }
    dispatch(RestoredEvent{snapshot, launcher});
    if (!snapshot.closed_at && snapshot.holder == StartHolder::launcher && !snapshot.end) {
        reopen_socket(facts.attempt);
        if (snapshot.started_at) keeper_.follow(facts.attempt);
    }
}

// One of its files cannot be read, so nobody can tell how far it came. It must not hang for ever:
// its start is taken if nobody has it, what runs of it is ended, and it is reported lost.
void WorkerServer::adopt_broken(AttemptFacts facts) {
    io::log(io::LogLevel::error, "attempt given up: one of its files cannot be read",
            {{"attempt", attempt_name(facts.attempt)}, {"error", facts.error}});
    if (!facts.claim) {
        const Status taken = parts_.store.claim(facts.attempt, Claim::stopped, "unreadable record");
        facts.claim = taken ? Claim::stopped : Claim::launcher;
    }
    watch_attempt(facts.attempt);
    const bool may_run = facts.claim == Claim::launcher && !facts.exit;
    dispatch(RestoredEvent{snapshot_of(facts, parts_.store.folder(facts.attempt), boot_id_),
                           may_run ? LauncherState::gone : LauncherState::not_asked});
}

void WorkerServer::reopen_socket(const AttemptRef& attempt) {
    const Status opened = sockets_.open(attempt);
    if (opened) return;
    io::log(io::LogLevel::error, "no local socket",
            {{"attempt", attempt_name(attempt)}, {"error", opened.error().message}});
}

void WorkerServer::watch_attempt(const AttemptRef& attempt) {
    const auto on_change = [this, attempt](const std::string& name) {
        if (is_foreign_record(name)) look_at(attempt);
    };
    const Status watching =
        parts_.watch.add(parts_.store.folder(attempt), kRecordsAppear, on_change);
    if (!watching)
        io::log(io::LogLevel::error, "cannot watch", {{"error", watching.error().message}});
    watched_.try_emplace(attempt);
}

void WorkerServer::unwatch_attempt(const AttemptRef& attempt) {
    const auto found = watched_.find(attempt);
    if (found == watched_.end()) return;
    unwatch_launcher(found->second);
    parts_.watch.remove(parts_.store.folder(attempt));
    watched_.erase(found);
}

void WorkerServer::unwatch_launcher(Watched& watched) {
    if (!watched.launcher.valid()) return;
    loop_.remove_fd(watched.launcher.get());
    watched.launcher.reset();
}

void WorkerServer::look_at(const AttemptRef& attempt) {
    const Result<AttemptFacts> facts = parts_.store.load(attempt);
    if (!facts) {
        io::log(io::LogLevel::error, "cannot read attempt",
                {{"attempt", attempt_name(attempt)}, {"error", facts.error().message}});
        return;
    }
    const LauncherState launcher = watch_launcher(attempt, *facts);
    dispatch(SeenEvent{snapshot_of(*facts, parts_.store.folder(attempt), boot_id_)});
    if (launcher == LauncherState::gone) launcher_ended(attempt);
}

void WorkerServer::look_at_all() {
    std::vector<AttemptRef> attempts;
    for (const auto& [attempt, watched] : watched_)
        attempts.push_back(attempt);
    for (const AttemptRef& attempt : attempts)
        look_at(attempt);
}

LauncherState WorkerServer::watch_launcher(const AttemptRef& attempt, const AttemptFacts& facts) {
    if (!facts.process || facts.exit) return LauncherState::not_asked;
    if (facts.process->boot_id != boot_id_) return LauncherState::other_boot;
    Watched& watched = watched_[attempt];
    if (watched.launcher.valid()) return LauncherState::alive;
    // Without its launcher an attempt goes on under the guard, or is ended by it.
    for (const io::ProcessId& process : {facts.process->launcher, facts.process->guard}) {
        io::UniqueFd fd = process.pid > 0 ? io::open_pidfd(process.pid) : io::UniqueFd();
        // Opened first, asked then: the descriptor means whoever has the number now.
        if (io::has_ended(process)) continue;
        if (!fd.valid()) {
            // Not gone for that: it is looked at again with the next measurement.
            io::log(io::LogLevel::error, "cannot watch a launcher; out of descriptors?",
                    {{"attempt", attempt_name(attempt)}});
            return LauncherState::alive;
        }
        watched.launcher = std::move(fd);
        loop_.add_fd(watched.launcher.get(), [this, attempt] { launcher_ended(attempt); });
        return LauncherState::alive;
    }
    return LauncherState::gone;
}

void WorkerServer::launcher_ended(const AttemptRef& attempt) {
    if (const auto found = watched_.find(attempt); found != watched_.end())
        unwatch_launcher(found->second);
    // The exit record comes before the launcher's end.
    const Result<AttemptFacts> facts = parts_.store.examine(attempt);
    if (!facts) {
        io::log(io::LogLevel::error, "cannot read attempt",
                {{"attempt", attempt_name(attempt)}, {"error", facts.error().message}});
        return;
    }
    dispatch(SeenEvent{snapshot_of(*facts, parts_.store.folder(attempt), boot_id_)});
    if (watch_launcher(attempt, *facts) == LauncherState::gone)
        dispatch(LauncherGoneEvent{attempt});
}

// ---- The tmux server ---------------------------------------------------------------------------

// Each launcher notices by itself that its terminal is gone; here it is said once why.
void WorkerServer::watch_tmux() {
    if (tmux_server_.valid()) return;
    const std::optional<io::ProcessId> server = parts_.tmux.recorded_server();
    if (!server) return;
    io::UniqueFd fd = io::open_pidfd(server->pid);
    if (!fd.valid() || !io::is_running(*server)) return;
    tmux_server_ = std::move(fd);
    loop_.add_fd(tmux_server_.get(), [this] { tmux_ended(); });
}

void WorkerServer::tmux_ended() {
    loop_.remove_fd(tmux_server_.get());
    tmux_server_.reset();
    io::log(io::LogLevel::warn, "the tmux server ended; its sessions are lost",
            {{"running", std::to_string(core_.counts().running)}});
}

// Without it nobody could look into a session, though all of them go on.
void WorkerServer::watch_tmux_socket() {
    const auto on_change = [this](const std::string& name) {
        if (name != io::base_name(parts_.tmux.socket())) return;
        const Status kept = parts_.tmux.keep_socket();
        if (!kept) io::log(io::LogLevel::warn, "no tmux socket", {{"error", kept.error().message}});
    };
    const Status watching =
        parts_.watch.add(options_.state_dir, IN_DELETE | IN_MOVED_FROM, on_change);
    if (!watching)
        io::log(io::LogLevel::error, "cannot watch", {{"error", watching.error().message}});
    const Status kept = parts_.tmux.keep_socket();
    if (!kept) io::log(io::LogLevel::warn, "no tmux socket", {{"error", kept.error().message}});
}

// ---- Watches and signals -----------------------------------------------------------------------

void WorkerServer::read_watch() {
    if (parts_.watch.read()) return;
    io::log(io::LogLevel::warn, "changes of files were lost; looking at everything");
    look_at_all();
    static_cast<void>(parts_.tmux.keep_socket());
    keeper_.look_at_all();
    project_watch_.refresh();
    offer_changed_ = true;
}

void WorkerServer::offer() {
    OfferEvent event;
    event.agents = parts_.agents.offered();
    if (event.agents->size() > limits::kAgentsPerWorkerMax)
        event.agents->resize(limits::kAgentsPerWorkerMax);
    if (!options_.slots) event.slots = slots_of_project(options_.root);
    dispatch(std::move(event));
}

void WorkerServer::read_signals() {
    while (const std::optional<int> number = signals_.read()) {
        if (*number == SIGHUP) reload();
        if (*number == SIGUSR1) log_state();
        if (*number != SIGTERM && *number != SIGINT) continue;
        // A second one does not wait for the broker.
        if (stopping_) said_goodbye_ = true;
        stopping_ = true;
        stop_by_ = io::steady_now() + kGoodbyePatience;
        if (!core_.linked()) said_goodbye_ = true;
        dispatch(ShutdownEvent{});
    }
}

void WorkerServer::reload() {
    io::set_log_level(reload_());
    Result<Agents> agents = Agents::load(agents_options(options_));
    if (agents) {
        parts_.agents = std::move(*agents);
    } else {
        io::log(io::LogLevel::error, "agents stay as they were",
                {{"error", agents.error().message}});
    }
    project_watch_.refresh();
    offer_changed_ = true;
    io::log(io::LogLevel::info, "reloaded");
}

// A program of its own: compressing a session takes long, and goes on when this worker ends.
void WorkerServer::keep_house() {
    keep_house_at_ = io::steady_now() + kHousekeepingPause;
    std::vector<std::string> argv = to_arguments(options_.root, options_.housekeeping);
    argv.insert(argv.begin(), io::libexec_folder() + "/ikeep");
    const Result<pid_t> started = io::start_daemon(argv, io::environment_variables(),
                                                   options_.state_dir + "/housekeeping.log");
    if (started) return;
    io::log(io::LogLevel::warn, "no housekeeping", {{"error", started.error().message}});
}

void WorkerServer::log_state() {
    const WorkerCore::Counts counts = core_.counts();
    io::log(io::LogLevel::info, "state",
            {{"linked", core_.linked() ? "yes" : "no"},
             {"accepted", std::to_string(counts.accepted)},
             {"running", std::to_string(counts.running)},
             {"ended", std::to_string(counts.ended)},
             {"closed", std::to_string(counts.closed)}});
}

}  // namespace iw::worker
