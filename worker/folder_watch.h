#pragma once

// One inotify instance for all folders that a worker looks at, so that it learns of files when they
// appear and never asks at a fixed rate.

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "common/base/result.h"
#include "common/io/files.h"

namespace iw::worker {

class FolderWatch {
  public:
    // Called once per change; `name` is empty when the folder itself went away.
    using OnChange = std::function<void(const std::string& name)>;

    static Result<FolderWatch> open();

    int fd() const { return fd_.get(); }
    // Watching a folder again replaces its handler. `mask`: of inotify(7).
    Status add(const std::string& folder, std::uint32_t mask, OnChange on_change);
    void remove(const std::string& folder);
    bool watches(const std::string& folder) const { return by_folder_.contains(folder); }
    // Runs the handlers of what has happened. False: changes were lost, so everything has to be
    // looked at anew.
    bool read();

  private:
    explicit FolderWatch(io::UniqueFd fd) : fd_(std::move(fd)) {}
    struct Entry {
        std::string folder;
        OnChange on_change;
    };

    io::UniqueFd fd_;
    std::map<int, Entry> by_number_;
    std::map<std::string, int> by_folder_;
};

}  // namespace iw::worker
