#include "broker/blobs/blob_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/io/files.h"

namespace iw::broker {
namespace {

constexpr std::size_t kNameChars = 64;
constexpr std::size_t kNumberChars = 10;
constexpr std::uint64_t kBlock = 4096;
constexpr mode_t kPrivateFile = 0600;

bool is_number(std::string_view text) {
    return !text.empty() && text.size() <= kNumberChars &&
           std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

Status each_of_attempt(const std::string& root, BlobFile file,
                       const std::function<Status(const BlobFile&)>& each) {
    const std::string folder = root + "/" + file.session + "/" + file.attempt;
    for (const std::string& entry : io::list_folder(folder)) {
        file.is_part = entry.ends_with(kPartSuffix);
        file.name = file.is_part ? entry.substr(0, entry.size() - kPartSuffix.size()) : entry;
        struct stat about {};
        const bool is_file = is_blob_name(file.name) &&
                             ::lstat((folder + "/" + entry).c_str(), &about) == 0 &&
                             S_ISREG(about.st_mode);
        if (!is_file) continue;
        file.size = static_cast<std::uint64_t>(about.st_size);
        if (Status done = each(file); !done) return done;
    }
    return Done{};
}

}  // namespace

bool is_blob_name(std::string_view text) {
    return text.size() == kNameChars && std::ranges::all_of(text, [](char c) {
               return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
           });
}

bool is_attempt_folder(std::string_view text) {
    const std::size_t dash = text.find('-');
    return dash != std::string_view::npos && is_number(text.substr(0, dash)) &&
           is_number(text.substr(dash + 1));
}

std::string attempt_folder(Fence fence) {
    return std::to_string(fence.generation) + "-" + std::to_string(fence.attempt);
}

std::uint64_t charge_of(std::uint64_t size) {
    return std::max<std::uint64_t>(1, (size + kBlock - 1) / kBlock) * kBlock;
}

std::string BlobFile::path() const {
    return session + "/" + attempt + "/" + name + (is_part ? std::string(kPartSuffix) : "");
}

Status each_blob(const std::string& root, const std::function<Status(const BlobFile&)>& each) {
    BlobFile file;
    for (const std::string& session : io::list_folder(root)) {
        if (!is_session_id(session)) continue;
        file.session = session;
        for (const std::string& attempt : io::list_folder(root + "/" + session)) {
            if (!is_attempt_folder(attempt)) continue;
            file.attempt = attempt;
            if (Status done = each_of_attempt(root, file, each); !done) return done;
        }
    }
    return Done{};
}

io::UniqueFd open_blob(const std::string& path, int flags) {
    // Without O_NONBLOCK the open of a FIFO would wait.
    constexpr int kAlways = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    int fd = -1;
    do {
        fd = ::open(path.c_str(), flags | kAlways, kPrivateFile);
    } while (fd < 0 && errno == EINTR);
    io::UniqueFd opened(fd);
    struct stat about {};
    if (!opened.valid() || ::fstat(fd, &about) != 0) return {};
    if (S_ISREG(about.st_mode)) return opened;
    errno = EINVAL;
    return {};
}

Result<std::string> read_at(int fd, std::uint64_t offset, std::size_t max,
                            const std::string& path) {
    std::string bytes(max, '\0');
    std::size_t have = 0;
    while (have < max) {
        const ssize_t got =
            ::pread(fd, bytes.data() + have, max - have, static_cast<off_t>(offset + have));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return io::system_error("cannot read", path);
        if (got == 0) break;
        have += static_cast<std::size_t>(got);
    }
    bytes.resize(have);
    return bytes;
}

}  // namespace iw::broker
