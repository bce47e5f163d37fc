#include "ctl/output_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/workspace/archive.h"
#include "common/workspace/workspace.h"

namespace iw::ctl {
namespace {

constexpr std::size_t kTailBytesMax = 4u << 20;
constexpr std::size_t kPieceMax = 1u << 20;
constexpr std::size_t kCharacterMax = 4;

std::string current(const std::string& folder) {
    return folder + "/output.log";
}
std::string rotated(const std::string& folder) {
    return folder + "/output.log.1";
}

io::UniqueFd open_log(const std::string& path) {
    // The folder is the agent's: a link there could show any file of ours.
    return io::UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
}

std::string read_from(int fd, std::uint64_t offset, std::size_t max) {
    std::string bytes(max, '\0');
    std::size_t size = 0;
    while (size < max) {
        const ssize_t got =
            ::pread(fd, bytes.data() + size, max - size, static_cast<off_t>(offset + size));
        if (got <= 0) break;
        size += static_cast<std::size_t>(got);
    }
    bytes.resize(size);
    return bytes;
}

std::string last_bytes(const std::string& path, std::size_t max) {
    const io::UniqueFd fd = open_log(path);
    struct stat status {};
    if (!fd.valid() || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
    const auto size = static_cast<std::uint64_t>(status.st_size);
    const std::uint64_t start = size > max ? size - max : 0;
    return read_from(fd.get(), start, static_cast<std::size_t>(size - start));
}

std::string last_lines(const std::string& text, std::size_t lines) {
    if (lines == 0) return {};
    std::size_t at = text.size();
    if (at > 0 && text[at - 1] == '\n') --at;
    for (std::size_t found = 0; at > 0; --at) {
        if (text[at - 1] == '\n' && ++found == lines) break;
    }
    return text.substr(at);
}

// How many bytes at the end begin a character that is not whole yet.
std::size_t unfinished(std::string_view text) {
    for (std::size_t back = 1; back < kCharacterMax && back <= text.size(); ++back) {
        const auto byte = static_cast<unsigned char>(text[text.size() - back]);
        if ((byte & 0xC0) == 0x80) continue;
        const std::size_t size = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
        return size > back ? back : 0;
    }
    return 0;
}

}  // namespace

std::string PlainText::feed(std::string_view bytes) {
    std::string text = std::move(rest_);
    rest_.clear();
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        switch (within_) {
            case Within::text:
                if (c == '\x1b') within_ = Within::escape;
                if (c != '\x1b' && c != '\r') text += c;
                break;
            case Within::escape:
                // CSI, or a string (OSC, DCS, SOS, PM, APC); anything from 0x30 on ends a short
                // one.
                if (c == '[') {
                    within_ = Within::sequence;
                } else if (std::string_view("]PX^_").find(c) != std::string_view::npos) {
                    within_ = Within::string;
                } else if (byte >= 0x30 || byte < 0x20) {
                    within_ = Within::text;
                }
                break;
            case Within::sequence:
                if (byte >= 0x40 && byte <= 0x7E) within_ = Within::text;
                // A newline is in no sequence: this one was cut off.
                if (c == '\n') {
                    within_ = Within::text;
                    text += c;
                }
                break;
            case Within::string:
                if (c == '\a') within_ = Within::text;
                if (c == '\x1b') within_ = Within::string_escape;
                break;
            case Within::string_escape:
                within_ = c == '\\' ? Within::text : Within::string;
                break;
        }
    }
    const std::size_t kept = unfinished(text);
    rest_ = text.substr(text.size() - kept);
    text.resize(text.size() - kept);
    return printable(text, false);
}

std::string session_folder(const SessionView& session) {
    if (!session.workspace.empty() && io::exists(session.workspace)) return session.workspace;
    if (session.origin.empty()) return {};
    const workspace::ProjectPaths project(session.origin.root);
    for (const std::string& folder :
         {project.workspace(session.id), project.archived(session.id)}) {
        if (io::exists(folder)) return folder;
    }
    return {};
}

Result<std::string> read_output(const std::string& folder, std::optional<std::size_t> lines) {
    if (!io::exists(current(folder)) && !io::exists(rotated(folder))) {
        return make_error(ErrorCode::not_found, "there is no output.log in " + folder);
    }
    if (!lines) {
        return last_bytes(rotated(folder), SIZE_MAX) + last_bytes(current(folder), SIZE_MAX);
    }
    const std::string text = last_bytes(current(folder), kTailBytesMax);
    const auto found = static_cast<std::size_t>(std::ranges::count(text, '\n'));
    if (found > *lines || text.size() >= kTailBytesMax) return last_lines(text, *lines);
    return last_lines(last_bytes(rotated(folder), kTailBytesMax) + text, *lines);
}

Result<std::string> read_compressed_output(const SessionView& session,
                                           std::optional<std::size_t> lines) {
    constexpr std::size_t kLogMax = 2u << 30;  // twice what a worker may be told to keep
    const workspace::ProjectPaths project(session.origin.root);
    std::string text;
    for (const char* file : {"output.log.1", "output.log"}) {
        Result<std::string> part = workspace::read_compressed(project, session.id, file, kLogMax);
        if (part) text += *part;
        if (part || part.error().code == ErrorCode::not_found) continue;
        return part.error();
    }
    if (text.empty())
        return make_error(ErrorCode::not_found, "there is no output.log of " + session.id.str());
    return lines ? last_lines(text, *lines) : std::move(text);
}

OutputFollower::OutputFollower(std::string folder, std::uint64_t offset)
    : path_(current(folder)), offset_(offset) {
    struct stat status {};
    if (::stat(path_.c_str(), &status) == 0) inode_ = status.st_ino;
}

std::string OutputFollower::read() {
    const io::UniqueFd fd = open_log(path_);
    struct stat status {};
    if (!fd.valid() || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
    const bool other_file = status.st_ino != inode_;
    if (other_file && inode_ != 0) {
        // The end of the file that was rotated away comes first.
        const io::UniqueFd before = open_log(path_ + ".1");
        struct stat earlier {};
        const bool same =
            before.valid() && ::fstat(before.get(), &earlier) == 0 && earlier.st_ino == inode_;
        std::string rest = same ? read_from(before.get(), offset_, kPieceMax) : std::string();
        offset_ += rest.size();
        if (!rest.empty()) return rest;
    }
    const bool cut = static_cast<std::uint64_t>(status.st_size) < offset_;
    if (other_file || cut) offset_ = 0;
    inode_ = status.st_ino;
    std::string bytes = read_from(fd.get(), offset_, kPieceMax);
    offset_ += bytes.size();
    return bytes;
}

std::uint64_t output_size(const std::string& folder) {
    struct stat status {};
    if (::stat(current(folder).c_str(), &status) != 0) return 0;
    return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace iw::ctl
