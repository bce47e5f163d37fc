#pragma once

// Tells when a project's agents or its config.sh change, so that what a worker offers follows at
// once.

#include <functional>
#include <string>

#include "worker/folder_watch.h"

namespace iw::worker {

class ProjectWatch {
  public:
    struct Handlers {
        std::function<void()> on_agents;
        std::function<void()> on_config;
    };
    // `watch` outlives this.
    ProjectWatch(FolderWatch& watch, std::string root, Handlers handlers);
    ~ProjectWatch();
    ProjectWatch(const ProjectWatch&) = delete;
    ProjectWatch& operator=(const ProjectWatch&) = delete;

    // Watches what is there now: agents/ and its direct subfolders, or the root while there is no
    // agents/; scripts/ops. What cannot be watched is logged: SIGHUP then makes the worker look
    // again.
    void refresh();

  private:
    void add(const std::string& folder, std::uint32_t mask, FolderWatch::OnChange on_change);
    void agents_changed();

    FolderWatch& watch_;
    std::string root_;
    Handlers handlers_;
};

}  // namespace iw::worker
