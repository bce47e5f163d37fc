#include "common/io/disk_usage.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

namespace iw::io {

std::uint64_t disk_usage(const std::string& folder) {
    namespace fs = std::filesystem;
    constexpr std::uint64_t kBlock = 512;  // st_blocks counts these, whatever the file system
    std::uint64_t total = 0;
    std::error_code error;
    fs::recursive_directory_iterator entry(folder, fs::directory_options::skip_permission_denied,
                                           error);
    while (!error && entry != fs::recursive_directory_iterator()) {
        struct stat info {};
        // A file full of holes takes no room, a small one takes at least its block.
        if (::lstat(entry->path().c_str(), &info) == 0 && S_ISREG(info.st_mode)) {
            total += static_cast<std::uint64_t>(info.st_blocks) * kBlock;
        }
        entry.increment(error);
    }
    return total;
}

}  // namespace iw::io
