#include "common/io/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <ranges>
#include <system_error>

namespace iw::io {
namespace {

int open_retrying(const std::string& path, int flags, mode_t mode) {
    int fd = -1;
    do {
        fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

// False with errno set. A write that takes nothing counts as a full disk.
bool write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(fd, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        if (written == 0) {
            errno = ENOSPC;
            return false;
        }
        bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return true;
}

// A temporary beside `path` that is removed unless it has got its final name.
class TemporaryFile {
  public:
    explicit TemporaryFile(const std::string& path)
        : path_(parent_folder(path) + "/." + base_name(path) + "." + random_hex(6)) {}
    ~TemporaryFile() {
        if (made_) ::unlink(path_.c_str());
    }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;

    const std::string& path() const { return path_; }
    void keep() { made_ = false; }

    Status write(std::string_view bytes, mode_t mode, bool sync) {
        UniqueFd fd(open_retrying(path_, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode));
        if (!fd.valid()) return system_error("cannot create", path_);
        made_ = true;
        // open() takes the umask off the mode.
        if (::fchmod(fd.get(), mode) != 0) return system_error("cannot set the mode of", path_);
        if (!write_all(fd.get(), bytes)) return system_error("cannot write", path_);
        if (sync && ::fsync(fd.get()) != 0) return system_error("cannot sync", path_);
        return Done{};
    }

  private:
    std::string path_;
    bool made_ = false;
};

std::string without_trailing_slashes(const std::string& path) {
    const std::size_t end = path.find_last_not_of('/');
    if (end == std::string::npos) return path.empty() ? "" : "/";
    return path.substr(0, end + 1);
}

}  // namespace

Error system_error(std::string_view what, std::string_view path) {
    const std::string words = std::generic_category().message(errno);
    return make_error(ErrorCode::io, std::string(what) + " " + std::string(path) + ": " + words);
}

Result<std::string> read_file(const std::string& path, std::size_t max) {
    // Without O_NONBLOCK the open of a FIFO would wait for a writer.
    const UniqueFd fd(open_retrying(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0));
    if (!fd.valid() && errno == ENOENT) {
        return make_error(ErrorCode::not_found, path + " does not exist");
    }
    if (!fd.valid()) return system_error("cannot open", path);
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) return system_error("cannot examine", path);
    if (!S_ISREG(info.st_mode)) return make_error(ErrorCode::io, path + " is not a regular file");

    // To the end of the file, not to its size: files of /proc have size 0.
    std::string content;
    std::array<char, 65536> buffer{};
    while (true) {
        const ssize_t size = ::read(fd.get(), buffer.data(), buffer.size());
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return system_error("cannot read", path);
        if (size == 0) return content;
        content.append(buffer.data(), static_cast<std::size_t>(size));
        if (content.size() > max) {
            return make_error(ErrorCode::too_large,
                              path + " is larger than " + std::to_string(max) + " bytes");
        }
    }
}

bool exists(const std::string& path) {
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0;
}

Status write_file(const std::string& path, std::string_view bytes, mode_t mode, Sync sync) {
    TemporaryFile temporary(path);
    Status written = temporary.write(bytes, mode, sync != Sync::none);
    if (!written) return written;
    if (::rename(temporary.path().c_str(), path.c_str()) != 0) {
        return system_error("cannot replace", path);
    }
    temporary.keep();
    return sync == Sync::file_and_folder ? sync_folder(parent_folder(path)) : Done{};
}

Status write_file_new(const std::string& path, std::string_view bytes, mode_t mode, Sync sync) {
    TemporaryFile temporary(path);
    Status written = temporary.write(bytes, mode, sync != Sync::none);
    if (!written) return written;
    if (::link(temporary.path().c_str(), path.c_str()) != 0) {
        if (errno == EEXIST) return make_error(ErrorCode::conflict, path + " exists already");
        return system_error("cannot create", path);
    }
    return sync == Sync::file_and_folder ? sync_folder(parent_folder(path)) : Done{};
}

Status create_file_exclusive(const std::string& path, std::string_view bytes, mode_t mode) {
    UniqueFd fd(open_retrying(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode));
    if (!fd.valid() && errno == EEXIST) {
        return make_error(ErrorCode::conflict, path + " exists already");
    }
    if (!fd.valid()) return system_error("cannot create", path);
    if (::fchmod(fd.get(), mode) != 0) return system_error("cannot set the mode of", path);
    if (!write_all(fd.get(), bytes)) return system_error("cannot write", path);
    if (::fsync(fd.get()) != 0) return system_error("cannot sync", path);
    return sync_folder(parent_folder(path));
}

Status append_file(const std::string& path, std::string_view bytes, mode_t mode) {
    // The name may be in a folder that others write: a link is not followed, and a FIFO without a
    // reader would otherwise hold up the caller for ever.
    constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    const UniqueFd fd(open_retrying(path, kFlags, mode));
    if (!fd.valid()) return system_error("cannot open", path);
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) return system_error("cannot examine", path);
    if (!S_ISREG(info.st_mode)) return make_error(ErrorCode::io, path + " is not a regular file");
    ssize_t written = -1;
    do {
        written = ::write(fd.get(), bytes.data(), bytes.size());
    } while (written < 0 && errno == EINTR);
    if (written < 0) return system_error("cannot append to", path);
    // The rest is not written after it: between two writes another process may append.
    if (static_cast<std::size_t>(written) != bytes.size()) {
        return make_error(ErrorCode::io, "appended only a part to " + path + "; is the disk full?");
    }
    return Done{};
}

Status sync_folder(const std::string& path) {
    const UniqueFd fd(open_retrying(path, O_RDONLY | O_DIRECTORY, 0));
    if (!fd.valid()) return system_error("cannot open folder", path);
    if (::fsync(fd.get()) != 0) return system_error("cannot sync folder", path);
    return Done{};
}

Status make_folders(const std::string& path, mode_t mode) {
    const std::string target = without_trailing_slashes(path);
    if (target.empty()) return make_error(ErrorCode::io, "cannot make a folder without a name");
    for (std::size_t end = target.find('/', 1);; end = target.find('/', end + 1)) {
        const std::string folder = target.substr(0, end);
        if (::mkdir(folder.c_str(), mode) != 0 && errno != EEXIST) {
            // Above the target an existing folder may be readable only, or on a read-only file
            // system.
            const bool last = end == std::string::npos;
            if (last || !exists(folder)) return system_error("cannot make folder", folder);
        }
        if (end == std::string::npos) break;
    }
    struct stat info {};
    if (::stat(target.c_str(), &info) != 0) return system_error("cannot make folder", target);
    if (!S_ISDIR(info.st_mode)) {
        return make_error(ErrorCode::io, target + " exists and is not a folder");
    }
    return Done{};
}

Status make_durable_folders(const std::string& path, mode_t mode) {
    std::vector<std::string> parents = {parent_folder(path)};
    while (!exists(parents.back()))
        parents.push_back(parent_folder(parents.back()));
    if (Status made = make_folders(path, mode); !made) return made;
    // From the outermost: a name on disk is of no use below one that is not.
    for (const std::string& parent : std::views::reverse(parents)) {
        if (Status synced = sync_folder(parent); !synced) return synced;
    }
    return Done{};
}

Status remove_file(const std::string& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return system_error("cannot remove", path);
    return Done{};
}

Status remove_large_file(const std::string& path) {
    constexpr std::uint64_t kSlice = 64u << 20;
    const UniqueFd fd(open_retrying(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK, 0));
    struct stat info {};
    const bool is_ours =
        fd.valid() && ::fstat(fd.get(), &info) == 0 && S_ISREG(info.st_mode) && info.st_nlink == 1;
    auto left = is_ours ? static_cast<std::uint64_t>(info.st_size) : 0;
    while (left > kSlice) {
        left -= kSlice;
        if (::ftruncate(fd.get(), static_cast<off_t>(left)) != 0) break;
        ::fdatasync(fd.get());
    }
    return remove_file(path);
}

Status remove_tree(const std::string& path) {
    const std::string target = without_trailing_slashes(path);
    if (target.empty() || absolute_path(target) == "/") {
        return make_error(ErrorCode::io, "refused to remove \"" + path + "\" and all below it");
    }
    // The library walks by descriptors and removes links themselves, never what they point to.
    std::error_code error;
    std::filesystem::remove_all(target, error);
    if (!error) return Done{};
    return make_error(ErrorCode::io, "cannot remove " + target + ": " + error.message());
}

std::vector<std::string> list_folder(const std::string& path) {
    std::vector<std::string> names;
    const auto close = [](DIR* folder) { ::closedir(folder); };
    const std::unique_ptr<DIR, decltype(close)> folder(::opendir(path.c_str()), close);
    if (folder == nullptr) return names;
    while (const dirent* entry = ::readdir(folder.get())) {
        const std::string_view name = entry->d_name;
        if (name != "." && name != "..") names.emplace_back(name);
    }
    std::ranges::sort(names);
    return names;
}

std::string real_path(const std::string& path) {
    const auto free_text = [](char* text) { std::free(text); };
    const std::unique_ptr<char, decltype(free_text)> resolved(::realpath(path.c_str(), nullptr),
                                                              free_text);
    return resolved == nullptr ? "" : resolved.get();
}

std::string parent_folder(const std::string& path) {
    const std::string target = without_trailing_slashes(path);
    const std::size_t slash = target.find_last_of('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : without_trailing_slashes(target.substr(0, slash));
}

std::string base_name(const std::string& path) {
    const std::string target = without_trailing_slashes(path);
    return target == "/" ? target : target.substr(target.find_last_of('/') + 1);
}

std::string absolute_path(const std::string& path) {
    const std::filesystem::path whole = std::filesystem::path(current_folder()) / path;
    return without_trailing_slashes(whole.lexically_normal().string());
}

std::string current_folder() {
    std::error_code error;  // a removed folder has no name any more
    const std::filesystem::path folder = std::filesystem::current_path(error);
    return error ? "/" : folder.string();
}

std::uint64_t free_bytes(const std::string& path) {
    struct statvfs info {};
    if (::statvfs(path.c_str(), &info) != 0) return 0;
    return static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
}

}  // namespace iw::io
