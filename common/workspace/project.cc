#include <fcntl.h>
#include <sys/stat.h>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/workspace/workspace.h"

namespace iw::workspace {
namespace {

constexpr mode_t kFolderMode = 0755;
constexpr mode_t kFileMode = 0644;

// A script whose create failed may go on to `mv "sessions/$ID" archive/sessions/` with an empty ID.
// A file at that target makes mv refuse; `find -type d` of an archive's clean-up passes it by.
constexpr std::string_view kGuardName = "sessions";
constexpr std::string_view kGuardText =
    "Kept so that `mv docs/.scratch/sessions/$ID docs/.scratch/archive/sessions/` with an empty ID "
    "fails\ninstead of moving every session here.\n";

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

std::string workspace_of(const SessionView& session) {
    if (session.origin.empty()) return session.workspace;
    return ProjectPaths(session.origin.root).workspace(session.id);
}

Status prepare_project(const ProjectPaths& project) {
    for (const std::string& folder :
         {project.sessions, project.archive, io::parent_folder(project.global_log)}) {
        if (Status made = io::make_folders(folder, kFolderMode); !made) return made;
    }
    // Nobody's work waits for a line in the log: one that cannot be written is not fatal.
    static_cast<void>(io::append_file(project.global_log, "", kFileMode));
    const std::string guard = under(project.archive, kGuardName);
    if (!io::exists(guard)) {
        // Not fatal either: only a script that has lost its way needs it.
        static_cast<void>(io::write_file_new(guard, kGuardText, kFileMode, io::Sync::none));
    }
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

std::string plain_project_name(const std::string& text) {
    constexpr std::size_t kNameMax = 64;
    std::string name;
    for (const char c : text.substr(0, kNameMax)) {
        const bool fits = is_plain_name(std::string("x") + c);
        if (fits || !name.empty()) name += fits ? c : '-';
    }
    while (!name.empty() && !is_plain_name(name))
        name.erase(0, 1);
    return name.empty() ? "project" : name;
}

std::string project_name(const std::string& root) {
    constexpr std::size_t kFileMax = 4096;
    const Result<std::string> text = io::read_file(root + "/scripts/ops/project-name", kFileMax);
    if (text.ok()) {
        const std::string line(trim(split(*text, '\n').front()));
        if (is_plain_name(line)) return line;
    }
    return plain_project_name(io::base_name(root));
}

std::vector<SessionId> list_workspaces(const ProjectPaths& project) {
    std::vector<SessionId> ids;
    for (const std::string& name : io::list_folder(project.sessions)) {
        if (is_session_id(name)) ids.emplace_back(name);
    }
    return ids;
}

}  // namespace iw::workspace
