#include "common/workspace/folders.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "common/io/files.h"

namespace iw::workspace {
namespace {

constexpr mode_t kFolderMode = 0755;
constexpr int kTriesMax = 3;

}  // namespace

io::UniqueFd open_folder(int parent, const std::string& name) {
    return io::UniqueFd(
        ::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

Result<io::UniqueFd> make_folder(int parent, const std::string& name, const std::string& path) {
    for (int tries = 0; tries < kTriesMax; ++tries) {
        const bool made = ::mkdirat(parent, name.c_str(), kFolderMode) == 0;
        if (!made && errno != EEXIST) return io::system_error("cannot create", path);
        io::UniqueFd folder = open_folder(parent, name);
        if (folder.valid()) return folder;
        if (errno != ENOTDIR && errno != ELOOP) return io::system_error("cannot open", path);
        move_aside(parent, name);
    }
    return io::system_error("cannot create", path);
}

io::UniqueFd open_beneath(int folder, const std::string& path, int flags) {
    io::UniqueFd inner;
    std::size_t start = 0;
    for (auto slash = path.find('/'); slash != std::string::npos; slash = path.find('/', start)) {
        inner =
            open_folder(inner.valid() ? inner.get() : folder, path.substr(start, slash - start));
        if (!inner.valid()) return inner;
        start = slash + 1;
    }
    const int parent = inner.valid() ? inner.get() : folder;
    return io::UniqueFd(::openat(parent, path.c_str() + start, flags | O_NOFOLLOW | O_CLOEXEC));
}

int rename_new(int from, const std::string& name, int to, const std::string& new_name) {
    if (::renameat2(from, name.c_str(), to, new_name.c_str(), RENAME_NOREPLACE) == 0) return 0;
    if (errno != EINVAL && errno != ENOSYS) return errno;
    struct stat info {};
    if (::fstatat(to, new_name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) return EEXIST;
    return ::renameat(from, name.c_str(), to, new_name.c_str()) == 0 ? 0 : errno;
}

void move_aside(int folder, const std::string& name) {
    static_cast<void>(rename_new(folder, name, folder, name + ".odd-" + io::random_hex(4)));
}

std::optional<std::vector<std::string>> names_in(int folder) {
    const io::UniqueFd own(::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!own.valid()) return std::nullopt;
    const auto close = [](DIR* list) { ::closedir(list); };
    const std::unique_ptr<DIR, decltype(close)> list(::fdopendir(::dup(own.get())), close);
    if (list == nullptr) return std::nullopt;
    std::vector<std::string> names;
    while (const dirent* entry = ::readdir(list.get())) {
        const std::string name = entry->d_name;
        if (name != "." && name != "..") names.push_back(name);
    }
    std::ranges::sort(names);
    return names;
}

bool stands_at(const io::UniqueFd& folder, const std::string& path) {
    struct stat held {};
    struct stat there {};
    return ::fstat(folder.get(), &held) == 0 && ::lstat(path.c_str(), &there) == 0 &&
           held.st_dev == there.st_dev && held.st_ino == there.st_ino;
}

}  // namespace iw::workspace
