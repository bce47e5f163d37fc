#include "worker/identity.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/io/config_file.h"

namespace iw::worker {
namespace {

constexpr std::size_t kFileMax = 64u << 10;
constexpr std::size_t kStateIdBytes = 16;

struct Saved {
    std::string state_id;
    std::uint64_t start_count = 0;
};

// A file that is missing is a new worker; one that cannot be read is not overwritten.
Result<Saved> read_saved(const std::string& path) {
    const Result<std::string> text = io::read_file(path, kFileMax);
    if (!text && text.error().code == ErrorCode::not_found) {
        return Saved{.state_id = io::random_hex(kStateIdBytes), .start_count = 0};
    }
    if (!text) return text.error();
    const auto json = nlohmann::json::parse(*text, nullptr, false);
    if (json.is_object() && json.contains("state_id") && json["state_id"].is_string() &&
        json.contains("start_count") && json["start_count"].is_number_unsigned()) {
        return Saved{.state_id = json["state_id"].get<std::string>(),
                     .start_count = json["start_count"].get<std::uint64_t>()};
    }
    return make_error(ErrorCode::io,
                      path + " is not what a worker writes; restore it, or use a new state folder");
}

// What cannot be read says nothing: it is evidence against a broker, which works without, too.
std::optional<SeenHead> read_seen(const std::string& path) {
    const Result<std::string> text = io::read_file(path, kFileMax);
    if (!text) return std::nullopt;
    const auto json = nlohmann::json::parse(*text, nullptr, false);
    if (!json.is_object() || !json.contains("epoch") || !json["epoch"].is_string() ||
        !json.contains("seq") || !json["seq"].is_number_unsigned()) {
        return std::nullopt;
    }
    return SeenHead{.epoch = json["epoch"].get<std::string>(), .seq = json["seq"].get<Seq>()};
}

std::string seen_file(const std::string& state_dir) {
    return state_dir + "/seen.json";
}

Status save(const std::string& path, const Saved& saved) {
    const nlohmann::json json = {{"state_id", saved.state_id}, {"start_count", saved.start_count}};
    return io::write_file(path, json.dump() + "\n", 0600, io::Sync::file_and_folder);
}

std::variant<io::FileLock, Refusal> lock(const std::string& path, const std::string& what) {
    Result<io::FileLock> held = io::FileLock::acquire(path);
    if (held) return std::move(*held);
    const bool busy = held.error().code == ErrorCode::conflict;
    return Refusal{busy ? kExitBusy : kExitCannotCreate,
                   busy ? "another worker serves " + what + ": " + held.error().message
                        : held.error().message};
}

// The folder's own descriptor: workers with other state folders, of other users or inside
// containers meet here. A file system that knows no such lock is no reason to refuse.
std::variant<io::UniqueFd, Refusal> lock_root(const std::string& root) {
    io::UniqueFd folder(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder.valid()) {
        return Refusal{kExitPermission, io::system_error("cannot open", root).message};
    }
    if (::flock(folder.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        return Refusal{kExitBusy, "another worker serves root " + root +
                                      " with another state folder; stop it first"};
    }
    return folder;
}

}  // namespace

Status save_seen(const std::string& state_dir, const SeenHead& seen) {
    const nlohmann::json json = {{"epoch", seen.epoch}, {"seq", seen.seq}};
    return io::write_file(seen_file(state_dir), json.dump() + "\n", 0600,
                          io::Sync::file_and_folder);
}

std::variant<Identity, Refusal> take_identity(const WorkerOptions& options) {
    if (::access(options.root.c_str(), W_OK | X_OK) != 0) {
        return Refusal{kExitPermission,
                       "the project root " + options.root +
                           " is not writable; workspaces stand in it, so give this user the right"};
    }
    if (const Status made = io::make_durable_folders(options.state_dir, 0700); !made) {
        return Refusal{kExitCannotCreate, made.error().message + "; choose another --state-dir"};
    }
    std::variant<io::FileLock, Refusal> state =
        lock(options.state_dir + "/lock", "state folder " + options.state_dir);
    if (auto* refusal = std::get_if<Refusal>(&state)) return std::move(*refusal);

    // One worker per root on a host, wherever their state folders are.
    const std::string root_file = io::root_lock_file(options.root);
    if (const Status made = io::make_folders(io::parent_folder(root_file), 0700); !made) {
        return Refusal{kExitCannotCreate, made.error().message};
    }
    std::variant<io::FileLock, Refusal> root = lock(root_file, "root " + options.root);
    if (auto* refusal = std::get_if<Refusal>(&root)) return std::move(*refusal);
    std::variant<io::UniqueFd, Refusal> folder = lock_root(options.root);
    if (auto* refusal = std::get_if<Refusal>(&folder)) return std::move(*refusal);

    const std::string file = options.state_dir + "/worker.json";
    Result<Saved> saved = read_saved(file);
    if (!saved) return Refusal{kExitIo, saved.error().message};
    ++saved->start_count;
    if (const Status written = save(file, *saved); !written)
        return Refusal{kExitIo, written.error().message};
    return Identity{.state_id = saved->state_id,
                    .start_count = saved->start_count,
                    .boot_id = io::boot_id(),
                    .seen = read_seen(seen_file(options.state_dir)),
                    .state_lock = std::move(*std::get_if<io::FileLock>(&state)),
                    .root_lock = std::move(*std::get_if<io::FileLock>(&root)),
                    .root_folder = std::move(*std::get_if<io::UniqueFd>(&folder))};
}

}  // namespace iw::worker
