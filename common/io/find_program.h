#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"

namespace iw::io {

// The file that a command word means: the word itself when it holds a '/', else the first
// executable file of that name in the folders of `path` (as in $PATH). not_found when there is
// none; io when there is one that may not be run. The message names the word.
Result<std::string> find_program(const std::string& word, std::string_view path);

}  // namespace iw::io
