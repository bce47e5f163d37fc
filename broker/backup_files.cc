#include "broker/backup_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <string_view>

#include "common/io/files.h"

namespace iw::broker {
namespace {

constexpr std::size_t kChunk = 1u << 20;
constexpr mode_t kPrivateFile = 0600;

// The whole file, a chunk at a time.
Status each_chunk(const std::string& path, const std::function<Status(std::string_view)>& each) {
    const io::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd.valid()) return io::system_error("cannot open", path);
    std::string chunk(kChunk, '\0');
    while (true) {
        const ssize_t got = ::read(fd.get(), chunk.data(), chunk.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return io::system_error("cannot read", path);
        if (got == 0) return Done{};
        const Status taken = each(std::string_view(chunk).substr(0, static_cast<std::size_t>(got)));
        if (!taken) return taken;
    }
}

Status write_all(int fd, std::string_view bytes, const std::string& path) {
    while (!bytes.empty()) {
        const ssize_t put = ::write(fd, bytes.data(), bytes.size());
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return io::system_error("cannot write", path);
        bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return Done{};
}

}  // namespace

Status sync_file(const std::string& path) {
    const io::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return io::system_error("cannot open", path);
    if (::fsync(fd.get()) != 0) return io::system_error("cannot sync", path);
    return Done{};
}

Result<BackupManifest::File> sum_file(const std::string& folder, const std::string& name) {
    io::Sha256 sum;
    std::uint64_t bytes = 0;
    const Status read = each_chunk(folder + "/" + name, [&](std::string_view chunk) -> Status {
        sum.add(chunk);
        bytes += chunk.size();
        return Done{};
    });
    if (!read) return read.error();
    return BackupManifest::File{.name = name, .bytes = bytes, .sha256 = sum.finish_hex()};
}

Result<std::string> copy_file(const std::string& from, const std::string& to) {
    const io::UniqueFd fd(
        ::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kPrivateFile));
    if (!fd.valid()) return io::system_error("cannot make", to);
    io::Sha256 sum;
    const Status copied = each_chunk(from, [&](std::string_view chunk) -> Status {
        sum.add(chunk);
        return write_all(fd.get(), chunk, to);
    });
    if (!copied) return copied.error();
    if (::fsync(fd.get()) != 0) return io::system_error("cannot sync", to);
    return sum.finish_hex();
}

}  // namespace iw::broker
