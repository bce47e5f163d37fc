#pragma once

#include <string_view>

namespace iw {

// Of every program of this tree; the same as project(... VERSION) in CMakeLists.txt.
inline constexpr std::string_view kVersion = "0.1.0";

}  // namespace iw
