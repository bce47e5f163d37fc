#pragma once

// Folders of a workspace held open by descriptor, so that nobody who moves, replaces or links
// something at that moment leads a writer elsewhere. For this part only.

#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/io/unique_fd.h"

namespace iw::workspace {

// Links are not followed: the workspace is the agent's too, and may lead anywhere. Invalid with
// errno set when there is no such folder.
io::UniqueFd open_folder(int parent, const std::string& name);

// The folder of that name, made when it is missing; whatever else stands there goes aside. `path`
// is for the error only.
Result<io::UniqueFd> make_folder(int parent, const std::string& name, const std::string& path);

// The file at the relative `path` below `folder`, no link followed in any part of it; `flags` of
// open(2) besides O_NOFOLLOW and O_CLOEXEC. Invalid with errno set.
io::UniqueFd open_beneath(int folder, const std::string& path, int flags);

// 0, or what errno says; EEXIST when `new_name` exists. A file system that cannot promise that is
// asked first.
int rename_new(int from, const std::string& name, int to, const std::string& new_name);

// Renames what stands under the name to `<name>.odd-<random>`, unfollowed and unread.
void move_aside(int folder, const std::string& name);

// Names without . and .., sorted; nothing when the folder cannot be read.
std::optional<std::vector<std::string>> names_in(int folder);

// Whether the open folder is still the one at `path`.
bool stands_at(const io::UniqueFd& folder, const std::string& path);

}  // namespace iw::workspace
