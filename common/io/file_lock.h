#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>

#include "common/base/result.h"
#include "common/io/unique_fd.h"

namespace iw::io {

// An exclusive flock on a file, held as long as the object lives; the file holds the owner's pid.
// The file stays when the lock is given back: removing it would let two processes lock two files of
// one name.
class FileLock {
  public:
    // conflict when somebody else holds it (the message names the pid). Makes the file, not its
    // folder.
    static Result<FileLock> acquire(const std::string& path);
    FileLock(FileLock&&) noexcept = default;
    FileLock& operator=(FileLock&&) noexcept = default;

  private:
    explicit FileLock(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
};

// The pid that holds the lock file, if somebody does; 0 when the holder has not written its pid
// yet.
std::optional<pid_t> lock_holder(const std::string& path);

}  // namespace iw::io
