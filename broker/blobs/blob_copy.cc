#include "broker/blobs/blob_copy.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "broker/blobs/blob_files.h"
#include "common/io/files.h"

namespace iw::broker {
namespace {

constexpr mode_t kPrivateFolder = 0700;
constexpr std::size_t kPiece = 1u << 20;

enum class Copied { yes, gone, damaged, no_room };

bool write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t put = ::write(fd, bytes.data(), bytes.size());
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return true;
}

// Whether the bytes of the file can be read and have the name; each piece also goes to `copy`, if
// that is one.
Result<bool> check_bytes(int fd, int copy, const std::string& path, const std::string& name) {
    io::Sha256 sum;
    std::uint64_t offset = 0;
    while (true) {
        const Result<std::string> piece = read_at(fd, offset, kPiece, path);
        if (!piece) return false;
        if (piece->empty()) return sum.finish_hex() == name;
        sum.add(*piece);
        offset += piece->size();
        if (copy < 0) continue;
        if (!write_all(copy, *piece)) {
            const bool full = errno == ENOSPC || errno == EDQUOT;
            Error error = io::system_error("cannot copy", path);
            if (full) error.code = ErrorCode::storage_low;
            return error;
        }
        // A large copy written back by one sync at the end would stall the journal's.
        ::sync_file_range(copy, 0, 0, SYNC_FILE_RANGE_WRITE);
    }
}

class Copier {
  public:
    explicit Copier(const BlobCopyPlan& plan) : plan_(plan) {}

    Result<BlobCopy> run();

  private:
    Status take(const BlobFile& file);
    Result<Copied> bring(const BlobFile& file);
    Result<Copied> copy(const BlobFile& file, const std::string& from, const std::string& to);
    Result<Copied> judge(const BlobFile& file, const std::string& from, Copied linked);

    const BlobCopyPlan& plan_;
    BlobCopy done_;
    std::string folder_;  // that was made last
};

// A link shares its bytes, so that what is damaged there is damaged here.
Result<Copied> Copier::judge(const BlobFile& file, const std::string& from, Copied linked) {
    if (!plan_.verify) return linked;
    const io::UniqueFd fd = open_blob(from, O_RDONLY);
    if (!fd.valid()) return errno == ENOENT ? Copied::gone : Copied::damaged;
    const Result<bool> good = check_bytes(fd.get(), -1, from, file.name);
    return good.ok() && *good ? linked : Copied::damaged;
}

Result<Copied> Copier::copy(const BlobFile& file, const std::string& from, const std::string& to) {
    const io::UniqueFd fd = open_blob(from, O_RDONLY);
    if (!fd.valid()) return errno == ENOENT ? Copied::gone : Copied::damaged;
    if (io::free_bytes(plan_.to) < plan_.reserve + charge_of(file.size)) return Copied::no_room;
    const io::UniqueFd copy = open_blob(to, O_WRONLY | O_CREAT | O_EXCL);
    if (!copy.valid()) return io::system_error("cannot make", to);
    const Result<bool> good = check_bytes(fd.get(), copy.get(), from, file.name);
    if (good.ok() && *good) return Copied::yes;
    static_cast<void>(io::remove_file(to));
    if (!good.ok() && good.error().code == ErrorCode::storage_low) return Copied::no_room;
    if (!good.ok()) return good.error();
    return io::exists(from) ? Copied::damaged : Copied::gone;
}

Result<Copied> Copier::bring(const BlobFile& file) {
    const std::string from = plan_.from + "/" + file.path();
    const std::string to = plan_.to + "/" + file.path();
    const Result<Copied> sound = judge(file, from, Copied::yes);
    if (!sound || *sound != Copied::yes) return sound;
    if (::link(from.c_str(), to.c_str()) == 0) return Copied::yes;
    if (errno == ENOENT) return Copied::gone;
    const std::string earlier = plan_.earlier + "/" + file.path();
    if (!plan_.earlier.empty() && ::link(earlier.c_str(), to.c_str()) == 0) return Copied::yes;
    return copy(file, from, to);
}

Status Copier::take(const BlobFile& file) {
    const std::string to = plan_.to + "/" + file.path();
    if (file.is_part || io::exists(to)) return Done{};
    const std::string folder = io::parent_folder(to);
    if (folder != folder_) {
        if (Status made = io::make_folders(folder, kPrivateFolder); !made) return made;
        folder_ = folder;
    }
    const Result<Copied> copied = bring(file);
    if (!copied) return copied.error();
    switch (*copied) {
        case Copied::yes:
            ++done_.files;
            done_.bytes += file.size;
            break;
        case Copied::gone:
            break;
        case Copied::damaged:
            ++done_.damaged;
            break;
        case Copied::no_room:
            ++done_.left_out;
            break;
    }
    return Done{};
}

// One sync of the file system instead of one for each of many small files and folders.
Result<BlobCopy> Copier::run() {
    if (const Status made = io::make_folders(plan_.to, kPrivateFolder); !made) return made.error();
    const Status taken = each_blob(plan_.from, [this](const BlobFile& file) { return take(file); });
    if (!taken) return taken.error();
    const io::UniqueFd fd(::open(plan_.to.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid() || ::syncfs(fd.get()) != 0) return io::system_error("cannot sync", plan_.to);
    return done_;
}

}  // namespace

Result<BlobCopy> copy_blobs(const BlobCopyPlan& plan) {
    return Copier(plan).run();
}

}  // namespace iw::broker
