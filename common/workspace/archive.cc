#include "common/workspace/archive.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <tuple>
#include <utility>

#include "common/base/text.h"
#include "common/io/disk_usage.h"
#include "common/io/files.h"

namespace iw::workspace {
namespace {

constexpr std::string_view kSuffix = ".tar.gz";
// Our own names in the archive: hidden, so that no session's folder is ever called like that.
constexpr std::string_view kLock = ".lock";
constexpr std::string_view kRemoved = ".compressed-";
constexpr std::size_t kWordsMax = 4096;  // of what tar says
constexpr int kCompressTimeoutMs = 3'600'000;
constexpr int kReadTimeoutMs = 60'000;

std::string compressed_path(const ProjectPaths& project, const SessionId& id) {
    return project.archived(id) + std::string(kSuffix);
}

std::string member_of(const SessionId& id) {
    return std::string(kArchiveFolder) + "/" + id.str();
}

WallTime modified(const struct stat& info) {
    constexpr std::int64_t kNsPerMs = 1'000'000;
    return wall_from_ms(static_cast<std::int64_t>(info.st_mtim.tv_sec) * 1000 +
                        info.st_mtim.tv_nsec / kNsPerMs);
}

// Settings of the user's environment for tar and gzip must not change what we get.
std::vector<std::string> plain_environment() {
    const char* path = std::getenv("PATH");
    return {"PATH=" + std::string(path != nullptr ? path : "/usr/bin:/bin"), "LC_ALL=C"};
}

Error tar_error(const std::string& what, const io::CommandResult& ran) {
    const std::string_view words = trim(ran.errors.empty() ? ran.output : ran.errors);
    return make_error(ErrorCode::io, what + ": tar ended with code " +
                                         std::to_string(ran.exit_code) +
                                         (words.empty() ? "" : ": " + printable(words, true)));
}

// A folder as it is now: what tar has to hold, and a text that changes with any of it.
struct Listing {
    std::string members;   // with a zero byte behind each
    std::string versions;  // inode, size and times of change of all but the top folder
};

void add_entry(Listing& listing, const std::string& member, const struct stat& info) {
    listing.members += member + '\0';
    listing.versions += member + '\0' + std::to_string(info.st_ino) + ' ' +
                        std::to_string(info.st_size) + ' ' + std::to_string(info.st_ctim.tv_sec) +
                        '.' + std::to_string(info.st_ctim.tv_nsec) + '\n';
}

// `folder` holds what is named `member` in the compressed file.
Result<Listing> list_tree(const std::string& folder, const std::string& member) {
    namespace fs = std::filesystem;
    Listing listing{.members = member + '\0', .versions = ""};
    std::error_code error;
    fs::recursive_directory_iterator entry(folder, error);
    while (!error && entry != fs::recursive_directory_iterator()) {
        const std::string path = entry->path().string();
        struct stat info {};
        if (::lstat(path.c_str(), &info) != 0) return io::system_error("cannot examine", path);
        // Nobody listens at a socket of a session that is over, and tar has no form for it.
        if (!S_ISSOCK(info.st_mode)) add_entry(listing, member + path.substr(folder.size()), info);
        entry.increment(error);
    }
    if (!error) return listing;
    return make_error(ErrorCode::io, "cannot read " + folder + ": " + error.message());
}

// Whether the compressed file holds each member as it stands in the project.
Status compare(const ProjectPaths& project, const std::string& file, const std::string& members) {
    const io::CommandResult ran =
        io::run_command({"tar", "--directory", project.root, "--compare", "--gzip", "--file", file,
                         "--null", "--no-recursion", "--files-from=-"},
                        plain_environment(), members, kWordsMax, kCompressTimeoutMs);
    if (ran.exit_code == 0) return Done{};
    return tar_error(file + " does not hold all of the folder", ran);
}

Status make_compressed(const ProjectPaths& project, const std::string& member,
                       const std::string& file) {
    const io::CommandResult ran =
        io::run_command({"tar", "--directory", project.root, "--create", "--gzip", "--file", file,
                         "--warning=no-file-ignored", "--", member},
                        plain_environment(), "", kWordsMax, kCompressTimeoutMs);
    if (ran.exit_code != 0) return tar_error("cannot compress " + member, ran);
    const io::UniqueFd made(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!made.valid() || ::fsync(made.get()) != 0) return io::system_error("cannot sync", file);
    return Done{};
}

// Compressed, compared and with its name on disk; nothing is left behind otherwise.
Status publish(const ProjectPaths& project, const SessionId& id, const Listing& listing) {
    const std::string target = compressed_path(project, id);
    const std::string temporary =
        project.archive + "/." + id.str() + std::string(kSuffix) + "." + io::random_hex(6);
    Status made = make_compressed(project, member_of(id), temporary);
    if (made) made = compare(project, temporary, listing.members);
    if (made &&
        ::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE) != 0) {
        made = io::system_error("cannot create", target);
    }
    if (!made) {
        static_cast<void>(io::remove_file(temporary));
        return made;
    }
    return io::sync_folder(project.archive);
}

// Out of the way by a rename first, so that nobody takes what is left of it for a session.
Status remove_folder(const ProjectPaths& project, const SessionId& id, const Listing& listing) {
    const std::string aside =
        project.archive + "/." + id.str() + std::string(kRemoved) + io::random_hex(6);
    if (::rename(project.archived(id).c_str(), aside.c_str()) != 0)
        return io::system_error("cannot move", project.archived(id));
    const Result<Listing> moved = list_tree(aside, member_of(id));
    if (moved && moved->versions == listing.versions) return io::remove_tree(aside);
    // What was written since then is not in the compressed file.
    if (::rename(aside.c_str(), project.archived(id).c_str()) != 0)
        return io::system_error("cannot move back", aside);
    return make_error(ErrorCode::conflict,
                      project.archived(id) + " changed while it was compressed; it stays");
}

// The id in `.<id><infix><random>`.
std::optional<SessionId> owner_of(const std::string& name, std::string_view infix) {
    const std::size_t at = name.find(infix);
    if (!name.starts_with('.') || at == std::string::npos) return std::nullopt;
    const std::string id = name.substr(1, at - 1);
    if (!is_session_id(id)) return std::nullopt;
    return SessionId(id);
}

Result<io::FileLock> lock(const ProjectPaths& project) {
    return io::FileLock::acquire(project.archive + "/" + std::string(kLock));
}

Result<std::uint64_t> compress_locked(const ProjectPaths& project, const SessionId& id) {
    const std::string folder = project.archived(id);
    struct stat info {};
    if (::lstat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
        return make_error(ErrorCode::not_found, folder + " is no folder");
    const Result<Listing> listing = list_tree(folder, member_of(id));
    if (!listing) return listing.error();
    const std::string target = compressed_path(project, id);
    if (io::exists(target)) {
        // Of a run that was ended before the folder was removed, or somebody's own.
        if (const Status same = compare(project, target, listing->members); !same)
            return make_error(ErrorCode::conflict,
                              same.error().message + "; both stay, remove the wrong one");
    } else if (const Status made = publish(project, id, *listing); !made) {
        return made.error();
    }
    if (const Status removed = remove_folder(project, id, *listing); !removed)
        return removed.error();
    if (::lstat(target.c_str(), &info) != 0) return io::system_error("cannot examine", target);
    return static_cast<std::uint64_t>(info.st_size);
}

// A folder that was moved out of the way and not removed, or only in part: what is left of it is
// compared once more, so that a crash loses no change either.
Status finish_removal(const ProjectPaths& project, const SessionId& id, const std::string& aside) {
    const std::string folder = project.archived(id);
    if (!is_compressed(project, id) || io::exists(folder)) return Done{};
    if (::rename(aside.c_str(), folder.c_str()) != 0)
        return io::system_error("cannot move back", aside);
    const Result<std::uint64_t> done = compress_locked(project, id);
    if (!done) return done.error();
    return Done{};
}

}  // namespace

std::vector<ArchivedSession> list_archive(const ProjectPaths& project) {
    std::vector<ArchivedSession> archive;
    for (const std::string& name : io::list_folder(project.archive)) {
        const bool compressed = name.ends_with(kSuffix);
        const std::string id = compressed ? name.substr(0, name.size() - kSuffix.size()) : name;
        const std::string path = project.archive + "/" + name;
        struct stat info {};
        if (!is_session_id(id) || ::lstat(path.c_str(), &info) != 0) continue;
        if (!(compressed ? S_ISREG(info.st_mode) : S_ISDIR(info.st_mode))) continue;
        constexpr std::uint64_t kBlock = 512;  // st_blocks counts these
        archive.push_back({.id = SessionId(id),
                           .compressed = compressed,
                           .changed_at = modified(info),
                           .bytes = compressed ? static_cast<std::uint64_t>(info.st_blocks) * kBlock
                                               : io::disk_usage(path)});
    }
    std::ranges::sort(archive, [](const ArchivedSession& a, const ArchivedSession& b) {
        return std::tie(a.changed_at, a.id) < std::tie(b.changed_at, b.id);
    });
    return archive;
}

std::vector<ArchivedSession> due_for_compression(const std::vector<ArchivedSession>& archive,
                                                 Duration age, WallTime now) {
    std::vector<ArchivedSession> due;
    std::ranges::copy_if(archive, std::back_inserter(due), [&](const ArchivedSession& session) {
        return !session.compressed && now - session.changed_at > age;
    });
    return due;
}

std::vector<ArchivedSession> due_for_pruning(const std::vector<ArchivedSession>& archive,
                                             const PruneRule& rule, WallTime now) {
    std::uint64_t rest = 0;
    for (const ArchivedSession& session : archive)
        rest += session.bytes;
    std::vector<ArchivedSession> due;
    for (const ArchivedSession& session : archive) {
        const bool old = rule.age && now - session.changed_at > *rule.age;
        const bool over = rule.bytes_max && rest > *rule.bytes_max;
        if (!old && !over) continue;
        rest -= session.bytes;
        due.push_back(session);
    }
    return due;
}

Result<std::uint64_t> compress_archived(const ProjectPaths& project, const SessionId& id) {
    const Result<io::FileLock> locked = lock(project);
    if (!locked) return locked.error();
    return compress_locked(project, id);
}

Status remove_archived(const ProjectPaths& project, const SessionId& id) {
    const Result<io::FileLock> locked = lock(project);
    if (!locked) return locked.error();
    if (Status removed = io::remove_file(compressed_path(project, id)); !removed) return removed;
    return io::remove_tree(project.archived(id));
}

Status clean_archive(const ProjectPaths& project) {
    const Result<io::FileLock> locked = lock(project);
    if (!locked) return locked.error();
    Status cleaned = Done{};
    for (const std::string& name : io::list_folder(project.archive)) {
        const std::string path = project.archive + "/" + name;
        Status done = Done{};
        if (owner_of(name, std::string(kSuffix) + ".")) done = io::remove_file(path);
        if (const auto removed = owner_of(name, kRemoved))
            done = finish_removal(project, *removed, path);
        if (!done) cleaned = done;
    }
    return cleaned;
}

bool is_compressed(const ProjectPaths& project, const SessionId& id) {
    struct stat info {};
    return ::lstat(compressed_path(project, id).c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

Result<std::string> read_compressed(const ProjectPaths& project, const SessionId& id,
                                    std::string_view file, std::size_t bytes_max) {
    const std::string path = compressed_path(project, id);
    if (!is_session_id(id.str()) || !is_compressed(project, id))
        return make_error(ErrorCode::not_found, path + " does not exist");
    for (const std::string& folder : {member_of(id), id.str()}) {
        io::CommandResult ran =
            io::run_command({"tar", "--extract", "--gzip", "--to-stdout", "--occurrence=1",
                             "--file", path, "--", folder + "/" + std::string(file)},
                            plain_environment(), "", bytes_max + 1, kReadTimeoutMs);
        if (ran.output.size() > bytes_max)
            return make_error(ErrorCode::too_large, std::string(file) + " in " + path +
                                                        " is larger than " +
                                                        std::to_string(bytes_max) + " bytes");
        if (ran.exit_code == 0) return std::move(ran.output);
        if (ran.errors.find("Not found in archive") == std::string::npos)
            return tar_error("cannot read " + path, ran);
    }
    return make_error(ErrorCode::not_found, std::string(file) + " is not in " + path);
}

}  // namespace iw::workspace
