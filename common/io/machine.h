#pragma once

// What this machine and this process are.

#include <string>
#include <vector>

namespace iw::io {

std::string host_name();
std::string boot_id();                      // /proc/sys/kernel/random/boot_id
std::string environment(const char* name);  // empty when unset
// NAME=VALUE of this process, to hand on or to filter.
std::vector<std::string> environment_variables();
std::string home_folder();      // $HOME, else the user's entry in the password file
std::string executable_path();  // of this process, links resolved

}  // namespace iw::io
