#pragma once

// The files that travel when a session runs elsewhere than where its project stands: every regular
// file of the workspace but the orchestrator's own. The runner collects them into a manifest, each
// named by its path and its SHA-256; the origin takes them in (common/workspace/incoming.h). Both
// sides are handed names by agents and by peers and trust none of them.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/io/entropy.h"
#include "common/io/unique_fd.h"

namespace iw::workspace {

inline constexpr std::size_t kManifestFilesMax = 20'000;
inline constexpr std::size_t kManifestBytesMax = 16u << 20;
// The folder in a workspace where files wait until all have come.
inline constexpr std::string_view kIncomingPrefix = ".incoming-";

struct DeliveredFile {
    std::string path;  // relative to the workspace; see is_deliverable_path
    std::uint64_t size = 0;
    std::string sha256;  // 64 hex digits
    bool executable = false;

    bool operator==(const DeliveredFile&) const = default;
};

struct Manifest {
    std::vector<DeliveredFile> files;  // by path, each once
    // For people: names that stayed behind, and why; see Collector::left_out.
    std::vector<std::string> left_out;

    bool operator==(const Manifest&) const = default;
};

// Sum of the sizes.
std::uint64_t total_bytes(const Manifest& manifest);

// As common/PROTOCOL.md has it ("Files that travel"); the same text for the same files.
std::string format_manifest(const Manifest& manifest);
// bad_request: not a manifest, or one that no collector makes (a path that leaves the workspace, a
// file that is also a folder, too many of them); the message names what is wrong.
Result<Manifest> parse_manifest(std::string_view text);

// Whether a file of that name may travel: relative, UTF-8 without control characters, no empty
// part, no "." or "..", no name of the orchestrator's own at the top.
bool is_deliverable_path(std::string_view path);

// Finds and hashes the files of a workspace, in steps, so that a caller with other work is not held
// up by hundreds of megabytes. Not thread safe.
class Collector {
  public:
    struct Limits {
        std::size_t files_max = kManifestFilesMax;
        std::uint64_t bytes_max = 0;
    };
    // Opens the folder; a missing one holds nothing. Lists all names at once, reads nothing yet.
    Collector(const std::string& workspace, Limits limits);
    ~Collector();
    Collector(Collector&&) noexcept;
    Collector& operator=(Collector&&) noexcept;

    bool done() const { return !over_.empty() || to_hash_.empty(); }
    // Reads on for about `bytes`.
    void step(std::uint64_t bytes);

    // More than the limits allow: why. Nothing of it is of use then.
    const std::string& over() const { return over_; }
    // Once done: what was found, and what was left out.
    Manifest manifest() const;
    // Names that stay behind, each with why; at most kLeftOutMax, then how many more.
    std::vector<std::string> left_out() const;

    // A piece of a file as it is now: shorter at its end, or when it shrank. not_found: it is gone,
    // or no regular file any more.
    Result<std::string> read(const std::string& path, std::uint64_t offset, std::size_t size) const;
    // It is not what the manifest says any more: it is read anew by the next steps, and left out
    // when that has happened kTriesMax times.
    void read_anew(const std::string& path);

    static constexpr int kTriesMax = 3;
    static constexpr std::size_t kLeftOutMax = 20;

  private:
    struct Found {
        DeliveredFile file;
        int tries = 0;
    };
    struct Hashing;

    void list(const io::UniqueFd& folder, const std::string& front, std::size_t depth);
    void take(const io::UniqueFd& folder, const std::string& name, const std::string& path,
              std::size_t depth);
    void begin();
    void finish();
    void leave_out(const std::string& path, const std::string& why);
    void check_limits();

    Limits limits_;
    io::UniqueFd folder_;
    std::size_t entries_ = 0;
    std::map<std::string, Found> found_;  // by path
    std::uint64_t bytes_ = 0;             // of all found
    std::deque<std::string> to_hash_;     // the first one may be under way
    std::unique_ptr<Hashing> hashing_;
    std::vector<std::string> left_out_;
    std::size_t left_out_more_ = 0;
    std::string over_;
};

}  // namespace iw::workspace
