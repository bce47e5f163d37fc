#include "broker/backups.h"

#include <algorithm>
#include <utility>

#include "broker/session_lookup.h"
#include "common/io/logging.h"
#include "common/io/system_clock.h"

namespace iw::broker {
namespace {

constexpr Duration kBusyRetry{2'000};

bool is_same(const Requester& one, const Requester& other) {
    return one.principal == other.principal && one.to.request == other.to.request;
}

std::optional<WallTime> time_of(const std::optional<BackupInfo>& backup) {
    return backup ? std::optional(backup->at) : std::nullopt;
}

}  // namespace

Backups::Backups(DatabaseThread& database, Turn& turn, Options options, bool store_is_new)
    : database_(database),
      turn_(turn),
      options_(std::move(options)),
      nightly_(options_.at, std::nullopt, io::now()),
      newest_(newest_backup(options_.folder)) {
    const Now now = io::now();
    std::optional<WallTime> last = time_of(newest_);
    if (!last && store_is_new) last = now.wall;
    nightly_ = Nightly(options_.at, last, now);
}

Backups::~Backups() {
    if (finisher_.joinable()) finisher_.join();
}

// ---- Asking ------------------------------------------------------------------------------------

void Backups::request(const Requester& who, const BackupRequest& request) {
    const auto repeats = [&who](const Requester& other) { return is_same(who, other); };
    if (last_answer_ && std::ranges::any_of(answered_, repeats))
        return turn_.reply(who.to, *last_answer_);
    const std::string folder = request.folder.empty() ? options_.folder : request.folder;
    if (into_ && *into_ != folder) {
        return turn_.reply(who.to, refuse(ErrorCode::rate_limited,
                                          "another backup is being made in " + *into_ +
                                              "; repeat this when it is done",
                                          kBusyRetry));
    }
    // Nobody listens at the connection of an earlier try any more.
    std::erase_if(askers_, repeats);
    askers_.push_back(who);
    if (!into_) begin(folder);
}

void Backups::tick() {
    if (into_ || shutting_down_ || turn_.is_held_still() || !nightly_.is_due(turn_.now())) return;
    begin(options_.folder);
}

std::optional<Timestamp> Backups::next_deadline(Now now) const {
    if (into_ || shutting_down_) return std::nullopt;
    return nightly_.next_look(now);
}

void Backups::describe(FleetReply& fleet) const {
    fleet.backup_at = time_of(newest_);
    if (newest_) fleet.backup_folder = newest_->folder;
    fleet.backup_error = error_;
}

// ---- Making one --------------------------------------------------------------------------------

void Backups::begin(const std::string& folder) {
    into_ = folder;
    if (folder == options_.folder) nightly_.began(turn_.now());
    BackupPlan plan{.folder = folder,
                    .keep = folder == options_.folder ? options_.keep : 0,
                    .reserve = options_.reserve,
                    .journal = options_.journal,
                    .blobs = options_.blobs,
                    .at = turn_.now().wall};
    io::log(io::LogLevel::info, "backup begins", {{"folder", folder}});
    database_.ask<std::shared_ptr<Backup>>(
        [plan](Database& database) -> Result<std::shared_ptr<Backup>> {
            Result<std::unique_ptr<Backup>> begun = Backup::begin(database, plan);
            if (!begun.ok()) return begun.error();
            return std::shared_ptr<Backup>(std::move(begun).value());
        },
        [this](Result<std::shared_ptr<Backup>> begun) {
            if (!begun.ok()) return end(begun.error());
            copy(std::move(begun).value());
        });
}

// Each piece is a question of its own, so that others get their answers between them.
void Backups::copy(std::shared_ptr<Backup> backup) {
    if (shutting_down_)
        return end(make_error(ErrorCode::shutting_down, "the broker ended during the backup"));
    database_.ask<bool>([backup](Database& database) { return backup->copy(database); },
                        [this, backup](const Result<bool>& more) {
                            if (!more.ok()) return end(more.error());
                            if (*more) return copy(backup);
                            finish(backup);
                        });
}

void Backups::finish(std::shared_ptr<Backup> backup) {
    finisher_ = std::thread([this, backup = std::move(backup)]() mutable {
        Result<BackupInfo> outcome = backup->finish();
        backup.reset();
        {
            const std::lock_guard lock(mutex_);
            outcome_ = std::move(outcome);
        }
        wakeup_.raise();
    });
}

void Backups::run_completions() {
    wakeup_.drain();
    std::optional<Result<BackupInfo>> outcome;
    {
        const std::lock_guard lock(mutex_);
        outcome.swap(outcome_);
    }
    if (!outcome) return;
    finisher_.join();
    end(std::move(*outcome));
}

void Backups::shut_down() {
    shutting_down_ = true;
}

Answer Backups::answer_of(const Result<BackupInfo>& outcome) const {
    if (outcome.ok()) {
        return Reply(
            BackupReply{.folder = outcome->folder, .seq = outcome->seq, .bytes = outcome->bytes});
    }
    // Unlike the store's own files, the folder of a backup is the asker's to put right.
    const ErrorCode code = outcome.error().code;
    const bool is_named = code == ErrorCode::storage_low || code == ErrorCode::shutting_down;
    return refuse(is_named ? code : ErrorCode::conflict,
                  "no backup was made: " + outcome.error().message);
}

void Backups::end(Result<BackupInfo> outcome) {
    if (outcome.ok()) {
        error_ = outcome->missing;
        newest_ = *outcome;
        io::log(io::LogLevel::info, "backup made",
                {{"folder", outcome->folder},
                 {"seq", std::to_string(outcome->seq)},
                 {"bytes", std::to_string(outcome->bytes)}});
        if (!error_.empty())
            io::log(io::LogLevel::error, "backup is not whole", {{"missing", error_}});
    } else {
        error_ = outcome.error().message;
        nightly_.failed(turn_.now());
        io::log(io::LogLevel::error, "backup failed", {{"error", error_}});
    }
    last_answer_ = answer_of(outcome);
    answered_ = std::exchange(askers_, {});
    into_.reset();
    for (const Requester& who : answered_) {
        turn_.reply(who.to, *last_answer_);
    }
}

}  // namespace iw::broker
