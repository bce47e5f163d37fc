#include "broker/blob_thread.h"

#include "common/io/logging.h"

namespace iw::broker {

BlobThread::BlobThread(BlobOptions options) : options_(std::move(options)) {
    thread_ = std::thread([this] { run(); });
}

BlobThread::~BlobThread() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    changed_.notify_one();
    thread_.join();
}

void BlobThread::add(Work work) {
    ++waiting_;
    {
        const std::lock_guard lock(mutex_);
        queue_.push_back(std::move(work));
    }
    changed_.notify_one();
}

void BlobThread::run_completions() {
    wakeup_.drain();
    std::vector<Completion> ready;
    {
        const std::lock_guard lock(mutex_);
        ready.swap(completions_);
    }
    for (Completion& completion : ready) {
        --waiting_;
        completion();
    }
}

// ---- On the thread -----------------------------------------------------------------------------

void BlobThread::run() {
    if (const Status ready = open(); !ready.ok())
        io::log(io::LogLevel::error, "no blobs can be held", {{"error", ready.error().message}});
    std::unique_lock lock(mutex_);
    while (true) {
        changed_.wait(lock, [this] { return ending_ || !queue_.empty(); });
        if (ending_) return;
        Work work = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        Completion completion = work();
        // What it holds is given back here, not under the lock.
        work = nullptr;
        publish_counts();
        lock.lock();
        completions_.push_back(std::move(completion));
        wakeup_.raise();
    }
}

Status BlobThread::open() {
    if (store_) return Done{};
    Result<std::unique_ptr<BlobStore>> opened = BlobStore::open(options_);
    if (!opened.ok()) return opened.error();
    store_ = std::move(opened).value();
    publish_counts();
    return Done{};
}

void BlobThread::publish_counts() {
    if (!store_) return;
    bytes_.store(store_->bytes(), std::memory_order_relaxed);
    has_unfinished_.store(store_->has_unfinished(), std::memory_order_relaxed);
}

}  // namespace iw::broker
