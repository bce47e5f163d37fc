#include "broker/broker_server.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <iterator>
#include <span>
#include <utility>

#include "broker/backup_files.h"
#include "broker/exit_codes.h"
#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/io/logging.h"
#include "common/io/system_clock.h"

namespace iw::broker {
namespace {

constexpr std::size_t kPromptCacheBytes = 64u << 20;
constexpr PeerTable::Bounds kPeerBounds{.peers_max = 100'000, .idle_max = Duration(3'600'000)};
// Estimates of records are rough, so a unit is filled to half of what it may hold.
constexpr std::size_t kUnitBytes = limits::kCommitBytesMax / 2;
// Shorter delays are every day's; they need not be given back to the leases.
constexpr Duration kStallMin{1'000};
constexpr Duration kShutDownMax{9'000};

void join_earliest(std::optional<Timestamp>& earliest, std::optional<Timestamp> other) {
    if (other && (!earliest || *other < *earliest)) earliest = other;
}

}  // namespace

BrokerServer::BrokerServer(Parts parts)
    : options_(std::move(parts.options)),
      journal_(std::move(parts.recovered.journal)),
      core_(std::move(parts.recovered.core)),
      router_(std::move(parts.router)),
      signals_(std::move(parts.signals)),
      notify_(std::move(parts.notify)),
      log_level_(std::move(parts.log_level)),
      peers_(kPeerBounds),
      prompts_(kPromptCacheBytes),
      database_(std::move(parts.recovered.database),
                {.synced = [this](Seq seq) { journal_->release(seq); },
                 .pruned = [this] { blob_expiry_.look(); }}),
      blobs_({.folder = options_.data_dir + "/" + kBlobsName,
              .bytes_max = options_.blobs_max,
              .reserve = options_.storage_reserve}),
      blob_requests_({.core = core_, .database = database_, .blobs = blobs_, .turn = turn_}),
      blob_expiry_({.core = core_, .database = database_, .blobs = blobs_, .turn = turn_}),
      submissions_({.core = core_, .database = database_, .turn = turn_, .prompts = prompts_},
                   {.folder = options_.data_dir, .reserve = options_.storage_reserve},
                   std::move(parts.recovered.keys)),
      events_(database_, turn_),
      assignments_(core_, database_, turn_, prompts_),
      read_only_(std::move(parts.recovered.read_only)),
      backups_(database_, turn_,
               {.at = options_.backup_at,
                .keep = options_.backup_keep,
                .folder = options_.backup_folder,
                .reserve = options_.storage_reserve,
                .journal = journal_->id(),
                .blobs = options_.data_dir + "/" + kBlobsName},
               core_.head() == 0),
      admin_({.core = core_,
              .database = database_,
              .peers = peers_,
              .turn = turn_,
              .read_only = read_only_,
              .submissions = submissions_,
              .blobs = blob_requests_,
              .backups = backups_}),
      requests_({.core = core_,
                 .database = database_,
                 .peers = peers_,
                 .turn = turn_,
                 .submissions = submissions_,
                 .events = events_,
                 .blobs = blob_requests_,
                 .admin = admin_},
                parts.recovered.leases) {}

int BrokerServer::run() {
    // What is readable is asked for in each turn anyway; the handlers only end the wait.
    loop_.add_socket(router_.native(), [] {});
    loop_.add_fd(database_.fd(), [] {});
    loop_.add_fd(blobs_.fd(), [] {});
    loop_.add_fd(backups_.fd(), [] {});
    loop_.add_fd(signals_.fd(), [this] { read_signals(); });
    worked_until_ = io::steady_now();
    woken_at_ = worked_until_;
    if (notify_.watchdog_interval()) watchdog_at_ = worked_until_ + *notify_.watchdog_interval();
    blob_expiry_.look();
    notify_.send("READY=1");
    while (!ending_) {
        wait();
        if (has_failed()) return exit_code_;
        turn(ending_ ? std::vector<io::RouterSocket::Message>{} : receive());
        ping_watchdog();
    }
    shut_down();
    return exit_code_;
}

// ---- One turn ----------------------------------------------------------------------------------

void BrokerServer::turn(const std::vector<io::RouterSocket::Message>& messages) {
    turn_.begin(io::now());
    decide(messages);
    tick();
    assignments_.fill();
    commit();
    hand_over();
    send();
    log_transitions();
}

void BrokerServer::wait() {
    planned_ = next_deadline();
    worked_until_ = io::steady_now();
    worked_ = worked_until_ - woken_at_;
    const Status waited = loop_.wait(planned_);
    woken_at_ = io::steady_now();
    if (!waited.ok()) end_at_once(kExitSoftware, waited.error().message);
}

std::optional<Timestamp> BrokerServer::next_deadline() const {
    std::optional<Timestamp> earliest;
    if (!turn_.is_held_still()) earliest = core_.next_deadline();
    join_earliest(earliest, events_.next_deadline());
    join_earliest(earliest, backups_.next_deadline(io::now()));
    join_earliest(earliest, watchdog_at_);
    if (!gone_.empty()) join_earliest(earliest, io::steady_now());
    // A stall shows by a deadline that was overslept. One that fits before a far deadline would
    // pass for silence of others, so there is always a near one; rarer than heartbeats, it costs
    // nothing.
    if (earliest) join_earliest(earliest, io::steady_now() + options_.heartbeat + Duration(1'000));
    return earliest;
}

// Bounded, so that a flood delays timers and answers by one turn only; what is left wakes the next
// wait.
std::vector<io::RouterSocket::Message> BrokerServer::receive() {
    std::vector<io::RouterSocket::Message> messages;
    std::size_t bytes = 0;
    while (messages.size() < limits::kTurnMessagesMax && bytes < limits::kTurnBytesMax) {
        std::optional<io::RouterSocket::Message> message = router_.receive();
        if (!message) break;
        bytes += message->payload.size();
        messages.push_back(std::move(*message));
    }
    return messages;
}

void BrokerServer::decide(const std::vector<io::RouterSocket::Message>& messages) {
    for (const PeerId peer : std::exchange(gone_, {})) {
        turn_.step(core_, PeerGoneEvent{.peer = peer});
    }
    // Answers of the database belong to older requests.
    database_.run_completions();
    blobs_.run_completions();
    backups_.run_completions();
    for (const io::RouterSocket::Message& message : messages) {
        const Peer& peer = peers_.heard(message.peer, message.user, turn_.now().steady);
        requests_.handle(peer, message.payload);
    }
}

// After the messages: who was heard in this turn has not been silent.
void BrokerServer::tick() {
    const Timestamp now = turn_.now().steady;
    Duration stall = stall_of_turn();
    if (turn_.is_held_still()) {
        if (!still_since_) still_since_ = now;
    } else if (still_since_) {
        stall += now - *std::exchange(still_since_, std::nullopt);
    }
    turn_.step(core_, TickEvent{.stall = stall});
    backups_.tick();
    events_.expire(now);
}

// How long this process did not look at its sockets although it should have: overslept (frozen, no
// processor) or busy in the turn before (a slow disk).
Duration BrokerServer::stall_of_turn() const {
    Duration stall{0};
    if (worked_ > kStallMin) stall += worked_;
    if (planned_) {
        const Duration overslept = woken_at_ - std::max(*planned_, worked_until_);
        if (overslept > kStallMin) stall += overslept;
    }
    if (stall > Duration(0)) {
        io::log(io::LogLevel::warn, "the broker was held up; leases are extended by that",
                {{"ms", std::to_string(stall.count())}});
    }
    return stall;
}

void BrokerServer::commit() {
    std::span<const Record> rest = turn_.records;
    while (!rest.empty()) {
        std::size_t count = 1;
        std::size_t bytes = size_of(rest.front());
        while (count < rest.size() && (bytes + size_of(rest[count]) <= kUnitBytes ||
                                       is_bound(rest[count - 1], rest[count]))) {
            bytes += size_of(rest[count]);
            ++count;
        }
        const Status committed = journal_->commit(rest.first(count));
        // Whether it is on disk is unknown now: only a new start finds out, and nobody may be told
        // anything.
        if (!committed.ok()) end_at_once(kExitIo, "cannot commit: " + committed.error().message);
        rest = rest.subspan(count);
    }
}

void BrokerServer::hand_over() {
    // Nothing more goes to connections of an epoch that is over.
    std::ranges::move(admin_.committed(), std::back_inserter(gone_));
    events_.committed(turn_.records);
    blob_expiry_.committed();
    database_.hand_over(std::move(turn_.records), turn_.now().steady);
}

void BrokerServer::send() {
    for (Outbound& outbound : turn_.outgoing) {
        send_one(outbound);
    }
    for (const PeerId gone : peers_.take_forgotten()) {
        events_.forget(gone);
    }
}

void BrokerServer::send_one(Outbound& outbound) {
    const Peer* peer = peers_.find(outbound.peer);
    if (peer == nullptr) return;
    for (std::string& frame : frames_of(outbound)) {
        const io::SendOutcome outcome =
            outbound.ticket == nullptr
                ? router_.send(peer->routing_id, frame)
                : router_.send(peer->routing_id, std::move(frame), std::move(outbound.ticket));
        if (outcome == io::SendOutcome::sent) continue;
        if (outcome == io::SendOutcome::no_peer) {
            gone_.push_back(outbound.peer);
            return peers_.forget(outbound.peer);
        }
        // It does not read. Requests and assignments are repeated, so what is dropped here is not
        // lost.
        io::log(io::LogLevel::debug, "a peer does not read; dropped a message for it",
                {{"principal", peer->principal}, {"worker", peer->worker.str()}});
        return;
    }
}

void BrokerServer::log_transitions() {
    for (const Transition& transition : turn_.transitions) {
        const std::string_view subject = transition.subject;
        const std::size_t equals = std::min(subject.find('='), subject.size());
        const std::string_view value = subject.substr(std::min(equals + 1, subject.size()));
        io::log(io::LogLevel::info, "transition",
                {{subject.substr(0, equals), std::string(value)},
                 {"from", transition.from},
                 {"to", transition.to},
                 {"why", transition.why}});
    }
}

// ---- Around the turns --------------------------------------------------------------------------

void BrokerServer::ping_watchdog() {
    if (!watchdog_at_ || io::steady_now() < *watchdog_at_) return;
    notify_.send("WATCHDOG=1");
    watchdog_at_ = io::steady_now() + *notify_.watchdog_interval();
}

void BrokerServer::read_signals() {
    while (const std::optional<int> signal = signals_.read()) {
        on_signal(*signal);
    }
}

void BrokerServer::on_signal(int signal) {
    constexpr int kSignalBase = 128;
    if (signal == SIGUSR1) return log_counts();
    if (signal == SIGHUP) {
        const std::optional<std::string> level = log_level_();
        if (level) io::set_log_level(*level);
        io::log(io::LogLevel::info, "configuration read again",
                {{"log_level", level.value_or("unchanged")}});
        return;
    }
    if (ending_) end_at_once(kSignalBase + signal, "a second signal asked for the end");
    ending_ = signal;
}

void BrokerServer::log_counts() const {
    const BrokerCore::Counts counts = core_.counts();
    io::log(io::LogLevel::info, "counts",
            {{"queued", std::to_string(counts.queued)},
             {"assigned", std::to_string(counts.assigned)},
             {"running", std::to_string(counts.running)},
             {"workers", std::to_string(counts.workers)},
             {"peers", std::to_string(peers_.size())},
             {"waiting", std::to_string(events_.waiting())},
             {"blob_bytes", std::to_string(blobs_.bytes())},
             {"prompt_bytes", std::to_string(prompts_.bytes())},
             {"head", std::to_string(core_.head())},
             {"applied", std::to_string(database_.applied())}});
}

bool BrokerServer::has_failed() {
    const std::optional<Error> failure = database_.failure();
    if (!failure) return false;
    exit_code_ = exit_code_of_store(*failure);
    io::log(io::LogLevel::error, "the database failed; the broker ends",
            {{"error", failure->message}});
    return true;
}

// Nothing more is read. What waits is answered, the database is brought up to date, so that the
// next start has nothing to replay.
void BrokerServer::shut_down() {
    const Timestamp deadline = io::steady_now() + kShutDownMax;
    notify_.send("STOPPING=1");
    io::log(io::LogLevel::info, "ending", {{"signal", std::to_string(*ending_)}});
    loop_.remove_socket(router_.native());
    submissions_.shut_down();
    watchdog_at_.reset();

    turn_.begin(io::now());
    events_.shut_down();
    backups_.shut_down();
    commit();
    hand_over();
    send();
    database_.stop();
    while ((!database_.is_stopped() || backups_.is_finishing()) && !has_failed()) {
        if (io::steady_now() >= deadline) {
            end_at_once(kExitOk,
                        "the database did not finish in time; the journal has what is missing");
        }
        const Status waited = loop_.wait(deadline);
        if (!waited.ok()) end_at_once(kExitSoftware, waited.error().message);
        turn({});
    }
    turn({});
    io::log(io::LogLevel::info, "ended", {{"head", std::to_string(core_.head())}});
}

// Past all destructors: they would wait for threads that may hang where this one gave up.
void BrokerServer::end_at_once(int exit_code, const std::string& why) {
    io::log(exit_code == kExitOk ? io::LogLevel::warn : io::LogLevel::error, "ending at once",
            {{"why", why}});
    ::_exit(exit_code);
}

}  // namespace iw::broker
