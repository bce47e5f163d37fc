#include "worker/log_writer/log_writer.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include "worker/attempt_store/attempt_store.h"

namespace iw::worker {
namespace {

constexpr std::string_view kName = "/output.log";
constexpr std::string_view kPreviousName = "/output.log.1";
constexpr mode_t kMode = 0644;
constexpr std::size_t kBufferBytes = 64u << 10;
constexpr int kExitUsage = 64;
constexpr int kExitIo = 74;
// A full disk often has room again soon, and the worker waits for the record.
constexpr int kRecordTries = 300;
constexpr int kRecordPauseMs = 2'000;

std::string rotation_marker(std::uint64_t previous, std::uint64_t gone) {
    return "[output.log rotated: " + std::to_string(previous) +
           " bytes of earlier output are in output.log.1, " + std::to_string(gone) +
           " bytes are gone]\n";
}

std::string dropped_marker(std::uint64_t dropped) {
    return "\n[output.log: " + std::to_string(dropped) + " bytes could not be written here]\n";
}

// Reads to the end of the output, whatever becomes of the log.
void drain(int input, std::optional<LogWriter>& writer) {
    std::array<char, kBufferBytes> buffer{};
    while (true) {
        const ssize_t size = ::read(input, buffer.data(), buffer.size());
        if (size < 0 && errno == EINTR) continue;
        if (size <= 0) return;
        if (writer) writer->write({buffer.data(), static_cast<std::size_t>(size)});
    }
}

}  // namespace

LogWriter::LogWriter(Options options)
    : folder_(std::move(options.folder)), half_(std::max(options.bytes_max, kBytesMin) / 2) {}

void LogWriter::write(std::string_view bytes) {
    seen_ += bytes.size();
    if (bytes.empty()) ensure_open();
    while (!bytes.empty() && ensure_open()) {
        if (size_ >= half_ && !rotate()) break;
        if (dropped_ > 0 && mark(dropped_marker(dropped_))) dropped_ = 0;
        // The marker may have filled the file; the next round rotates it.
        const auto room = static_cast<std::size_t>(half_ > size_ ? half_ - size_ : 0);
        const std::string_view part = bytes.substr(0, room);
        const std::size_t written = append(part);
        current_ += written;
        bytes.remove_prefix(written);
        if (written < part.size()) break;
    }
    dropped_ += bytes.size();
}

void LogWriter::sync() {
    if (file_.valid()) ::fdatasync(file_.get());
}

// The file that the name means now: somebody may have moved the workspace away, and the worker made
// a new one. One stat per read of the terminal is cheap beside the write.
bool LogWriter::ensure_open() {
    struct stat info {};
    const bool named = ::lstat((folder_ + std::string(kName)).c_str(), &info) == 0;
    if (file_.valid() && named && info.st_dev == device_ && info.st_ino == inode_) return true;
    reopen();
    if (file_.valid() && size_ == 0 && gone_ > 0) mark(rotation_marker(0, gone_));
    return file_.valid();
}

void LogWriter::reopen() {
    // What stood in the file that is not ours any more cannot be read here.
    gone_ += current_ + previous_;
    current_ = previous_ = size_ = 0;
    file_.reset();
    const std::string path = folder_ + std::string(kName);
    io::UniqueFd fd(::open(
        path.c_str(),
        O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, kMode));
    struct stat info {};
    if (!fd.valid() || ::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) return;
    device_ = info.st_dev;
    inode_ = info.st_ino;
    size_ = static_cast<std::uint64_t>(info.st_size);
    file_ = std::move(fd);
}

// When the old file cannot be put aside it is emptied: the bound holds whatever happens.
bool LogWriter::rotate() {
    const std::string path = folder_ + std::string(kName);
    const std::string previous = folder_ + std::string(kPreviousName);
    if (::rename(path.c_str(), previous.c_str()) == 0) {
        const std::uint64_t kept = current_;
        const std::uint64_t gone = gone_ + previous_;
        reopen();
        previous_ = kept;
        gone_ = gone;
    } else if (::ftruncate(file_.get(), 0) == 0) {
        gone_ += current_;
        current_ = size_ = 0;
    } else {
        return false;
    }
    if (!file_.valid()) return false;
    mark(rotation_marker(previous_, gone_));
    return true;
}

// How much of it could be written: less than all on a full disk.
std::size_t LogWriter::append(std::string_view bytes) {
    std::size_t done = 0;
    while (done < bytes.size()) {
        const ssize_t written = ::write(file_.get(), bytes.data() + done, bytes.size() - done);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) break;
        done += static_cast<std::size_t>(written);
    }
    size_ += done;
    return done;
}

// A line of ours. On a full disk it is missing, and that is all.
bool LogWriter::mark(const std::string& line) {
    return append(line) == line.size();
}

int write_log(const std::string& state_folder, const std::string& attempt_name, int input) {
    const std::optional<AttemptRef> attempt = AttemptStore::parse_name(attempt_name);
    if (!attempt) return kExitUsage;
    Result<AttemptStore> store = AttemptStore::open(state_folder);
    const Result<LaunchPlan> plan =
        store ? store->read_plan(*attempt) : Result<LaunchPlan>(store.error());
    // Without a plan there is nowhere to write, but the terminal must still be drained.
    std::optional<LogWriter> writer;
    if (plan)
        writer.emplace(
            LogWriter::Options{.folder = plan->workspace, .bytes_max = plan->log_bytes_max});
    // A silent agent has an output.log too.
    if (writer) writer->write({});
    drain(input, writer);
    if (writer) writer->sync();
    if (!store) return kExitIo;
    for (int tries = 0; tries < kRecordTries; ++tries) {
        const Status written = store->write_log_done(*attempt, writer ? writer->bytes_seen() : 0,
                                                     writer ? writer->bytes_kept() : 0);
        if (written) return 0;
        if (!io::exists(store->folder(*attempt))) break;  // nobody waits for it
        ::poll(nullptr, 0, kRecordPauseMs);
    }
    return kExitIo;
}

}  // namespace iw::worker
