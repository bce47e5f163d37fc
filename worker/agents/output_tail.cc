#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/io/files.h"
#include "worker/agents/agents.h"

namespace iw::worker {
namespace {

constexpr std::string_view kSeam = "[output.log rotated: ";

// The last bytes of a regular file; the workspace is the agent's, so it may have put anything
// there.
std::string file_tail(const std::string& path, std::size_t bytes_max) {
    const io::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    struct stat info {};
    if (!fd.valid() || ::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) return "";
    const off_t size = std::min(info.st_size, static_cast<off_t>(bytes_max));
    std::string text(static_cast<std::size_t>(size), '\0');
    std::size_t done = 0;
    while (done < text.size()) {
        const ssize_t read = ::pread(fd.get(), text.data() + done, text.size() - done,
                                     info.st_size - size + static_cast<off_t>(done));
        if (read < 0 && errno == EINTR) continue;
        if (read <= 0) break;
        done += static_cast<std::size_t>(read);
    }
    text.resize(done);
    return text;
}

}  // namespace

std::string output_tail(const std::string& workspace, std::size_t bytes_max) {
    std::string current = file_tail(workspace + "/output.log", bytes_max);
    const auto newline = current.find('\n');
    if (!current.starts_with(kSeam) || newline == std::string::npos) return current;
    current.erase(0, newline + 1);
    return file_tail(workspace + "/output.log.1", bytes_max - current.size()) + current;
}

}  // namespace iw::worker
