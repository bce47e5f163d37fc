#pragma once

// What a failure of the store means for the process.

#include "common/base/result.h"
#include "common/io/exit_codes.h"

namespace iw::broker {

inline int exit_code_of_store(const Error& error) {
    if (error.code == ErrorCode::config || error.code == ErrorCode::gone) return kExitData;
    if (error.code == ErrorCode::internal) return kExitSoftware;
    return error.code == ErrorCode::conflict ? kExitBusy : kExitIo;
}

}  // namespace iw::broker
