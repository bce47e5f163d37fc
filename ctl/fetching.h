#pragma once

// Files that travelled with a session, from the broker into a folder of this host.

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/messages/messages.h"
#include "common/workspace/incoming.h"
#include "ctl/broker_client.h"

namespace iw::ctl {

// The list of what travelled with the session; its `deliverables` are set. not_found: the broker
// does not hold it any more.
Result<workspace::Manifest> fetch_manifest(BrokerClient& broker, const SessionView& session);

// A result.json that travelled with the session, of at most kFetchedResultMax bytes, checked
// against its name. Its `deliverables` are set. not_found: none travelled, or it is not held any
// more. too_large: it belongs into a file.
inline constexpr std::uint64_t kFetchedResultMax = 64u << 20;
Result<std::string> fetch_result(BrokerClient& broker, const SessionView& session);

// Brings the files of `manifest` to their places below the folder that was opened. The lines say
// which could not be had; any other trouble is an error, and the next call goes on with what came.
Result<std::vector<std::string>> fetch_files(BrokerClient& broker, const SessionId& id,
                                             workspace::Manifest manifest,
                                             workspace::Incoming& incoming);

}  // namespace iw::ctl
