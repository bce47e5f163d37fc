#pragma once

// Owns the blobs on a thread of its own, so that neither the loop nor the database waits for their
// disk. Work is done in the order in which it is asked for, a bounded piece at a time. All public
// functions belong to the loop's thread.

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "broker/blobs/blob_store.h"
#include "common/base/result.h"
#include "common/io/event_loop.h"

namespace iw::broker {

class BlobThread {
    using Completion = std::function<void()>;

  public:
    // The thread starts at once and first looks at all that is held, which may take seconds; where
    // that fails it tries again before each piece of work, which is answered with the error.
    explicit BlobThread(BlobOptions options);
    // Ends after the piece of work under way; the rest is not done.
    ~BlobThread();
    BlobThread(const BlobThread&) = delete;
    BlobThread& operator=(const BlobThread&) = delete;

    // `work` runs on the thread; `done` gets what it returned on the loop's, in run_completions.
    template <typename T>
    void ask(std::function<Result<T>(BlobStore&)> work, std::function<void(Result<T>)> done) {
        // Asked once, so what its end needs moves on instead of being copied.
        add([this, work = std::move(work), done = std::move(done)]() mutable -> Completion {
            const Status ready = open();
            Result<T> answer = ready.ok() ? work(*store_) : Result<T>(ready.error());
            return [done = std::move(done), answer = std::move(answer)]() mutable {
                done(std::move(answer));
            };
        });
    }

    // Readable when completions wait.
    int fd() const { return wakeup_.fd(); }
    void run_completions();

    // So much waits that no more should be asked.
    bool is_crowded() const { return waiting_ >= kWaitingMax; }
    // Whether something may be held of a blob that is not whole.
    bool has_unfinished() const { return waiting_ > 0 || has_unfinished_; }
    // What is held, as of the last piece of work.
    std::uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }
    std::uint64_t bytes_max() const { return options_.bytes_max; }

  private:
    static constexpr std::size_t kWaitingMax = 10'000;
    using Work = std::function<Completion()>;

    void add(Work work);
    // On the thread:
    void run();
    Status open();
    void publish_counts();

    const BlobOptions options_;
    io::Wakeup wakeup_;
    std::size_t waiting_ = 0;           // the loop's
    std::unique_ptr<BlobStore> store_;  // the thread's
    std::atomic<std::uint64_t> bytes_{0};
    std::atomic<bool> has_unfinished_{false};

    // Guards the members below: the two threads meet only there.
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Work> queue_;
    std::vector<Completion> completions_;
    bool ending_ = false;

    std::thread thread_;  // last: it uses all of the above
};

}  // namespace iw::broker
