#pragma once

// Whole reads and writes at an offset of an open file.

#include <cstddef>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace iw::broker {

// Fewer bytes only where the file ends. `path` is for the message; errors have code io.
Result<std::string> read_bytes(int fd, std::size_t offset, std::size_t size,
                               const std::string& path);
// All of them; on an error some may have been written.
Status write_bytes(int fd, std::size_t offset, std::string_view bytes, const std::string& path);

}  // namespace iw::broker
