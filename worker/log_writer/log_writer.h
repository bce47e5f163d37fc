#pragma once

// The terminal's output on its way to <workspace>/output.log: bounded, and never in the way of the
// terminal. The file holds at most half of the bound; when it is full it becomes output.log.1 and a
// new one begins with a line that says so. The workspace belongs to the agent and to people: it may
// vanish, move or be full at any moment.

#include <cstdint>
#include <string>
#include <string_view>

#include "common/io/files.h"

namespace iw::worker {

class LogWriter {
  public:
    struct Options {
        std::string folder;           // the workspace
        std::uint64_t bytes_max = 0;  // of both files together; at least kBytesMin is taken
    };
    static constexpr std::uint64_t kBytesMin = 4096;

    explicit LogWriter(Options options);

    // Writes what can be written and counts the rest as dropped; nothing at all still makes the
    // file. Never fails.
    void write(std::string_view bytes);
    // Everything that was written is on disk.
    void sync();

    std::uint64_t bytes_seen() const { return seen_; }
    // Of the terminal's output, what still stands in the two files.
    std::uint64_t bytes_kept() const { return current_ + previous_; }

  private:
    bool ensure_open();
    void reopen();
    bool rotate();
    std::size_t append(std::string_view bytes);
    bool mark(const std::string& line);

    std::string folder_;
    std::uint64_t half_;  // size at which the file is rotated
    io::UniqueFd file_;
    std::uint64_t device_ = 0;  // of the open file: tells whether the name still means it
    std::uint64_t inode_ = 0;
    std::uint64_t size_ = 0;      // of the open file, markers included
    std::uint64_t current_ = 0;   // terminal output in it
    std::uint64_t previous_ = 0;  // terminal output in output.log.1
    std::uint64_t gone_ = 0;      // rotated away
    std::uint64_t dropped_ = 0;   // never written, and no line in the file tells of it yet
    std::uint64_t seen_ = 0;
};

// Copies `input` to the log until its end, then records in the attempt's folder that the log is
// whole. Exit code.
int write_log(const std::string& state_folder, const std::string& attempt_name, int input);

}  // namespace iw::worker
