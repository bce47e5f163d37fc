#pragma once

// Changes in one folder, by inotify: a broker's socket that appears, an output.log that grows.

#include <string>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "common/io/unique_fd.h"

namespace iw::ctl {

class FolderWatch {
  public:
    struct Change {
        std::string name;          // in the folder; empty: the folder itself
        bool appeared = false;     // was created or renamed to this name
        bool folder_gone = false;  // the folder was moved or removed
    };
    // What wakes: names that appear, or writing into files besides.
    enum class Interest { names, names_and_content };
    // io when the folder does not exist or the system has no watches left.
    static Result<FolderWatch> open(const std::string& folder, Interest interest);
    int fd() const { return fd_.get(); }
    // What happened since the last call; does not wait.
    std::vector<Change> read();

  private:
    explicit FolderWatch(io::UniqueFd fd) : fd_(std::move(fd)) {}
    io::UniqueFd fd_;
};

}  // namespace iw::ctl
