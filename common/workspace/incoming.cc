#include "common/workspace/incoming.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>
#include <utility>

#include "common/base/check.h"
#include "common/io/files.h"
#include "common/workspace/folders.h"

namespace iw::workspace {
namespace {

constexpr mode_t kPlainMode = 0644;
constexpr mode_t kExecutableMode = 0755;
constexpr mode_t kStagingMode = 0700;
// Others need the disk, too: logs, and the orchestrator's own records.
constexpr std::uint64_t kRoomLeft = 16u << 20;
constexpr const char* kPartEnd = ".part";
constexpr const char* kCopy = "copy";
constexpr const char* kResult = "result.json";

Error failed(const std::string& what, const std::string& path) {
    const bool full = errno == ENOSPC || errno == EDQUOT;
    Error error = io::system_error(what, path);
    if (full) error.code = ErrorCode::storage_low;
    return error;
}

std::string megabytes(std::uint64_t bytes) {
    return std::to_string((bytes + 999'999) / 1'000'000) + " MB";
}

std::uint64_t size_of(int fd) {
    struct stat info {};
    return ::fstat(fd, &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}

// A file that nobody else has a name for: to write into a link of another file would change that.
io::UniqueFd open_own(int folder, const std::string& name) {
    io::UniqueFd fd = open_beneath(folder, name, O_RDWR | O_NONBLOCK);
    struct stat info {};
    const bool own =
        fd.valid() && ::fstat(fd.get(), &info) == 0 && S_ISREG(info.st_mode) && info.st_nlink == 1;
    return own ? std::move(fd) : io::UniqueFd();
}

io::UniqueFd make_own(int folder, const std::string& name) {
    ::unlinkat(folder, name.c_str(), 0);
    return io::UniqueFd(::openat(folder, name.c_str(),
                                 O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kPlainMode));
}

bool write_at(int fd, std::string_view bytes, std::uint64_t offset) {
    while (!bytes.empty()) {
        const ssize_t count = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        bytes.remove_prefix(static_cast<std::size_t>(count));
        offset += static_cast<std::uint64_t>(count);
    }
    return true;
}

// Of the first `size` bytes; shorter when the file is.
io::Sha256 hash_of(int fd, std::uint64_t size) {
    io::Sha256 hash;
    std::string buffer(256u << 10, '\0');
    std::uint64_t done = 0;
    while (done < size) {
        const std::size_t want = std::min<std::uint64_t>(buffer.size(), size - done);
        const ssize_t count = ::pread(fd, buffer.data(), want, static_cast<off_t>(done));
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) break;
        hash.add({buffer.data(), static_cast<std::size_t>(count)});
        done += static_cast<std::uint64_t>(count);
    }
    return hash;
}

bool copy_all(int from, int to) {
    std::string buffer(256u << 10, '\0');
    std::uint64_t done = 0;
    while (true) {
        const ssize_t count = ::pread(from, buffer.data(), buffer.size(), static_cast<off_t>(done));
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return count == 0;
        if (!write_at(to, {buffer.data(), static_cast<std::size_t>(count)}, done)) return false;
        done += static_cast<std::uint64_t>(count);
    }
}

}  // namespace

struct Incoming::Part {
    std::uint64_t size = 0;
    std::uint64_t have = 0;
    io::UniqueFd fd;  // while it is being written
    io::Sha256 hash;
};

Incoming::Incoming(io::UniqueFd folder) : folder_(std::move(folder)) {}
Incoming::~Incoming() = default;
Incoming::Incoming(Incoming&&) noexcept = default;
Incoming& Incoming::operator=(Incoming&&) noexcept = default;

Result<Incoming> Incoming::open(const std::string& folder, Busy busy) {
    io::UniqueFd fd = open_folder(AT_FDCWD, folder);
    if (!fd.valid()) return make_error(ErrorCode::not_found, folder + " is not there");
    if (::flock(fd.get(), busy == Busy::wait ? LOCK_EX : LOCK_EX | LOCK_NB) != 0) {
        return make_error(ErrorCode::conflict, "another process is bringing files into " + folder);
    }
    return Incoming(std::move(fd));
}

Status Incoming::free(const std::string& folder) {
    const Result<Incoming> opened = open(folder, Busy::refuse);
    if (opened || opened.error().code == ErrorCode::not_found) return Done{};
    return opened.error();
}

bool Incoming::stands_at(const std::string& path) const {
    return workspace::stands_at(folder_, path);
}

// ---- What has to come --------------------------------------------------------------------------

Status Incoming::expect(Manifest manifest) {
    manifest_ = std::move(manifest);
    std::erase_if(manifest_.files,
                  [this](const DeliveredFile& file) { return is_installed(file); });
    if (Status opened = open_staging(); !opened) return opened;
    find_parts();
    return check_room();
}

// After a crash in the middle of an install.
bool Incoming::is_installed(const DeliveredFile& file) const {
    const io::UniqueFd fd = open_beneath(folder_.get(), file.path, O_RDONLY | O_NONBLOCK);
    struct stat info {};
    if (!fd.valid() || ::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) return false;
    if (static_cast<std::uint64_t>(info.st_size) != file.size) return false;
    if (((info.st_mode & S_IXUSR) != 0) != file.executable) return false;
    return hash_of(fd.get(), file.size).finish_hex() == file.sha256;
}

Status Incoming::open_staging() {
    const std::vector<std::string> names =
        names_in(folder_.get()).value_or(std::vector<std::string>());
    for (const std::string& name : names) {
        if (!name.starts_with(kIncomingPrefix)) continue;
        staging_ = open_folder(folder_.get(), name);
        staging_name_ = name;
        if (staging_.valid()) return Done{};
    }
    staging_name_ = std::string(kIncomingPrefix) + io::random_hex(4);
    if (::mkdirat(folder_.get(), staging_name_.c_str(), kStagingMode) != 0)
        return failed("cannot create", staging_name_);
    staging_ = open_folder(folder_.get(), staging_name_);
    if (!staging_.valid()) return failed("cannot open", staging_name_);
    return Done{};
}

void Incoming::find_parts() {
    for (const DeliveredFile& file : manifest_.files) {
        // Nothing has to come for an empty file.
        if (file.size == 0 || missing_.contains(file.sha256)) continue;
        if (is_whole(file)) continue;
        Part part;
        part.size = file.size;
        const std::string name = file.sha256 + kPartEnd;
        part.fd = open_own(staging_.get(), name);
        const std::uint64_t have = part.fd.valid() ? size_of(part.fd.get()) : 0;
        // The last piece of a whole one was never checked: it comes again.
        if (have > 0 && have < file.size) {
            part.have = have;
            part.hash = hash_of(part.fd.get(), have);
        } else {
            ::unlinkat(staging_.get(), name.c_str(), 0);
        }
        // Not thousands of descriptors: each is opened again when a piece comes.
        part.fd.reset();
        missing_.emplace(file.sha256, std::move(part));
    }
}

// Checked once more: whoever wrote it is not known.
bool Incoming::is_whole(const DeliveredFile& file) const {
    const io::UniqueFd fd = open_own(staging_.get(), file.sha256);
    const bool whole = fd.valid() && size_of(fd.get()) == file.size &&
                       hash_of(fd.get(), file.size).finish_hex() == file.sha256;
    if (!whole) ::unlinkat(staging_.get(), file.sha256.c_str(), 0);
    return whole;
}

Status Incoming::check_room() const {
    std::uint64_t need = kRoomLeft;
    for (const auto& [blob, part] : missing_)
        need += part.size - part.have;
    // Each further place of a blob takes a copy.
    std::set<std::string_view> seen;
    for (const DeliveredFile& file : manifest_.files) {
        if (!seen.insert(file.sha256).second) need += file.size;
    }
    struct statvfs info {};
    if (::fstatvfs(folder_.get(), &info) != 0) return Done{};
    const std::uint64_t free = static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
    if (free >= need) return Done{};
    return make_error(ErrorCode::storage_low, "not enough disk for its files: " + megabytes(need) +
                                                  " are needed, " + megabytes(free) + " are free");
}

std::vector<Incoming::Wanted> Incoming::wanted(std::size_t max) const {
    std::vector<Wanted> list;
    for (const auto& [blob, part] : missing_) {
        if (list.size() == max) break;
        list.push_back({.blob = blob, .size = part.size, .have = part.have});
    }
    return list;
}

Status Incoming::append(const std::string& blob, std::uint64_t offset, std::string_view bytes) {
    const auto found = missing_.find(blob);
    if (found == missing_.end() || found->second.have != offset) return Done{};
    Part& part = found->second;
    if (bytes.size() > part.size - part.have) return drop(blob, part, "is longer than announced");
    const std::string name = blob + kPartEnd;
    if (!part.fd.valid()) {
        part.fd = part.have > 0 ? open_own(staging_.get(), name) : make_own(staging_.get(), name);
    }
    if (!part.fd.valid()) return failed("cannot open", name);
    if (!write_at(part.fd.get(), bytes, offset)) return failed("cannot write", name);
    part.hash.add(bytes);
    part.have += bytes.size();
    return part.have < part.size ? Status(Done{}) : finish(blob, part);
}

std::size_t Incoming::give_up(const std::string& blob) {
    if (const auto found = missing_.find(blob); found != missing_.end()) {
        static_cast<void>(drop(blob, found->second, ""));
        missing_.erase(found);
    }
    return std::erase_if(manifest_.files,
                         [&](const DeliveredFile& file) { return file.sha256 == blob; });
}

Error Incoming::drop(const std::string& blob, Part& part, const std::string& why) {
    ::unlinkat(staging_.get(), (blob + kPartEnd).c_str(), 0);
    const std::uint64_t size = part.size;
    part = Part{};
    part.size = size;
    return make_error(ErrorCode::conflict, "blob " + blob + " " + why);
}

Status Incoming::finish(const std::string& blob, Part& part) {
    if (part.hash.finish_hex() != blob) return drop(blob, part, "came with a wrong checksum");
    const std::string name = blob + kPartEnd;
    // What a failed write left may stand behind the end.
    const auto size = static_cast<off_t>(part.size);
    const bool synced = ::ftruncate(part.fd.get(), size) == 0 && ::fdatasync(part.fd.get()) == 0 &&
                        ::renameat(staging_.get(), name.c_str(), staging_.get(), blob.c_str()) == 0;
    if (!synced) {
        const Error error = failed("cannot sync", name);
        static_cast<void>(drop(blob, part, ""));
        return error;
    }
    missing_.erase(blob);
    return Done{};
}

// ---- Into place --------------------------------------------------------------------------------

Status Incoming::install() {
    IW_CHECK(complete());
    std::vector<DeliveredFile>& files = manifest_.files;
    // From the back; who sees the result sees everything else.
    std::ranges::stable_partition(files,
                                  [](const DeliveredFile& file) { return file.path == kResult; });
    std::map<std::string, std::size_t> uses;
    std::set<std::string> parents;
    for (const DeliveredFile& file : files) {
        ++uses[file.sha256];
        const auto slash = file.path.rfind('/');
        if (slash != std::string::npos) parents.insert(file.path.substr(0, slash));
    }
    while (!files.empty()) {
        const bool last_use = --uses[files.back().sha256] == 0;
        if (Status put = install_file(files.back(), last_use); !put) return put;
        files.pop_back();
    }
    for (const std::string& parent : parents)
        ::fsync(open_beneath(folder_.get(), parent, O_RDONLY | O_DIRECTORY).get());
    ::fsync(folder_.get());
    discard();
    return Done{};
}

Result<io::UniqueFd> Incoming::folder_of(const std::string& path) {
    io::UniqueFd folder(::fcntl(folder_.get(), F_DUPFD_CLOEXEC, 0));
    std::size_t start = 0;
    for (auto slash = path.find('/'); slash != std::string::npos; slash = path.find('/', start)) {
        Result<io::UniqueFd> inner =
            make_folder(folder.get(), path.substr(start, slash - start), path.substr(0, slash));
        if (!inner) return failed("cannot create", path.substr(0, slash));
        folder = std::move(*inner);
        start = slash + 1;
    }
    return folder;
}

Status Incoming::install_file(const DeliveredFile& file, bool last_use) {
    const bool moves = last_use && file.size > 0;
    const std::string source = moves ? file.sha256 : kCopy;
    const io::UniqueFd fd =
        moves ? open_own(staging_.get(), source) : make_own(staging_.get(), source);
    if (!fd.valid()) return failed("cannot open", source);
    if (!moves && file.size > 0) {
        const io::UniqueFd blob = open_own(staging_.get(), file.sha256);
        if (!blob.valid() || !copy_all(blob.get(), fd.get()) || ::fdatasync(fd.get()) != 0)
            return failed("cannot copy", file.path);
    }
    if (::fchmod(fd.get(), file.executable ? kExecutableMode : kPlainMode) != 0)
        return failed("cannot set the mode of", file.path);
    const Result<io::UniqueFd> parent = folder_of(file.path);
    if (!parent) return parent.error();
    const std::string name = io::base_name(file.path);
    const auto put = [&] {
        return ::renameat(staging_.get(), source.c_str(), parent->get(), name.c_str()) == 0;
    };
    if (put()) return Done{};
    // A folder, which no file replaces.
    if (errno == EISDIR || errno == ENOTEMPTY || errno == EEXIST) move_aside(parent->get(), name);
    return put() ? Status(Done{}) : Status(failed("cannot put into place", file.path));
}

void Incoming::discard() {
    for (const std::string& name : names_in(staging_.get()).value_or(std::vector<std::string>()))
        ::unlinkat(staging_.get(), name.c_str(), 0);
    ::unlinkat(folder_.get(), staging_name_.c_str(), AT_REMOVEDIR);
}

}  // namespace iw::workspace
