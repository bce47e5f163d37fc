// What an earlier attempt left makes room for the next one. Every step is a rename inside folders
// that are held open: a crash in the middle leaves each file in one place or the other, a repeat
// goes on where it stopped, and somebody who moves the workspace away at that moment takes whole
// files with them.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "common/io/files.h"
#include "common/workspace/deliverables.h"
#include "common/workspace/folders.h"
#include "common/workspace/workspace.h"

namespace iw::workspace {
namespace {

// Names of the same file that stand side by side; more are given random names.
constexpr int kCopiesMax = 100;
constexpr std::array<std::string_view, 4> kStay = {"prompt.md", "state.json", "session.log",
                                                   "attempts"};

// A name that is taken already is of an earlier try, or the agent's own: neither is overwritten.
int move_beside(int from, const std::string& name, int to) {
    int error = rename_new(from, name, to, name);
    for (int copy = 2; error == EEXIST && copy <= kCopiesMax; ++copy)
        error = rename_new(from, name, to, name + "." + std::to_string(copy));
    if (error == EEXIST) error = rename_new(from, name, to, name + "." + io::random_hex(4));
    return error;
}

int move_entry(int from, const std::string& name, int to) {
    const int error = move_beside(from, name, to);
    if (error == ENOENT) return 0;
    if (error != EACCES) return error;
    // A folder that its owner may not write cannot change its parent either.
    struct stat info {};
    const bool is_folder =
        ::fstatat(from, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode);
    const io::UniqueFd folder = is_folder ? open_folder(from, name) : io::UniqueFd();
    if (!folder.valid() || ::fchmod(folder.get(), info.st_mode | S_IRWXU) != 0) return error;
    const int again = move_beside(from, name, to);
    ::fchmod(folder.get(), info.st_mode & 07777);
    return again == ENOENT ? 0 : again;
}

// What has to move, sorted; nothing when the folder cannot be read.
std::vector<std::string> entries_to_move(int folder) {
    std::vector<std::string> names = names_in(folder).value_or(std::vector<std::string>());
    std::erase_if(names, [](const std::string& name) {
        const bool ours = std::ranges::find(kStay, name) != kStay.end();
        return ours || name.starts_with(kIncomingPrefix);
    });
    return names;
}

Status move_entries(const io::UniqueFd& workspace, const std::vector<std::string>& names,
                    const std::string& path, std::uint32_t earlier) {
    const std::string number = std::to_string(earlier);
    const std::string attempts_path = path + "/attempts";
    const Result<io::UniqueFd> attempts = make_folder(workspace.get(), "attempts", attempts_path);
    if (!attempts) return attempts.error();
    const Result<io::UniqueFd> target =
        make_folder(attempts->get(), number, attempts_path + "/" + number);
    if (!target) return target.error();
    for (const std::string& name : names) {
        errno = move_entry(workspace.get(), name, target->get());
        if (errno != 0) return io::system_error("cannot move", path + "/" + name);
    }
    // What wrongly stood under "attempts" went aside only now.
    for (const std::string& name : entries_to_move(workspace.get()))
        static_cast<void>(move_entry(workspace.get(), name, target->get()));
    // After a power cut an old result must not be taken for the new attempt's. A file system that
    // cannot sync folders has promised nothing anyway.
    for (const int folder : {target->get(), attempts->get(), workspace.get()})
        ::fsync(folder);
    return Done{};
}

}  // namespace

Status begin_attempt(const ProjectPaths& project, const SessionId& id, std::uint32_t attempt) {
    if (attempt < 2) return Done{};
    const std::string path = project.workspace(id);
    const io::UniqueFd workspace = open_folder(AT_FDCWD, path);
    if (!workspace.valid()) {
        const bool odd = errno == ENOTDIR || errno == ELOOP;
        if (odd) move_aside(AT_FDCWD, path);
        return make_error(ErrorCode::conflict, path + " is not there");
    }
    const std::vector<std::string> names = entries_to_move(workspace.get());
    if (!names.empty()) {
        if (Status moved = move_entries(workspace, names, path, attempt - 1); !moved) return moved;
    }
    if (stands_at(workspace, path)) return Done{};
    return make_error(ErrorCode::conflict, path + " was moved away");
}

}  // namespace iw::workspace
