#pragma once

// Backups while the broker serves: on demand and nightly, one at a time. The database's thread
// copies piece by piece between its other work, a thread of its own checks and publishes; the loop
// only passes them on.

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "broker/backup.h"
#include "broker/database_thread.h"
#include "broker/nightly.h"
#include "broker/turn.h"
#include "common/base/time.h"
#include "common/io/event_loop.h"
#include "common/messages/messages.h"

namespace iw::broker {

class Backups {
  public:
    struct Options {
        std::optional<int> at;      // of the nightly one, in minutes after local midnight
        std::size_t keep = 0;       // so many in `folder`
        std::string folder;         // the broker's own
        std::uint64_t reserve = 0;  // bytes to stay free
        std::string journal;        // its id
        std::string blobs;          // folder of the store's blobs
    };
    // Database and turn outlive it. `store_is_new`: it holds nothing that a backup could have
    // missed.
    Backups(DatabaseThread& database, Turn& turn, Options options, bool store_is_new);
    // Waits for a copy that is being checked.
    ~Backups();
    Backups(const Backups&) = delete;
    Backups& operator=(const Backups&) = delete;

    // Answered when the backup is whole, or has failed. Who asks again under the same request id
    // gets that answer again.
    void request(const Requester& who, const BackupRequest& request);
    // Begins the nightly one when it is due.
    void tick();
    std::optional<Timestamp> next_deadline(Now now) const;
    void describe(FleetReply& fleet) const;

    // Readable when a copy has been checked; then run_completions answers.
    int fd() const { return wakeup_.fd(); }
    void run_completions();
    // What is being copied is given up.
    void shut_down();
    bool is_finishing() const { return finisher_.joinable(); }

  private:
    void begin(const std::string& folder);
    void copy(std::shared_ptr<Backup> backup);
    void finish(std::shared_ptr<Backup> backup);
    void end(Result<BackupInfo> outcome);
    Answer answer_of(const Result<BackupInfo>& outcome) const;

    DatabaseThread& database_;
    Turn& turn_;
    Options options_;
    Nightly nightly_;
    std::optional<std::string> into_;  // the folder of the one being made
    std::vector<Requester> askers_;    // of the one being made
    std::vector<Requester> answered_;  // of the last one
    std::optional<Answer> last_answer_;
    std::optional<BackupInfo> newest_;
    std::string error_;  // of the last one
    bool shutting_down_ = false;

    io::Wakeup wakeup_;
    std::thread finisher_;
    std::mutex mutex_;  // guards the outcome: the finisher writes it, the loop takes it
    std::optional<Result<BackupInfo>> outcome_;
};

}  // namespace iw::broker
