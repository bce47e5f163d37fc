#include "ctl/folder_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "common/io/files.h"

namespace iw::ctl {
namespace {

constexpr std::uint32_t kNames =
    IN_CREATE | IN_MOVED_TO | IN_MOVE_SELF | IN_DELETE_SELF | IN_ONLYDIR;

}  // namespace

Result<FolderWatch> FolderWatch::open(const std::string& folder, Interest interest) {
    io::UniqueFd fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!fd.valid()) return io::system_error("cannot watch", folder);
    const std::uint32_t events =
        interest == Interest::names ? kNames : kNames | static_cast<std::uint32_t>(IN_MODIFY);
    if (::inotify_add_watch(fd.get(), folder.c_str(), events) < 0) {
        return io::system_error("cannot watch", folder);
    }
    return FolderWatch(std::move(fd));
}

std::vector<FolderWatch::Change> FolderWatch::read() {
    std::vector<Change> changes;
    alignas(inotify_event) std::array<char, 16384> buffer{};
    while (true) {
        const ssize_t size = ::read(fd_.get(), buffer.data(), buffer.size());
        if (size <= 0) return changes;
        std::size_t at = 0;
        while (at < static_cast<std::size_t>(size)) {
            inotify_event event{};
            std::memcpy(&event, buffer.data() + at, sizeof event);
            // The name behind an event is padded with zeros.
            const char* name = event.len > 0 ? buffer.data() + at + sizeof event : "";
            changes.push_back({.name = name,
                               .appeared = (event.mask & (IN_CREATE | IN_MOVED_TO)) != 0,
                               .folder_gone = (event.mask & (IN_MOVE_SELF | IN_DELETE_SELF)) != 0});
            at += sizeof event + event.len;
        }
    }
}

}  // namespace iw::ctl
