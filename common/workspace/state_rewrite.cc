// How state.json is replaced while scripts replace it, too. Ours and theirs change places in one
// step, so that whatever stood there at that moment is in our hands and can be looked at: between a
// look and a plain rename an edit would be lost.

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "common/io/files.h"
#include "common/workspace/edits.h"
#include "common/workspace/state_file.h"

namespace iw::workspace {
namespace {

constexpr mode_t kFileMode = 0644;
constexpr std::size_t kStateMax = 4u << 20;
// Of scripts that write as fast as we do; after that the last text of theirs stands for a moment.
constexpr int kTriesMax = 10;
constexpr const char* kName = "state.json";

StateVersion version_of(const struct stat& info) {
    return {.inode = info.st_ino,
            .changed_ns = static_cast<std::int64_t>(info.st_mtim.tv_sec) * 1'000'000'000 +
                          info.st_mtim.tv_nsec};
}

// A file as it was found.
struct Found {
    std::optional<StateVersion> version;  // none: there is nothing
    std::string text;                     // empty: none that is a JSON object
    bool broken = false;                  // something else than state.json should be
};

// One rewriting in an opened workspace.
class Rewrite {
  public:
    Rewrite(int folder, std::string path) : folder_(folder), path_(std::move(path)) {}

    Result<RewrittenState> run(const std::function<std::string(const std::string&)>& make) {
        Result<Found> theirs = look(kName);
        RewrittenState done;
        for (int tries = 0; theirs && tries < kTriesMax; ++tries) {
            const std::string temporary = "." + std::string(kName) + "." + io::random_hex(6);
            const Result<StateVersion> ours = write(temporary, make(theirs->text));
            if (!ours) return ours.error();
            const Result<Put> put = exchange(temporary, theirs->version);
            if (!put) return put.error();
            if (put->placed) done.version = ours.value();
            if (put->placed && (!put->displaced || put->displaced == theirs->version)) {
                if (put->displaced) drop(temporary, theirs->broken, done);
                return done;
            }
            // Somebody else's came in between: it is read like the first one.
            theirs = look(put->placed ? temporary : kName);
            if (!theirs || !put->placed) continue;
            drop(temporary, theirs->broken, done);
            theirs->broken = false;
            theirs->version = done.version;
        }
        if (!theirs) return theirs.error();
        return done;
    }

  private:
    struct Put {
        bool placed = false;                    // ours has the name
        std::optional<StateVersion> displaced;  // what the temporary holds now
    };

    Result<Found> look(const std::string& name) const {
        struct stat info {};
        if (::fstatat(folder_, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return Found{};
        Found found{.version = version_of(info), .text = "", .broken = true};
        if (!S_ISREG(info.st_mode)) return found;
        const io::UniqueFd file(::openat(
            folder_, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
        if (!file.valid() && errno == ENOENT) return Found{};
        if (!file.valid() || ::fstat(file.get(), &info) != 0)
            return io::system_error("cannot read", path_ + "/" + name);
        found.version = version_of(info);
        Result<std::string> text =
            io::read_file("/proc/self/fd/" + std::to_string(file.get()), kStateMax);
        found.broken = !text || !is_state_object(*text);
        if (!found.broken) found.text = std::move(text).value();
        return found;
    }

    Result<StateVersion> write(const std::string& name, const std::string& text) const {
        const io::UniqueFd file(
            ::openat(folder_, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kFileMode));
        if (!file.valid()) return io::system_error("cannot create", path_ + "/" + name);
        struct stat info {};
        errno = ENOSPC;  // of a write that takes only a part
        const bool written =
            ::fchmod(file.get(), kFileMode) == 0 &&
            ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
            ::fstat(file.get(), &info) == 0;
        if (written) return version_of(info);
        Error error = io::system_error("cannot write", path_ + "/" + name);
        ::unlinkat(folder_, name.c_str(), 0);
        return error;
    }

    Result<Put> exchange(const std::string& temporary,
                         const std::optional<StateVersion>& expected) const {
        // The name may come and go between two calls.
        for (int tries = 0; tries < kTriesMax; ++tries) {
            if (::renameat2(folder_, temporary.c_str(), folder_, kName, RENAME_EXCHANGE) == 0)
                return Put{.placed = true, .displaced = version(temporary)};
            if (errno == EINVAL || errno == ENOSYS) return replace(temporary, expected);
            if (errno != ENOENT) break;
            if (::renameat2(folder_, temporary.c_str(), folder_, kName, RENAME_NOREPLACE) == 0)
                return Put{.placed = true, .displaced = {}};
            if (errno == EINVAL || errno == ENOSYS) return replace(temporary, expected);
            if (errno != EEXIST) break;
        }
        return failed(temporary);
    }

    // For file systems that cannot exchange: a last look, then a rename.
    Result<Put> replace(const std::string& temporary,
                        const std::optional<StateVersion>& expected) const {
        if (version(kName) != expected) {
            ::unlinkat(folder_, temporary.c_str(), 0);
            return Put{};
        }
        if (::renameat(folder_, temporary.c_str(), folder_, kName) != 0) return failed(temporary);
        return Put{.placed = true, .displaced = {}};
    }

    Error failed(const std::string& temporary) const {
        Error error = io::system_error("cannot replace", path_ + "/" + kName);
        ::unlinkat(folder_, temporary.c_str(), 0);
        return error;
    }

    std::optional<StateVersion> version(const std::string& name) const {
        struct stat info {};
        if (::fstatat(folder_, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return std::nullopt;
        return version_of(info);
    }

    void drop(const std::string& temporary, bool broken, RewrittenState& done) const {
        if (!broken) {
            ::unlinkat(folder_, temporary.c_str(), 0);
            return;
        }
        const std::string aside = std::string(kName) + ".broken-" + io::random_hex(4);
        if (::renameat(folder_, temporary.c_str(), folder_, aside.c_str()) == 0)
            done.broken = aside;
    }

    int folder_;
    std::string path_;
};

}  // namespace

std::optional<StateVersion> state_version(const ProjectPaths& project, const SessionId& id) {
    struct stat info {};
    const std::string path = project.workspace(id) + "/" + kName;
    if (::lstat(path.c_str(), &info) != 0) return std::nullopt;
    return version_of(info);
}

Result<RewrittenState> rewrite_state(const ProjectPaths& project, const SessionId& id,
                                     const std::function<std::string(const std::string&)>& make) {
    const std::string path = project.workspace(id);
    const io::UniqueFd folder(
        ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (folder.valid()) return Rewrite(folder.get(), path).run(make);
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return RewrittenState{};
    return io::system_error("cannot open", path);
}

}  // namespace iw::workspace
