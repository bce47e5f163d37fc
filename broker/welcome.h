#pragma once

// The answer to `hello`.

#include <optional>

#include "broker/core/broker_core.h"
#include "broker/turn.h"
#include "common/messages/messages.h"

namespace iw::broker {

// The same for every role. Epoch and generation are the core's: an admin can begin new ones.
WelcomeReply make_welcome(const BrokerCore& core, const CoreConfig& leases, Now now);

// Whether the versions that a peer speaks hold ours; the refusal if not.
std::optional<ErrorReply> check_versions(const HelloRequest& hello);

}  // namespace iw::broker
