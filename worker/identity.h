#pragma once

// What makes a worker one and the same over its restarts: its state folder and its project root,
// both locked, and the id and start counter that the broker knows it by.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "common/io/exit_codes.h"
#include "common/io/files.h"
#include "common/messages/messages.h"
#include "worker/options.h"

namespace iw::worker {

struct Identity {
    std::string state_id;  // random, made with the state folder
    std::uint64_t start_count = 0;
    std::string boot_id;
    std::optional<SeenHead> seen;  // as save_seen() wrote it last
    io::FileLock state_lock;
    io::FileLock root_lock;
    io::UniqueFd root_folder;  // the root itself, locked
};

// Makes the state folder (0700) where it is missing, takes the locks and raises the start counter,
// synced. A refusal when another worker holds one of them or the root is not writable.
std::variant<Identity, Refusal> take_identity(const WorkerOptions& options);

// The newest record that the broker was seen to have, synced, in <state_dir>/seen.json.
Status save_seen(const std::string& state_dir, const SeenHead& seen);

}  // namespace iw::worker
