#include "broker/database_thread.h"

#include <chrono>
#include <iterator>

#include "broker/turn.h"
#include "common/base/check.h"
#include "common/io/logging.h"
#include "common/io/system_clock.h"

namespace iw::broker {
namespace {

// Beyond either bound submissions are refused until the database has caught up.
constexpr std::size_t kUnappliedBytesMax = 64u << 20;
constexpr Duration kLagMax{10'000};
// Turns that waited together become one transaction of at most about this much.
constexpr std::size_t kTransactionBytes = 8u << 20;
// A sync at the latest after this much, so that segments of the journal can be used again.
constexpr std::size_t kSyncBytes = 64u << 20;
constexpr auto kRestBeforeSync = std::chrono::seconds(5);
constexpr auto kFullRetry = std::chrono::seconds(1);
constexpr Duration kPruneInterval{3'600'000};

}  // namespace

DatabaseThread::DatabaseThread(std::unique_ptr<Database> database, Listeners listeners)
    : database_(std::move(database)), listeners_(std::move(listeners)) {
    applied_.store(database_->applied(), std::memory_order_release);
    thread_ = std::thread([this] { run(); });
}

DatabaseThread::~DatabaseThread() {
    {
        const std::lock_guard lock(mutex_);
        abandoned_ = true;
    }
    changed_.notify_one();
    thread_.join();
}

// ---- The loop's side ---------------------------------------------------------------------------

Error DatabaseThread::disk_full() {
    return make_error(
        ErrorCode::storage_low,
        "the disk of the broker's database is full; make room there, then repeat the request");
}

void DatabaseThread::add_question(Question question) {
    ++questions_waiting_;
    asked_.push_back(Work{.records = {}, .question = std::move(question)});
}

void DatabaseThread::hand_over(std::vector<Record> records, Timestamp now) {
    if (records.empty() && asked_.empty()) return;
    if (!records.empty()) {
        Unapplied unapplied{.last = records.back().seq, .bytes = 0, .handed_over_at = now};
        for (const Record& record : records) {
            unapplied.bytes += size_of(record);
        }
        unapplied_bytes_ += unapplied.bytes;
        unapplied_.push_back(unapplied);
    }
    {
        const std::lock_guard lock(mutex_);
        if (!records.empty()) queue_.push_back(Work{.records = std::move(records), .question = {}});
        std::move(asked_.begin(), asked_.end(), std::back_inserter(queue_));
    }
    asked_.clear();
    changed_.notify_one();
}

void DatabaseThread::run_completions() {
    wakeup_.drain();
    std::vector<Completion> ready;
    {
        const std::lock_guard lock(mutex_);
        ready.swap(completions_);
    }
    for (Completion& completion : ready) {
        completion();
    }
}

bool DatabaseThread::is_behind(Timestamp now) {
    const Seq reached = applied();
    while (!unapplied_.empty() && unapplied_.front().last <= reached) {
        unapplied_bytes_ -= unapplied_.front().bytes;
        unapplied_.pop_front();
    }
    if (unapplied_.empty()) return false;
    return unapplied_bytes_ > kUnappliedBytesMax ||
           now - unapplied_.front().handed_over_at > kLagMax;
}

void DatabaseThread::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_one();
}

std::optional<Error> DatabaseThread::failure() {
    const std::lock_guard lock(mutex_);
    return failure_;
}

// ---- The thread's side -------------------------------------------------------------------------

void DatabaseThread::run() {
    while (take_work()) {
        if (!do_work()) return;
    }
    {
        const std::lock_guard lock(mutex_);
        if (abandoned_) return;
    }
    if (unsynced_bytes_ > 0 && !sync()) return;
    stopped_.store(true, std::memory_order_release);
    wakeup_.raise();
}

// Waits for work and takes all there is; false when the thread must end.
bool DatabaseThread::take_work() {
    std::unique_lock lock(mutex_);
    while (true) {
        if (abandoned_) return false;
        if (!queue_.empty()) break;
        if (stopping_) return false;
        if (unsynced_bytes_ == 0) {
            changed_.wait(lock);
            continue;
        }
        if (changed_.wait_for(lock, kRestBeforeSync) == std::cv_status::no_timeout) continue;
        lock.unlock();
        rest();
        lock.lock();
        if (failure_) return false;
    }
    std::move(queue_.begin(), queue_.end(), std::back_inserter(work_));
    queue_.clear();
    return true;
}

bool DatabaseThread::do_work() {
    while (!work_.empty()) {
        if (work_.front().question) {
            answer(work_.front().question, database_.get());
            work_.pop_front();
            continue;
        }
        if (!apply_front()) return false;
        if (unsynced_bytes_ >= kSyncBytes && !sync()) return false;
    }
    // A busy fleet leaves no rest to do it in, so it goes on in steps between the work.
    if (is_prune_due()) static_cast<void>(prune());
    return true;
}

// Applies the batches at the front that no question separates.
bool DatabaseThread::apply_front() {
    std::vector<Record> records = std::move(work_.front().records);
    work_.pop_front();
    std::size_t bytes = 0;
    for (const Record& record : records) {
        bytes += size_of(record);
    }
    while (!work_.empty() && !work_.front().question && bytes < kTransactionBytes) {
        for (Record& record : work_.front().records) {
            bytes += size_of(record);
            records.push_back(std::move(record));
        }
        work_.pop_front();
    }
    if (!apply(std::move(records))) return false;
    unsynced_bytes_ += bytes;
    return true;
}

// A full disk is waited for: the journal holds the records, and meanwhile it goes on taking
// results.
bool DatabaseThread::apply(std::vector<Record> records) {
    const Seq last = records.back().seq;
    bool told = false;
    while (true) {
        const Status applied = database_->apply(records);
        if (applied.ok()) break;
        if (applied.error().code != ErrorCode::storage_low) {
            fail(applied.error());
            return false;
        }
        if (!told)
            io::log(io::LogLevel::error, "database full", {{"error", applied.error().message}});
        told = true;
        if (!wait_for_space()) return false;
    }
    if (told) io::log(io::LogLevel::warn, "database has room again");
    applied_.store(last, std::memory_order_release);
    return true;
}

void DatabaseThread::answer(const Question& question, Database* database) {
    complete([this, done = question(database)] {
        --questions_waiting_;
        done();
    });
}

void DatabaseThread::refuse_questions() {
    {
        const std::lock_guard lock(mutex_);
        std::move(queue_.begin(), queue_.end(), std::back_inserter(work_));
        queue_.clear();
    }
    for (const Work& work : work_) {
        if (work.question) answer(work.question, nullptr);
    }
    std::erase_if(work_, [](const Work& work) { return static_cast<bool>(work.question); });
}

// False when the broker ends: the records stay in the journal.
bool DatabaseThread::wait_for_space() {
    refuse_questions();
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kFullRetry, [this] { return stopping_ || abandoned_; });
    if (!stopping_ && !abandoned_) return true;
    stopped_.store(true, std::memory_order_release);
    wakeup_.raise();
    return false;
}

// Nothing has come for a while: make room and make safe, then sleep without a wake-up until work
// comes.
void DatabaseThread::rest() {
    while (is_prune_due() && !is_wanted() && prune()) {
    }
    if (is_wanted()) return;
    static_cast<void>(sync());
}

bool DatabaseThread::is_prune_due() {
    return !pruned_at_ || io::steady_now() - *pruned_at_ >= kPruneInterval;
}

bool DatabaseThread::prune() {
    const Result<bool> more = database_->prune(io::wall_now());
    if (!more.ok()) {
        io::log(io::LogLevel::warn, "cannot drop what is past its retention",
                {{"error", more.error().message}});
    }
    if (more.ok() && *more) return true;
    pruned_at_ = io::steady_now();
    complete([this] { listeners_.pruned(); });
    return false;
}

bool DatabaseThread::is_wanted() {
    const std::lock_guard lock(mutex_);
    return !queue_.empty() || stopping_ || abandoned_;
}

bool DatabaseThread::sync() {
    const Result<Seq> synced = database_->sync();
    unsynced_bytes_ = 0;
    if (synced.ok()) {
        complete([this, seq = *synced] { listeners_.synced(seq); });
        return true;
    }
    if (synced.error().code != ErrorCode::storage_low) {
        fail(synced.error());
        return false;
    }
    // Segments stay until a later sync succeeds, which the next activity brings.
    io::log(io::LogLevel::warn, "cannot sync the database", {{"error", synced.error().message}});
    return true;
}

void DatabaseThread::fail(const Error& error) {
    {
        const std::lock_guard lock(mutex_);
        failure_ = error;
    }
    wakeup_.raise();
}

void DatabaseThread::complete(Completion completion) {
    {
        const std::lock_guard lock(mutex_);
        completions_.push_back(std::move(completion));
    }
    wakeup_.raise();
}

}  // namespace iw::broker
