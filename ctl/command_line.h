#pragma once

// From argv to a command: global options, help, the nearest name for an unknown one, and the last
// catch.

#include <string>
#include <vector>

#include "ctl/terminal.h"

namespace iw::ctl {

// `arguments` without the program's name. The exit code.
int run_command_line(const std::vector<std::string>& arguments, const Terminal& terminal);

// "ictl 0.1.0", what programs tell a peer of themselves.
std::string software_name();
// Of the source that was built, as git describes it; empty when that was not known.
std::string software_revision();

// As nearest(), and for short names also two letters changed about: "lsit" is list.
std::string nearest_command(const std::string& word, const std::vector<std::string>& names);

}  // namespace iw::ctl
