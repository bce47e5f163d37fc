#pragma once

#include <sys/types.h>

#include <optional>
#include <string_view>

namespace iw::io {

// The user id in the address that libzmq gives a local peer, `localhost:<uid>:<gid>:<pid>`; nothing
// for every other text, which is how peers of other transports look.
std::optional<uid_t> local_peer_uid(std::string_view address);

// Whether a local peer with this address may talk to us: our own user, or root.
bool admits_local_peer(std::string_view address, uid_t own);

}  // namespace iw::io
