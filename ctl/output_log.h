#pragma once

// A session's output.log on this host: its end, all of it, or as it grows.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/messages/messages.h"

namespace iw::ctl {

// Turns what a terminal was sent into plain text: escape sequences and carriage returns go, other
// control characters and broken UTF-8 become U+FFFD. Keeps what a piece ends in the middle of until
// the next.
class PlainText {
  public:
    std::string feed(std::string_view bytes);

  private:
    enum class Within { text, escape, sequence, string, string_escape };
    Within within_ = Within::text;
    std::string rest_;  // the beginning of a character
};

// The folder of the session's files on this host: in sessions/, else in the archive. Empty:
// neither.
std::string session_folder(const SessionView& session);

// The last `lines` lines (at most 4 MiB), or with nothing all of it, the rotated part first.
// not_found when there is no log.
Result<std::string> read_output(const std::string& folder, std::optional<std::size_t> lines);

// The same of a session whose archive was compressed on this host. not_found: it was not, or holds
// no log.
Result<std::string> read_compressed_output(const SessionView& session,
                                           std::optional<std::size_t> lines);

// Reads on from where it stands; follows the name when the file is rotated, starts over when it was
// cut.
class OutputFollower {
  public:
    // `offset` bytes of the present file have been seen.
    OutputFollower(std::string folder, std::uint64_t offset);
    // What was written since; empty when nothing was.
    std::string read();

  private:
    std::string path_;
    std::uint64_t inode_ = 0;
    std::uint64_t offset_ = 0;
};

// Bytes in the present output.log.
std::uint64_t output_size(const std::string& folder);

}  // namespace iw::ctl
