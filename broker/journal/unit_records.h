#pragma once

// The records in a commit unit.

#include <cstddef>
#include <functional>

#include "broker/core/record.h"
#include "broker/journal/segment.h"
#include "common/base/result.h"

namespace iw::broker {

// Before each record of a unit stands its length.
inline constexpr std::size_t kRecordLengthBytes = 4;

// Every record of a unit in order. An error of `each` ends it and is returned; config: the unit
// does not hold what its header says, or a record is of a newer version.
Status each_record(const Unit& unit, const std::function<Status(const Record&)>& each);

}  // namespace iw::broker
