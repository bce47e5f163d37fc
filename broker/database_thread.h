#pragma once

// Owns the database on a thread of its own: brings it up to date behind the journal and answers
// questions, so that neither delays the loop. Work is done in the order in which it is handed over,
// so a question sees everything that was committed before it. All public functions belong to the
// loop's thread.

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "broker/core/record.h"
#include "broker/database/database.h"
#include "common/base/result.h"
#include "common/base/time.h"
#include "common/io/event_loop.h"

namespace iw::broker {

class DatabaseThread {
    using Completion = std::function<void()>;

  public:
    // Called on the loop's thread, in run_completions.
    struct Listeners {
        std::function<void(Seq)> synced;  // up to where the database is safe on disk
        std::function<void()> pruned;     // what was past its retention has been dropped
    };
    // Takes the open database; the thread starts at once.
    DatabaseThread(std::unique_ptr<Database> database, Listeners listeners);
    // Ends after the work under way, without a sync: what is missing is in the journal.
    ~DatabaseThread();
    DatabaseThread(const DatabaseThread&) = delete;
    DatabaseThread& operator=(const DatabaseThread&) = delete;

    // `question` runs on the thread behind everything handed over before; `done` gets its answer on
    // the loop's thread. While the disk is full the answer is STORAGE_LOW. Leaves with the next
    // hand_over.
    template <typename T>
    void ask(std::function<Result<T>(Database&)> question, std::function<void(Result<T>)> done) {
        // A question is asked once, so what its end needs moves on instead of being copied.
        add_question([question = std::move(question),
                      done = std::move(done)](Database* database) mutable -> Completion {
            Result<T> answer = database != nullptr ? question(*database) : Result<T>(disk_full());
            return [done = std::move(done), answer = std::move(answer)]() mutable {
                done(std::move(answer));
            };
        });
    }
    // Hands over a turn's committed records (maybe none), then the questions asked since the last
    // call.
    void hand_over(std::vector<Record> records, Timestamp now);

    // Readable when completions wait.
    int fd() const { return wakeup_.fd(); }
    void run_completions();

    // The database is further behind the journal than it should be.
    bool is_behind(Timestamp now);
    // So many questions wait that no more should be asked.
    bool is_crowded() const { return questions_waiting_ >= kQuestionsMax; }
    Seq applied() const { return applied_.load(std::memory_order_acquire); }

    // Finishes what was handed over, syncs and ends. Raises fd() then.
    void stop();
    bool is_stopped() const { return stopped_.load(std::memory_order_acquire); }
    // Why the thread had to end; set before a completion is raised for it.
    std::optional<Error> failure();

  private:
    static constexpr std::size_t kQuestionsMax = 20'000;

    // Null: the database cannot answer now.
    using Question = std::function<Completion(Database*)>;
    struct Work {
        std::vector<Record> records;  // or
        Question question;
    };
    struct Unapplied {
        Seq last = 0;
        std::size_t bytes = 0;
        Timestamp handed_over_at;
    };

    static Error disk_full();
    void add_question(Question question);

    // On the thread:
    void run();
    bool take_work();
    bool do_work();
    bool apply_front();
    bool apply(std::vector<Record> records);
    void answer(const Question& question, Database* database);
    void refuse_questions();
    bool wait_for_space();
    void rest();
    bool sync();
    bool is_prune_due();
    // One bounded batch; true when there may be more.
    bool prune();
    bool is_wanted();
    void fail(const Error& error);
    void complete(Completion completion);

    std::unique_ptr<Database> database_;
    Listeners listeners_;
    io::Wakeup wakeup_;

    // The loop's.
    std::vector<Work> asked_;
    std::deque<Unapplied> unapplied_;
    std::size_t unapplied_bytes_ = 0;
    std::size_t questions_waiting_ = 0;

    // The thread's.
    std::deque<Work> work_;
    std::size_t unsynced_bytes_ = 0;
    std::optional<Timestamp> pruned_at_;  // when a prune was last whole

    std::atomic<Seq> applied_{0};
    std::atomic<bool> stopped_{false};

    // Guards the members below: the two threads meet only there.
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Work> queue_;
    std::vector<Completion> completions_;
    std::optional<Error> failure_;
    bool stopping_ = false;
    bool abandoned_ = false;  // end without finishing

    std::thread thread_;  // last: it uses all of the above
};

}  // namespace iw::broker
