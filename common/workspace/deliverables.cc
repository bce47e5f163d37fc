#include "common/workspace/deliverables.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/workspace/folders.h"

namespace iw::workspace {
namespace {

constexpr std::size_t kDepthMax = 64;
constexpr std::size_t kReadBytes = 256u << 10;
// Folders and odd files count here, too: a tree of nothing but folders ends somewhere.
constexpr std::size_t kEntriesPerFile = 5;
constexpr std::size_t kNameShown = 200;
constexpr mode_t kAnyExecute = S_IXUSR | S_IXGRP | S_IXOTH;
constexpr int kRead = O_RDONLY | O_NONBLOCK | O_NOCTTY;

std::string megabytes(std::uint64_t bytes) {
    return std::to_string(bytes / 1'000'000) + " MB";
}

struct Version {
    std::uint64_t inode = 0;
    std::int64_t size = 0;
    std::int64_t changed_ns = 0;
    bool operator==(const Version&) const = default;
};

Version version_of(const struct stat& info) {
    return {.inode = info.st_ino,
            .size = info.st_size,
            .changed_ns = static_cast<std::int64_t>(info.st_mtim.tv_sec) * 1'000'000'000 +
                          info.st_mtim.tv_nsec};
}

ssize_t read_at(int fd, char* buffer, std::size_t size, std::uint64_t offset) {
    ssize_t count = -1;
    do {
        count = ::pread(fd, buffer, size, static_cast<off_t>(offset));
    } while (count < 0 && errno == EINTR);
    return count;
}

std::string_view kind_of(mode_t mode) {
    if (S_ISLNK(mode)) return "a link";
    if (S_ISFIFO(mode)) return "a fifo";
    if (S_ISSOCK(mode)) return "a socket";
    return "no regular file";
}

}  // namespace

struct Collector::Hashing {
    io::UniqueFd fd;
    Version version;
    io::Sha256 hash;
    std::uint64_t size = 0;
    bool executable = false;
};

Collector::Collector(const std::string& workspace, Limits limits)
    : limits_(limits), folder_(open_folder(AT_FDCWD, workspace)) {
    if (!folder_.valid()) return;
    list(folder_, "", 1);
    for (const auto& [path, found] : found_)
        to_hash_.push_back(path);
    check_limits();
}

Collector::~Collector() = default;
Collector::Collector(Collector&&) noexcept = default;
Collector& Collector::operator=(Collector&&) noexcept = default;

// ---- Names -------------------------------------------------------------------------------------

void Collector::list(const io::UniqueFd& folder, const std::string& front, std::size_t depth) {
    const std::optional<std::vector<std::string>> names = names_in(folder.get());
    if (!names) return leave_out(front, "the folder cannot be read");
    for (const std::string& name : *names) {
        if (++entries_ > limits_.files_max * kEntriesPerFile) {
            over_ = "more than " + std::to_string(limits_.files_max * kEntriesPerFile) + " names";
        }
        if (!over_.empty()) return;
        take(folder, name, front + name, depth);
    }
}

void Collector::take(const io::UniqueFd& folder, const std::string& name, const std::string& path,
                     std::size_t depth) {
    struct stat info {};
    if (::fstatat(folder.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return;
    if (S_ISDIR(info.st_mode)) {
        // What is ours holds nothing that travels.
        if (depth == 1 && name.starts_with(kIncomingPrefix)) return;
        if (depth >= kDepthMax) return leave_out(path, "too deep");
        const io::UniqueFd inner = open_folder(folder.get(), name);
        if (!inner.valid()) return leave_out(path, "the folder cannot be opened");
        return list(inner, path + "/", depth + 1);
    }
    const bool own = depth == 1 && (name == "prompt.md" || name == "state.json" ||
                                    name == "session.log" || name.starts_with(".state.json."));
    if (own) return;
    if (!S_ISREG(info.st_mode)) return leave_out(path, std::string(kind_of(info.st_mode)));
    if (!is_deliverable_path(path)) return leave_out(path, "its name may not travel");
    Found found;
    found.file.path = path;
    found.file.size = static_cast<std::uint64_t>(info.st_size);
    bytes_ += found.file.size;
    found_.emplace(path, std::move(found));
    check_limits();
}

void Collector::leave_out(const std::string& path, const std::string& why) {
    if (left_out_.size() == kLeftOutMax) {
        ++left_out_more_;
        return;
    }
    left_out_.push_back(short_line(path, kNameShown) + ": " + why);
}

std::vector<std::string> Collector::left_out() const {
    std::vector<std::string> lines = left_out_;
    if (left_out_more_ > 0) lines.push_back("and " + std::to_string(left_out_more_) + " more");
    return lines;
}

void Collector::check_limits() {
    if (!over_.empty()) return;
    if (found_.size() > limits_.files_max)
        over_ = "more than " + std::to_string(limits_.files_max) + " files";
    if (bytes_ > limits_.bytes_max)
        over_ = megabytes(bytes_) + " > " + megabytes(limits_.bytes_max);
}

// ---- Content -----------------------------------------------------------------------------------

void Collector::step(std::uint64_t bytes) {
    std::string buffer(kReadBytes, '\0');
    std::uint64_t read_bytes = 0;
    while (!done() && read_bytes < bytes) {
        if (hashing_ == nullptr) begin();
        if (hashing_ == nullptr) continue;
        const ssize_t count =
            read_at(hashing_->fd.get(), buffer.data(), buffer.size(), hashing_->size);
        // A file costs something even when it holds nothing.
        read_bytes += 4096 + (count > 0 ? static_cast<std::uint64_t>(count) : 0);
        if (count <= 0) {
            finish();
            continue;
        }
        hashing_->hash.add({buffer.data(), static_cast<std::size_t>(count)});
        hashing_->size += static_cast<std::uint64_t>(count);
        // It grows as fast as it is read: enough was seen to know that it changed.
        if (hashing_->size > static_cast<std::uint64_t>(hashing_->version.size)) finish();
    }
}

void Collector::begin() {
    const std::string& path = to_hash_.front();
    auto hashing = std::make_unique<Hashing>();
    hashing->fd = open_beneath(folder_.get(), path, kRead);
    struct stat info {};
    const bool there = hashing->fd.valid() && ::fstat(hashing->fd.get(), &info) == 0;
    if (!there || !S_ISREG(info.st_mode)) {
        const bool denied = !hashing->fd.valid() && errno != ENOENT;
        leave_out(path, denied ? "it cannot be read" : "it vanished");
        bytes_ -= found_.at(path).file.size;
        found_.erase(path);
        to_hash_.pop_front();
        return;
    }
    hashing->version = version_of(info);
    hashing->executable = (info.st_mode & kAnyExecute) != 0;
    hashing_ = std::move(hashing);
}

void Collector::finish() {
    const std::string path = to_hash_.front();
    const std::unique_ptr<Hashing> hashed = std::move(hashing_);
    to_hash_.pop_front();
    struct stat info {};
    const bool same = ::fstat(hashed->fd.get(), &info) == 0 &&
                      version_of(info) == hashed->version &&
                      hashed->size == static_cast<std::uint64_t>(hashed->version.size);
    if (!same) return read_anew(path);
    DeliveredFile& file = found_.at(path).file;
    bytes_ += hashed->size - file.size;
    file.size = hashed->size;
    file.sha256 = hashed->hash.finish_hex();
    file.executable = hashed->executable;
    check_limits();
}

void Collector::read_anew(const std::string& path) {
    const auto found = found_.find(path);
    if (found == found_.end()) return;
    if (++found->second.tries < kTriesMax) {
        to_hash_.push_back(path);
        return;
    }
    leave_out(path, "it goes on changing");
    bytes_ -= found->second.file.size;
    found_.erase(found);
}

Manifest Collector::manifest() const {
    Manifest manifest;
    manifest.files.reserve(found_.size());
    for (const auto& [path, found] : found_)
        manifest.files.push_back(found.file);
    manifest.left_out = left_out();
    return manifest;
}

Result<std::string> Collector::read(const std::string& path, std::uint64_t offset,
                                    std::size_t size) const {
    const io::UniqueFd fd = open_beneath(folder_.get(), path, kRead);
    struct stat info {};
    if (!fd.valid() || ::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode))
        return make_error(ErrorCode::not_found, path + " is not there any more");
    std::string bytes(size, '\0');
    std::size_t have = 0;
    while (have < size) {
        const ssize_t count = read_at(fd.get(), bytes.data() + have, size - have, offset + have);
        if (count < 0) return io::system_error("cannot read", path);
        if (count == 0) break;
        have += static_cast<std::size_t>(count);
    }
    bytes.resize(have);
    return bytes;
}

}  // namespace iw::workspace
