#include "broker/recovery.h"

#include <sys/stat.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "broker/restore.h"
#include "broker/turn.h"
#include "common/io/system_clock.h"

namespace iw::broker {
namespace {

constexpr mode_t kPrivate = 0700;
constexpr mode_t kOthers = 0077;
// One transaction of the replay.
constexpr std::size_t kReplayBytes = 4u << 20;

std::optional<Refusal> make_private(const std::string& folder, const std::string& what) {
    const Status made = io::make_durable_folders(folder, kPrivate);
    if (made.ok()) return std::nullopt;
    return Refusal{.exit_code = kExitCannotCreate, .message = what + ": " + made.error().message};
}

// Whoever can enter the folder can connect and be mistaken for us, or put a socket of his own
// there.
std::optional<Refusal> check_private(const std::string& folder) {
    struct stat about {};
    if (::stat(folder.c_str(), &about) != 0) {
        return Refusal{.exit_code = kExitCannotCreate,
                       .message = io::system_error("cannot look at", folder).message};
    }
    if (about.st_uid != ::geteuid()) {
        return Refusal{
            .exit_code = kExitPermission,
            .message = "the socket's folder " + folder +
                       " belongs to another user; set broker.endpoint to a folder of your own"};
    }
    if ((about.st_mode & kOthers) == 0) return std::nullopt;
    return Refusal{.exit_code = kExitPermission,
                   .message = "others can enter the socket's folder " + folder +
                              "; run `chmod 700 " + folder +
                              "` or set broker.endpoint to a private folder"};
}

std::variant<io::FileLock, Refusal> take_lock(const std::string& path, const std::string& held) {
    Result<io::FileLock> lock = io::FileLock::acquire(path);
    if (lock.ok()) return std::move(lock).value();
    if (lock.error().code != ErrorCode::conflict) {
        return Refusal{.exit_code = kExitIo, .message = lock.error().message};
    }
    return Refusal{.exit_code = kExitBusy,
                   .message = "another broker uses " + held + " (" + lock.error().message +
                              "); stop that one or choose another"};
}

Refusal store_refusal(const Error& error) {
    return Refusal{.exit_code = exit_code_of_store(error), .message = error.message};
}

// Brings core and database up to the head of the journal, a transaction at a time.
Result<std::size_t> replay(Journal& journal, Database& database, BrokerCore& core) {
    std::vector<Record> chunk;
    std::size_t bytes = 0;
    std::size_t replayed = 0;
    const auto flush = [&]() -> Status {
        if (chunk.empty()) return Done{};
        Status applied = database.apply(chunk);
        replayed += chunk.size();
        chunk.clear();
        bytes = 0;
        return applied;
    };
    const Status read = journal.read(database.applied(), [&](const Record& record) -> Status {
        core.apply(record);
        bytes += size_of(record);
        chunk.push_back(record);
        return bytes >= kReplayBytes ? flush() : Status(Done{});
    });
    if (!read.ok()) return read.error();
    const Status last = flush();
    if (!last.ok()) return last.error();
    return replayed;
}

std::variant<Recovered, Refusal> restore(const BrokerOptions& options,
                                         std::unique_ptr<Journal> journal,
                                         std::unique_ptr<Database> database) {
    if (database->applied() > journal->head()) {
        return Refusal{
            .exit_code = kExitData,
            .message = "the journal in " + options.data_dir + " ends at " +
                       std::to_string(journal->head()) + " but the database has seen " +
                       std::to_string(database->applied()) +
                       ": acknowledged work is missing; restore the folder from a backup"};
    }
    const CoreConfig leases{.heartbeat = options.heartbeat,
                            .unreachable_after = options.unreachable,
                            .lost_after = options.lost,
                            .owner_patience = options.unreachable};
    BrokerCore core(leases, database->generation());
    const Result<LiveState> frame = database->load_frame();
    if (!frame.ok()) return store_refusal(frame.error());
    core.restore(*frame);
    const Status sessions =
        database->each_live([&core](LiveSession&& session) { core.restore(session); });
    if (!sessions.ok()) return store_refusal(sessions.error());
    const Result<std::size_t> replayed = replay(*journal, *database, core);
    if (!replayed.ok()) return store_refusal(replayed.error());
    core.started(io::now());
    KeyFilter keys;
    const Status all_keys =
        database->each_key([&keys](std::uint64_t digest) { keys.insert(digest); });
    if (!all_keys.ok()) return store_refusal(all_keys.error());
    Result<ReadOnly> read_only = ReadOnly::load(options.data_dir, core.fleet(io::now()).epoch);
    if (!read_only.ok()) return store_refusal(read_only.error());
    return Recovered{.journal = std::move(journal),
                     .database = std::move(database),
                     .core = std::move(core),
                     .keys = std::move(keys),
                     .leases = leases,
                     .read_only = std::move(read_only).value(),
                     .replayed = *replayed};
}

}  // namespace

std::variant<Locks, Refusal> take_locks(const BrokerOptions& options) {
    const std::string socket = socket_path(options.endpoint);
    const std::string socket_folder = io::parent_folder(socket);
    if (auto refusal = make_private(options.data_dir, "broker.data_dir"))
        return std::move(*refusal);
    if (auto refusal = make_private(socket_folder, "broker.endpoint")) return std::move(*refusal);
    if (auto refusal = check_private(socket_folder)) return std::move(*refusal);

    auto data = take_lock(options.data_dir + "/lock", "the data directory " + options.data_dir);
    if (auto* refusal = std::get_if<Refusal>(&data)) return std::move(*refusal);
    auto endpoint = take_lock(socket + ".lock", "the endpoint " + options.endpoint);
    if (auto* refusal = std::get_if<Refusal>(&endpoint)) return std::move(*refusal);
    return Locks{.data = std::move(*std::get_if<io::FileLock>(&data)),
                 .endpoint = std::move(*std::get_if<io::FileLock>(&endpoint))};
}

std::variant<Recovered, Refusal> recover(const BrokerOptions& options) {
    const Status whole = check_no_restore_pending(options.data_dir);
    if (!whole.ok()) return Refusal{.exit_code = kExitData, .message = whole.error().message};
    JournalOptions journal_options;
    journal_options.folder = options.data_dir + "/journal";
    journal_options.segment_bytes = options.segment_bytes;
    Result<std::unique_ptr<Journal>> journal = open_journal(std::move(journal_options));
    if (!journal.ok()) return store_refusal(journal.error());
    DatabaseOptions database_options;
    database_options.file = options.data_dir + "/broker.db";
    Result<std::unique_ptr<Database>> database = Database::open(std::move(database_options));
    if (!database.ok()) return store_refusal(database.error());
    return restore(options, std::move(journal).value(), std::move(database).value());
}

}  // namespace iw::broker
