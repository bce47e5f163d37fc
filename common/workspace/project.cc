#include <fcntl.h>
#include <sys/stat.h>

#include "common/io/files.h"
#include "common/workspace/workspace.h"

namespace iw::workspace {
namespace {

constexpr mode_t kFolderMode = 0755;
constexpr mode_t kFileMode = 0644;

std::string under(const std::string& folder, std::string_view name) {
    return folder + "/" + std::string(name);
}

}  // namespace

ProjectPaths::ProjectPaths(std::string project_root)
    : root(std::move(project_root)),
      sessions(under(root, kSessionsFolder)),
      archive(under(root, kArchiveFolder)),
      global_log(under(root, kGlobalLog)) {}

std::string ProjectPaths::workspace(const SessionId& id) const {
    return under(sessions, id.str());
}
std::string ProjectPaths::archived(const SessionId& id) const {
    return under(archive, id.str());
}

Status prepare_project(const ProjectPaths& project) {
    for (const std::string& folder :
         {project.sessions, project.archive, io::parent_folder(project.global_log)}) {
        if (Status made = io::make_folders(folder, kFolderMode); !made) return made;
    }
    if (Status made = io::append_file(project.global_log, "", kFileMode); !made) return made;
    // Not fatal: somebody else's folder can be used, only not touched.
    static_cast<void>(::utimensat(AT_FDCWD, project.archive.c_str(), nullptr, 0));
    return Done{};
}

std::string find_project(const std::string& start) {
    std::string folder = io::real_path(start);
    while (!folder.empty()) {
        struct stat status {};
        const std::string marker = (folder == "/" ? "" : folder) + "/scripts/ops";
        if (::stat(marker.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return folder;
        if (folder == "/") break;
        folder = io::parent_folder(folder);
    }
    return {};
}

std::vector<SessionId> list_workspaces(const ProjectPaths& project) {
    std::vector<SessionId> ids;
    for (const std::string& name : io::list_folder(project.sessions)) {
        if (is_session_id(name)) ids.emplace_back(name);
    }
    return ids;
}

}  // namespace iw::workspace
