#include "worker/project_watch.h"

#include <sys/inotify.h>
#include <sys/stat.h>

#include <utility>

#include "common/io/logging.h"

namespace iw::worker {
namespace {

constexpr std::uint32_t kEntries = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO;
// Whether a `run` is executable decides too, and a persona may be written in place.
constexpr std::uint32_t kAgent = kEntries | IN_ATTRIB | IN_CLOSE_WRITE;
constexpr std::uint32_t kNewEntries = IN_CREATE | IN_MOVED_TO;

bool is_folder(const std::string& path) {
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

}  // namespace

ProjectWatch::ProjectWatch(FolderWatch& watch, std::string root, Handlers handlers)
    : watch_(watch), root_(std::move(root)), handlers_(std::move(handlers)) {}

ProjectWatch::~ProjectWatch() = default;

void ProjectWatch::add(const std::string& folder, std::uint32_t mask,
                       FolderWatch::OnChange on_change) {
    if (watch_.watches(folder)) return;
    const Status added = watch_.add(folder, mask, std::move(on_change));
    if (!added) io::log(io::LogLevel::warn, "cannot watch", {{"error", added.error().message}});
}

void ProjectWatch::refresh() {
    const std::string agents = root_ + "/agents";
    if (!is_folder(agents)) {
        add(root_, kNewEntries, [this](const std::string& name) {
            if (name == "agents") agents_changed();
        });
    } else {
        // Agents write into the root as they work; while agents/ stands there, that wakes nobody.
        watch_.remove(root_);
        add(agents, kEntries | IN_DELETE_SELF, [this](const std::string&) { agents_changed(); });
        for (const std::string& name : io::list_folder(agents)) {
            const std::string folder = agents + "/" + name;
            if (is_folder(folder))
                add(folder, kAgent, [this](const std::string&) { agents_changed(); });
        }
    }
    const std::string ops = root_ + "/scripts/ops";
    if (!is_folder(ops)) return;
    add(ops, kNewEntries | IN_CLOSE_WRITE, [this](const std::string& name) {
        if (name == "config.sh") handlers_.on_config();
    });
}

void ProjectWatch::agents_changed() {
    refresh();
    handlers_.on_agents();
}

}  // namespace iw::worker
