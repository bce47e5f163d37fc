#pragma once

// What the command line, the environment and the configuration files say, checked. Keys, defaults
// and ranges: config/broker.toml.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "common/base/limits.h"
#include "common/base/time.h"
#include "common/io/program_options.h"

namespace iw::broker {

struct BrokerOptions {
    std::string endpoint;  // ipc:// with an absolute path
    std::string data_dir;  // absolute
    std::size_t segment_bytes = limits::kSegmentBytesDefault;
    std::uint64_t storage_reserve =
        0;  // bytes free on the disk below which submissions are refused; 0: never
    std::uint64_t blobs_max = 0;  // bytes that the files of sessions may take
    Duration heartbeat = limits::kHeartbeatInterval;
    Duration unreachable = limits::kUnreachableAfter;
    Duration lost = limits::kLostAfter;
    std::optional<int> backup_at;  // of the nightly one, minutes after local midnight; none: never
    std::size_t backup_keep = 0;   // so many stay in backup_folder
    std::string backup_folder;     // absolute
    std::string restore;           // folder of a backup to put in the store's place, then end
    std::string log_level;         // debug, info, warn, error
    std::string log_format;        // text, json
};

// Reads arguments, environment and files anew at each call (SIGHUP reads the log level again).
std::variant<BrokerOptions, io::Farewell> parse_options(int argc, const char* const* argv);

// The path of an ipc endpoint's socket.
std::string socket_path(const std::string& endpoint);

}  // namespace iw::broker
