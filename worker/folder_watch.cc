#include "worker/folder_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cstring>

namespace iw::worker {
namespace {

constexpr std::size_t kBufferBytes = 64u << 10;

}  // namespace

Result<FolderWatch> FolderWatch::open() {
    io::UniqueFd fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!fd.valid()) return io::system_error("cannot watch folders:", "inotify");
    return FolderWatch(std::move(fd));
}

Status FolderWatch::add(const std::string& folder, std::uint32_t mask, OnChange on_change) {
    const int number = ::inotify_add_watch(fd_.get(), folder.c_str(), mask | IN_ONLYDIR);
    if (number < 0) return io::system_error("cannot watch", folder);
    by_number_[number] = Entry{.folder = folder, .on_change = std::move(on_change)};
    by_folder_[folder] = number;
    return Done{};
}

void FolderWatch::remove(const std::string& folder) {
    const auto found = by_folder_.find(folder);
    if (found == by_folder_.end()) return;
    ::inotify_rm_watch(fd_.get(), found->second);
    by_number_.erase(found->second);
    by_folder_.erase(found);
}

bool FolderWatch::read() {
    alignas(inotify_event) std::array<char, kBufferBytes> buffer{};
    bool whole = true;
    while (true) {
        const ssize_t size = ::read(fd_.get(), buffer.data(), buffer.size());
        if (size <= 0) return whole;
        for (std::size_t at = 0; at + sizeof(inotify_event) <= static_cast<std::size_t>(size);) {
            inotify_event event{};
            std::memcpy(&event, buffer.data() + at, sizeof event);
            const std::string name = event.len > 0 ? buffer.data() + at + sizeof event : "";
            at += sizeof event + event.len;
            if ((event.mask & IN_Q_OVERFLOW) != 0) whole = false;
            const auto found = by_number_.find(event.wd);
            if (found == by_number_.end()) continue;
            // A copy: the handler may add and remove.
            const Entry entry = found->second;
            if ((event.mask & IN_IGNORED) != 0) {
                by_number_.erase(found);
                const auto folder = by_folder_.find(entry.folder);
                if (folder != by_folder_.end() && folder->second == event.wd)
                    by_folder_.erase(folder);
                entry.on_change("");
                continue;
            }
            entry.on_change(name);
        }
    }
}

}  // namespace iw::worker
