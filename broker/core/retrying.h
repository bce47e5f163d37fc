#pragma once

// What follows on an attempt that failed: whether there is another one, and when.

#include <cstdint>
#include <optional>

#include "broker/core/session.h"
#include "common/base/ids.h"
#include "common/base/statuses.h"
#include "common/base/time.h"
#include "common/messages/messages.h"

namespace iw::broker {

// A session that the platform failed waits this long for each time that it did.
inline constexpr Duration kRetryDelay{5'000};

// Whether the policy retries an attempt that ended like this. What the platform fails is not its
// business.
bool is_retry_cause(const RetryPolicy& policy, Detail cause);

// The wait before the next attempt: doubled with each of the `used` attempts (1 or more) up to the
// policy's most, times 0.5 to 1.0 by chance. The chance is drawn from the id and the number of the
// attempt that failed, so that it is the same for whoever computes it. At least 1 ms.
Duration retry_delay(const RetryPolicy& policy, const SessionId& id, std::uint32_t attempt,
                     std::uint32_t used);

// No wait of the session is longer than this, whatever the wall clock says.
Duration retry_delay_max(const Session& session);

}  // namespace iw::broker
