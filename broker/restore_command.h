#pragma once

// `ibroker --restore`: brings a backup back and says what came of it.

#include "broker/exit_codes.h"
#include "broker/options.h"

namespace iw::broker {

// One line on stderr; returns the exit code.
int refused(const Refusal& refusal);

// The caller holds the locks of the data directory and of the endpoint. Prints what was restored,
// where the former store is and what an admin should know; returns the exit code.
int run_restore(const BrokerOptions& options);

}  // namespace iw::broker
