#pragma once

// Deliverables on their way into a folder: blobs come piece by piece into `.incoming-<random>`
// inside that folder, are checked against their SHA-256, and take their places by rename once all
// are there. The folder is held open: who moves it takes along what came so far. A process that
// dies leaves what it had; the next one goes on with it. Not thread safe.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/io/unique_fd.h"
#include "common/workspace/deliverables.h"

namespace iw::workspace {

class Incoming {
  public:
    struct Wanted {
        std::string blob;  // SHA-256
        std::uint64_t size = 0;
        std::uint64_t have = 0;  // where the next piece begins
    };

    // What to do while another process brings files into the folder.
    enum class Busy { refuse, wait };
    // not_found: no such folder (a link is none); conflict: another process is at it.
    static Result<Incoming> open(const std::string& folder, Busy busy);
    // conflict: another process is at it. A folder that is missing is free.
    static Status free(const std::string& folder);
    ~Incoming();
    Incoming(Incoming&&) noexcept;
    Incoming& operator=(Incoming&&) noexcept;

    // What has to come: once, before all below. Takes up what an earlier process left. storage_low:
    // there is not enough disk for it.
    Status expect(Manifest manifest);
    // At most `max` blobs that are not there yet, in the order of their names.
    std::vector<Wanted> wanted(std::size_t max) const;
    // A piece that does not begin where the next one has to is ignored. conflict: the checksum of
    // the whole is wrong, or it is too long; it begins anew. storage_low: the disk is full.
    Status append(const std::string& blob, std::uint64_t offset, std::string_view bytes);
    // Goes on without a blob that is nowhere any more; how many files are missing for it.
    std::size_t give_up(const std::string& blob);
    bool complete() const { return missing_.empty(); }
    // Files and folders in their places, result.json last; only when complete. May be repeated
    // after an error. What stands in the way (a link, a folder) goes aside, never followed.
    Status install();
    // Removes what came so far.
    void discard();

    // Whether the opened folder is still the one at `path`.
    bool stands_at(const std::string& path) const;

  private:
    struct Part;
    explicit Incoming(io::UniqueFd folder);

    Status open_staging();
    Status check_room() const;
    void find_parts();
    bool is_installed(const DeliveredFile& file) const;
    bool is_whole(const DeliveredFile& file) const;
    Error drop(const std::string& blob, Part& part, const std::string& why);
    Status finish(const std::string& blob, Part& part);
    Status install_file(const DeliveredFile& file, bool last_use);
    Result<io::UniqueFd> folder_of(const std::string& path);

    io::UniqueFd folder_;
    io::UniqueFd staging_;
    std::string staging_name_;
    Manifest manifest_;                    // of what is not in its place yet
    std::map<std::string, Part> missing_;  // by blob
};

}  // namespace iw::workspace
