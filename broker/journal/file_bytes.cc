#include "broker/journal/file_bytes.h"

#include <unistd.h>

#include <cerrno>

#include "common/io/files.h"

namespace iw::broker {

Result<std::string> read_bytes(int fd, std::size_t offset, std::size_t size,
                               const std::string& path) {
    std::string bytes(size, '\0');
    std::size_t done = 0;
    while (done < size) {
        const ssize_t got =
            ::pread(fd, bytes.data() + done, size - done, static_cast<off_t>(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return io::system_error("cannot read", path);
        if (got == 0) break;
        done += static_cast<std::size_t>(got);
    }
    bytes.resize(done);
    return bytes;
}

Status write_bytes(int fd, std::size_t offset, std::string_view bytes, const std::string& path) {
    while (!bytes.empty()) {
        const ssize_t put = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return io::system_error("cannot write", path);
        offset += static_cast<std::size_t>(put);
        bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return Done{};
}

}  // namespace iw::broker
