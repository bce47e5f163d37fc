#pragma once

// The answer to `hello`.

#include <cstdint>
#include <optional>
#include <string>

#include "broker/core/broker_core.h"
#include "broker/turn.h"
#include "common/messages/messages.h"

namespace iw::broker {

// What every welcome of this broker says.
struct Identity {
    std::string epoch;
    std::uint32_t generation = 0;
    CoreConfig leases;
};

// Overwrites all of `welcome`: what a peer learns does not depend on its role.
WelcomeReply make_welcome(const Identity& identity, Seq seq, WallTime time);

// Whether the versions that a peer speaks hold ours; the refusal if not.
std::optional<ErrorReply> check_versions(const HelloRequest& hello);

}  // namespace iw::broker
