#include "broker/blobs/blob_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "broker/blobs/blob_files.h"
#include "common/base/check.h"
#include "common/base/text.h"
#include "common/io/files.h"

namespace iw::broker {
namespace {

constexpr mode_t kPrivateFolder = 0700;
// A sender sends a few files at a time; what it begins beyond that it has given up.
constexpr std::size_t kPartialsPerAttemptMax = 64;
// Of a file that a restart left unfinished; the checksum needs all of it again.
constexpr std::uint64_t kHashPieceMax = 64u << 20;
constexpr std::size_t kReadPiece = 1u << 20;
// The disk is set to work as a file grows, so that the sync at its end is short.
constexpr std::uint64_t kWriteBehind = 8u << 20;
constexpr std::size_t kRemovedFilesMax = 100;

// False with errno set. A write that takes nothing counts as a full disk.
bool write_at(int fd, std::string_view data, std::uint64_t offset) {
    while (!data.empty()) {
        const ssize_t put = ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return false;
        if (put == 0) {
            errno = ENOSPC;
            return false;
        }
        data.remove_prefix(static_cast<std::size_t>(put));
        offset += static_cast<std::uint64_t>(put);
    }
    return true;
}

bool is_full(int error) {
    return error == ENOSPC || error == EDQUOT;
}

Error bad_name(const std::string& what, const std::string& text) {
    return make_error(ErrorCode::bad_request,
                      what + " \"" + printable(text.substr(0, kReadPiece >> 12), true) + "\"");
}

std::string mib(std::uint64_t bytes) {
    return std::to_string(bytes >> 20) + " MiB";
}

Status check_names(const SessionId& session, const std::string& blob) {
    if (!is_session_id(session.str())) return bad_name("no id of a session:", session.str());
    if (!is_blob_name(blob)) return bad_name("no name of a blob (SHA-256 in hex):", blob);
    return Done{};
}

}  // namespace

// ---- Opening -----------------------------------------------------------------------------------

Result<std::unique_ptr<BlobStore>> BlobStore::open(BlobOptions options) {
    const Status made = io::make_durable_folders(options.folder, kPrivateFolder);
    if (!made) return made.error();
    std::unique_ptr<BlobStore> store(new BlobStore(std::move(options)));
    const Status counted = store->count();
    if (!counted) return counted.error();
    return store;
}

Status BlobStore::count() {
    return each_blob(options_.folder, [this](const BlobFile& file) -> Status {
        bytes_ += charge_of(file.size);
        count_blob(file.session + "/" + file.attempt, 0, file.size);
        if (!file.is_part) return Done{};
        BlobFile whole = file;
        whole.is_part = false;
        partials_[whole.path()] = {.size = 0,
                                   .have = file.size,
                                   .hashed = 0,
                                   .charged = charge_of(file.size),
                                   .counted = file.size,
                                   .used = 0,
                                   .sum = std::make_unique<io::Sha256>()};
        return Done{};
    });
}

// ---- Putting -----------------------------------------------------------------------------------

Status BlobStore::check_form(const AttemptRef& attempt, const BlobChunk& chunk) const {
    if (Status names = check_names(attempt.session, chunk.blob); !names) return names;
    if (chunk.size > chunk.size_max) {
        return make_error(ErrorCode::too_large, "a blob of " + std::to_string(chunk.size) +
                                                    " bytes; of this session it may have " +
                                                    std::to_string(chunk.size_max));
    }
    if (chunk.offset > chunk.size || chunk.data.size() > chunk.size - chunk.offset) {
        return make_error(ErrorCode::bad_request,
                          "a chunk that reaches behind the end of its blob");
    }
    return Done{};
}

std::string BlobStore::find(const SessionId& session, const std::string& blob) const {
    const std::string folder = options_.folder + "/" + session.str();
    for (const std::string& attempt : io::list_folder(folder)) {
        std::string path = folder + "/" + attempt + "/" + blob;
        if (is_attempt_folder(attempt) && io::exists(path)) return path;
    }
    return "";
}

Result<std::uint64_t> BlobStore::size_held(const std::string& path, const BlobChunk& chunk) const {
    struct stat about {};
    if (::lstat(path.c_str(), &about) != 0) return io::system_error("cannot examine", path);
    const auto size = static_cast<std::uint64_t>(about.st_size);
    if (size == chunk.size) return size;
    return make_error(ErrorCode::conflict, "blob " + chunk.blob + " has " + std::to_string(size) +
                                               " bytes, not " + std::to_string(chunk.size));
}

Result<std::uint64_t> BlobStore::put(const AttemptRef& attempt, const BlobChunk& chunk) {
    if (const Status form = check_form(attempt, chunk); !form) return form.error();
    const std::string path =
        attempt.session.str() + "/" + attempt_folder(attempt.fence) + "/" + chunk.blob;
    auto partial = partials_.find(path);
    if (partial == partials_.end()) {
        const std::string held = find(attempt.session, chunk.blob);
        if (!held.empty()) return size_held(held, chunk);
        // What is empty is whole when it begins; everything else begins with its first bytes.
        if (chunk.size > 0 && (chunk.data.empty() || chunk.offset > 0)) return std::uint64_t{0};
        Result<Partials::iterator> begun = begin(path, chunk);
        if (!begun) return begun.error();
        partial = *begun;
    }
    partial->second.used = ++uses_;
    if (partial->second.size != chunk.size) {
        if (const Status announced = announce(partial, chunk); !announced) return announced.error();
        if (partial->second.have > chunk.size) {
            drop(partial);
            return std::uint64_t{0};
        }
    }
    if (chunk.offset == partial->second.have && !chunk.data.empty()) {
        if (const Status appended = append(partial, chunk.data); !appended) return appended.error();
    }
    if (const Status hashed = hash_more(partial); !hashed) return hashed.error();
    if (partial->second.have < partial->second.size) return partial->second.have;
    return finish(partial);
}

std::string BlobStore::part_path(Partials::iterator partial) const {
    return options_.folder + "/" + partial->first + std::string(kPartSuffix);
}

Result<BlobStore::Partials::iterator> BlobStore::begin(const std::string& path,
                                                       const BlobChunk& chunk) {
    make_place(path);
    if (Status fits = check_attempt(path, chunk.size, 0, chunk.all_max); !fits) return fits.error();
    const std::uint64_t charge = charge_of(chunk.size);
    if (const Status room = check_room(charge, 0, chunk.size); !room) return room.error();
    const std::string file = options_.folder + "/" + path + std::string(kPartSuffix);
    const Status made = io::make_durable_folders(io::parent_folder(file), kPrivateFolder);
    if (!made) return made.error();
    // Cut: what could not be removed earlier may still be there.
    const io::UniqueFd fd = open_blob(file, O_RDWR | O_CREAT | O_TRUNC);
    if (!fd.valid() && is_full(errno))
        return make_error(ErrorCode::storage_low, "the disk of the broker's blobs is full");
    if (!fd.valid()) return io::system_error("cannot make", file);
    bytes_ += charge;
    count_blob(io::parent_folder(path), 0, chunk.size);
    return partials_
        .insert_or_assign(path, Partial{.size = chunk.size,
                                        .have = 0,
                                        .hashed = 0,
                                        .charged = charge,
                                        .counted = chunk.size,
                                        .used = 0,
                                        .sum = std::make_unique<io::Sha256>()})
        .first;
}

// The one that has waited longest goes, when an attempt has begun too many.
void BlobStore::make_place(const std::string& path) {
    const std::string folder = io::parent_folder(path) + "/";
    auto oldest = partials_.end();
    std::size_t count = 0;
    for (auto each = partials_.lower_bound(folder);
         each != partials_.end() && each->first.starts_with(folder); ++each) {
        ++count;
        if (oldest == partials_.end() || each->second.used < oldest->second.used) oldest = each;
    }
    if (count >= kPartialsPerAttemptMax) drop(oldest);
}

// How large it will be is new: after a restart, or since its sender has found the file changed.
Status BlobStore::announce(Partials::iterator partial, const BlobChunk& chunk) {
    Partial& about = partial->second;
    const std::uint64_t size = chunk.size;
    const std::uint64_t counted = std::max(size, about.have);
    if (Status fits = check_attempt(partial->first, counted, about.counted, chunk.all_max); !fits)
        return fits;
    const std::uint64_t charge = charge_of(std::max(size, about.have));
    const std::uint64_t missing = size > about.have ? size - about.have : 0;
    if (Status room = check_room(charge, about.charged, missing); !room) return room;
    bytes_ = bytes_ - about.charged + charge;
    about.charged = charge;
    count_blob(io::parent_folder(partial->first), about.counted, counted);
    about.counted = counted;
    about.size = size;
    return Done{};
}

// Each blob within its limit would else let the attempt as a whole fill the quota, and there would
// be no room for the files of others.
Status BlobStore::check_attempt(const std::string& path, std::uint64_t size, std::uint64_t counted,
                                std::uint64_t all_max) const {
    const auto known = of_attempts_.find(io::parent_folder(path));
    const std::uint64_t others = known == of_attempts_.end() ? 0 : known->second - counted;
    if (size <= counted || (others <= all_max && size <= all_max - others)) return Done{};
    return make_error(ErrorCode::too_large,
                      "the files of this attempt have more than " + mib(all_max) + " together");
}

void BlobStore::count_blob(const std::string& attempt, std::uint64_t before, std::uint64_t now) {
    std::uint64_t& bytes = of_attempts_[attempt];
    IW_CHECK(bytes >= before);
    bytes = bytes - before + now;
    if (bytes == 0) of_attempts_.erase(attempt);
}

// All of a blob gets its place in the quota when it begins: two that grow side by side would else
// fill it up and both wait for ever.
Status BlobStore::check_room(std::uint64_t charge, std::uint64_t charged,
                             std::uint64_t bytes) const {
    const std::uint64_t others = bytes_ - charged;
    if (charge > charged && (others > options_.bytes_max || charge > options_.bytes_max - others)) {
        return make_error(ErrorCode::storage_low,
                          "the broker's blobs take " + mib(others) + " of " +
                              mib(options_.bytes_max) + ", and this one needs " + mib(charge) +
                              ": raise broker.blobs_max, or wait until sessions expire");
    }
    const std::uint64_t free = io::free_bytes(options_.folder);
    if (options_.reserve == 0 || (free >= bytes && free - bytes >= options_.reserve)) return Done{};
    return make_error(ErrorCode::storage_low, "the disk of the broker's blobs has " + mib(free) +
                                                  " free, of which " + mib(options_.reserve) +
                                                  " are kept; make room there");
}

Status BlobStore::append(Partials::iterator partial, std::string_view data) {
    Partial& about = partial->second;
    if (Status room = check_room(0, 0, data.size()); !room) return room;
    const std::string path = part_path(partial);
    const io::UniqueFd fd = open_blob(path, O_RDWR);
    if (!fd.valid()) return dropped(partial, io::system_error("cannot open", path));
    if (!write_at(fd.get(), data, about.have)) {
        const bool full = is_full(errno);
        Error error = io::system_error("cannot write", path);
        const bool cut = ::ftruncate(fd.get(), static_cast<off_t>(about.have)) == 0;
        if (!full || !cut) return dropped(partial, std::move(error));
        return make_error(ErrorCode::storage_low, "the disk of the broker's blobs is full");
    }
    const std::uint64_t before = about.have;
    about.have += data.size();
    if (about.hashed == before) {
        about.sum->add(data);
        about.hashed = about.have;
    }
    if (before / kWriteBehind != about.have / kWriteBehind)
        ::sync_file_range(fd.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
    return Done{};
}

Status BlobStore::hash_more(Partials::iterator partial) {
    Partial& about = partial->second;
    if (about.hashed == about.have) return Done{};
    const std::string path = part_path(partial);
    const io::UniqueFd fd = open_blob(path, O_RDONLY);
    if (!fd.valid()) return dropped(partial, io::system_error("cannot open", path));
    const std::uint64_t end = std::min(about.have, about.hashed + kHashPieceMax);
    while (about.hashed < end) {
        const auto wanted =
            static_cast<std::size_t>(std::min<std::uint64_t>(kReadPiece, end - about.hashed));
        const Result<std::string> piece = read_at(fd.get(), about.hashed, wanted, path);
        if (!piece) return dropped(partial, piece.error());
        if (piece->empty())
            return dropped(partial, make_error(ErrorCode::io, path + " has become shorter"));
        about.sum->add(*piece);
        about.hashed += piece->size();
    }
    return Done{};
}

Result<std::uint64_t> BlobStore::finish(Partials::iterator partial) {
    const Partial& about = partial->second;
    if (about.hashed < about.have) {
        return make_error(ErrorCode::rate_limited,
                          "the bytes that came before the broker's restart are being checked; "
                          "repeat this");
    }
    const std::uint64_t size = about.size;
    const std::string name = io::base_name(partial->first);
    if (about.sum->finish_hex() != name) {
        drop(partial);
        return make_error(ErrorCode::conflict,
                          "the bytes of blob " + name +
                              " are not those of its name; read the file again and send it anew");
    }
    const std::string path = part_path(partial);
    const io::UniqueFd fd = open_blob(path, O_RDONLY);
    if (!fd.valid()) return dropped(partial, io::system_error("cannot open", path));
    if (const Status published = publish(partial, fd.get()); !published) return published.error();
    partials_.erase(partial);
    return size;
}

// After a sync that failed nobody knows what is on the disk, and a second one could succeed
// without it: all of it has to come again.
Status BlobStore::publish(Partials::iterator partial, int fd) {
    const std::string part = part_path(partial);
    const std::string path = options_.folder + "/" + partial->first;
    if (::fsync(fd) != 0) return dropped(partial, io::system_error("cannot sync", part));
    if (std::rename(part.c_str(), path.c_str()) != 0)
        return dropped(partial, io::system_error("cannot rename", part));
    const Status synced = io::sync_folder(io::parent_folder(path));
    if (synced) return Done{};
    static_cast<void>(io::remove_file(path));
    return dropped(partial, synced.error());
}

Error BlobStore::dropped(Partials::iterator partial, Error error) {
    drop(partial);
    return error;
}

void BlobStore::drop(Partials::iterator partial) {
    // A file that cannot be removed is cut when the blob begins anew, and goes with its session.
    static_cast<void>(io::remove_large_file(part_path(partial)));
    forget(partial);
}

void BlobStore::forget(Partials::iterator partial) {
    IW_CHECK(bytes_ >= partial->second.charged);
    bytes_ -= partial->second.charged;
    count_blob(io::parent_folder(partial->first), partial->second.counted, 0);
    partials_.erase(partial);
}

// ---- Getting -----------------------------------------------------------------------------------

Result<BlobPiece> BlobStore::get(const SessionId& session, const std::string& blob,
                                 std::uint64_t offset, std::size_t max) const {
    if (const Status names = check_names(session, blob); !names) return names.error();
    const std::string path = find(session, blob);
    const io::UniqueFd fd = path.empty() ? io::UniqueFd() : open_blob(path, O_RDONLY);
    if (path.empty() || (!fd.valid() && errno == ENOENT)) {
        return make_error(ErrorCode::not_found,
                          "session " + session.str() + " has no blob " + blob + " here (any more)");
    }
    if (!fd.valid()) return io::system_error("cannot open", path);
    struct stat about {};
    if (::fstat(fd.get(), &about) != 0) return io::system_error("cannot examine", path);
    const auto size = static_cast<std::uint64_t>(about.st_size);
    if (offset > size) {
        return make_error(ErrorCode::bad_request, "blob " + blob + " ends at " +
                                                      std::to_string(size) + ", before offset " +
                                                      std::to_string(offset));
    }
    Result<std::string> data = read_at(fd.get(), offset, max, path);
    if (!data) return data.error();
    return BlobPiece{.data = std::move(*data), .size = size};
}

// ---- Removing ----------------------------------------------------------------------------------

void BlobStore::drop_partials(const SessionId& session) {
    const std::string folder = session.str() + "/";
    auto each = partials_.lower_bound(folder);
    while (each != partials_.end() && each->first.starts_with(folder)) {
        drop(each++);
    }
}

std::vector<SessionId> BlobStore::unfinished() const {
    std::vector<SessionId> ids;
    for (const auto& [path, partial] : partials_) {
        SessionId id(path.substr(0, path.find('/')));
        if (ids.empty() || ids.back() != id) ids.push_back(std::move(id));
    }
    return ids;
}

std::vector<SessionId> BlobStore::sessions() const {
    std::vector<SessionId> ids;
    for (std::string& name : io::list_folder(options_.folder)) {
        if (is_session_id(name)) ids.emplace_back(std::move(name));
    }
    return ids;
}

Result<bool> BlobStore::remove_some(const SessionId& session) {
    if (!is_session_id(session.str())) return bad_name("no id of a session:", session.str());
    const std::string folder = options_.folder + "/" + session.str();
    std::size_t files_left = kRemovedFilesMax;
    Status done = Done{};
    for (const std::string& attempt : io::list_folder(folder)) {
        if (remove_files(session.str() + "/" + attempt, files_left, done)) return true;
        if (!done) return done.error();
    }
    if (::rmdir(folder.c_str()) != 0 && errno != ENOENT)
        return io::system_error("cannot remove", folder);
    return false;
}

// True: there is more. The name goes before the bytes: a backup that links the file meanwhile
// either finds it whole or not at all.
bool BlobStore::remove_files(const std::string& attempt, std::size_t& files_left, Status& done) {
    const std::string folder = options_.folder + "/" + attempt;
    for (const std::string& name : io::list_folder(folder)) {
        if (files_left == 0) return true;
        --files_left;
        const std::string path = folder + "/" + name;
        struct stat about {};
        const bool known = ::lstat(path.c_str(), &about) == 0;
        const auto partial = partials_.find(attempt + "/" + name.substr(0, name.find('.')));
        if (name.ends_with(kPartSuffix) && partial != partials_.end()) {
            drop(partial);
            continue;
        }
        const std::string gone = folder + "/gone";
        if (name != "gone" && std::rename(path.c_str(), gone.c_str()) != 0) {
            done = io::system_error("cannot rename", path);
            return false;
        }
        done = io::remove_large_file(gone);
        if (!done) return false;
        if (!known || !is_blob_name(name)) continue;
        const auto size = static_cast<std::uint64_t>(about.st_size);
        bytes_ -= std::min(bytes_, charge_of(size));
        const auto counted = of_attempts_.find(attempt);
        if (counted != of_attempts_.end()) count_blob(attempt, std::min(counted->second, size), 0);
    }
    if (::rmdir(folder.c_str()) != 0 && errno != ENOENT)
        done = io::system_error("cannot remove", folder);
    return false;
}

}  // namespace iw::broker
