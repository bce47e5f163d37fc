#include "common/io/unique_fd.h"

#include <unistd.h>

#include <utility>

namespace iw::io {

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
        reset();
        fd_ = other.release();
    }
    return *this;
}

UniqueFd::~UniqueFd() {
    reset();
}

int UniqueFd::release() {
    return std::exchange(fd_, -1);
}

void UniqueFd::reset() {
    // Linux frees the number even when close reports an error, so there is nothing to try again.
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
}

}  // namespace iw::io
