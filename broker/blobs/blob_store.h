#pragma once

// The deliverables of sessions as files, each named by the SHA-256 of its bytes. They come chunk by
// chunk, from the front on, and count only when whole, verified and synced. No sockets, threads or
// clocks; one owner, one thread (the caller's). Every call does a bounded piece of work, at most
// about a third of a second of a slow disk. Files and promise: broker/STORE.md.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/io/entropy.h"

namespace iw::broker {

struct BlobOptions {
    std::string folder;           // absolute; made when it is missing
    std::uint64_t bytes_max = 0;  // that all blobs may take, in blocks of 4 KiB
    std::uint64_t reserve = 0;    // bytes that stay free on the disk of `folder`
};

struct BlobChunk {
    std::string blob;            // its name: SHA-256, 64 hex characters
    std::uint64_t size = 0;      // of the whole blob
    std::uint64_t size_max = 0;  // that this blob may have
    std::uint64_t all_max = 0;   // that all blobs of the attempt may have together
    std::uint64_t offset = 0;    // of `data` in it
    std::string data;            // empty: only asks
};

struct BlobPiece {
    std::string data;        // empty only at the end
    std::uint64_t size = 0;  // of the whole blob
};

class BlobStore {
  public:
    // Looks at every file once, to know what is held. io: the folder cannot be made.
    static Result<std::unique_ptr<BlobStore>> open(BlobOptions options);

    // Bytes that are held now; `size`: the blob is whole, verified and on disk. A chunk whose
    // offset is not what is held changes nothing. What any attempt of the session holds counts as
    // held.
    // bad_request: a name, an id or an offset that is none. too_large: over size_max or
    // all_max. conflict: the bytes are not those of the name, or not so many; what was held of them
    // is dropped. storage_low: quota or disk; what is held stays. rate_limited: after a restart the
    // bytes held are being read again; repeat. io: what was held of it is dropped.
    Result<std::uint64_t> put(const AttemptRef& attempt, const BlobChunk& chunk);
    // At most `max` bytes of a whole blob of any attempt of the session. not_found: not held (any
    // more). bad_request: a name that is none, or an offset behind its end. io: cannot be read.
    Result<BlobPiece> get(const SessionId& session, const std::string& blob, std::uint64_t offset,
                          std::size_t max) const;

    // No attempt of the session is out: nobody completes what is unfinished.
    void drop_partials(const SessionId& session);
    // Sessions of which something is unfinished, sorted.
    std::vector<SessionId> unfinished() const;
    bool has_unfinished() const { return !partials_.empty(); }
    // Sessions of which something is held, sorted.
    std::vector<SessionId> sessions() const;
    // Removes a bounded piece of what is held of a session; true: there is more.
    Result<bool> remove_some(const SessionId& session);

    // What is held and what unfinished blobs will take besides, in blocks of 4 KiB.
    std::uint64_t bytes() const { return bytes_; }
    std::uint64_t bytes_max() const { return options_.bytes_max; }

  private:
    // A blob of which bytes are missing or not verified.
    struct Partial {
        std::uint64_t size = 0;     // as it was last announced; 0: not since the start
        std::uint64_t have = 0;     // bytes of the file
        std::uint64_t hashed = 0;   // of these went into `sum`
        std::uint64_t charged = 0;  // part of bytes_
        std::uint64_t counted = 0;  // part of its attempt's in of_attempts_
        std::uint64_t used = 0;     // when it was last put to: a count, not a time
        std::unique_ptr<io::Sha256> sum;
    };
    using Partials = std::map<std::string, Partial>;  // by path below the folder, without suffix

    explicit BlobStore(BlobOptions options) : options_(std::move(options)) {}
    Status count();
    Status check_form(const AttemptRef& attempt, const BlobChunk& chunk) const;
    // Where a whole blob is, in any attempt of the session; empty: nowhere.
    std::string find(const SessionId& session, const std::string& blob) const;
    Result<std::uint64_t> size_held(const std::string& path, const BlobChunk& chunk) const;

    Result<Partials::iterator> begin(const std::string& path, const BlobChunk& chunk);
    void make_place(const std::string& path);
    Status announce(Partials::iterator partial, const BlobChunk& chunk);
    Status check_attempt(const std::string& path, std::uint64_t size, std::uint64_t counted,
                         std::uint64_t all_max) const;
    void count_blob(const std::string& attempt, std::uint64_t before, std::uint64_t now);
    Status check_room(std::uint64_t charge, std::uint64_t charged, std::uint64_t bytes) const;
    Status append(Partials::iterator partial, std::string_view data);
    Status hash_more(Partials::iterator partial);
    Result<std::uint64_t> finish(Partials::iterator partial);
    Status publish(Partials::iterator partial, int fd);
    void drop(Partials::iterator partial);
    void forget(Partials::iterator partial);
    Error dropped(Partials::iterator partial, Error error);
    std::string part_path(Partials::iterator partial) const;
    bool remove_files(const std::string& attempt, std::size_t& files_left, Status& done);

    BlobOptions options_;
    Partials partials_;
    std::uint64_t bytes_ = 0;
    // By folder: the sizes of an attempt's blobs, whole or announced.
    std::map<std::string, std::uint64_t> of_attempts_;
    std::uint64_t uses_ = 0;
};

}  // namespace iw::broker
