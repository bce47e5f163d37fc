#include "common/io/machine.h"

#include <pwd.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string_view>

#include "common/base/text.h"
#include "common/io/files.h"

namespace iw::io {

std::string host_name() {
    std::array<char, 256> name{};
    if (::gethostname(name.data(), name.size() - 1) != 0) return "localhost";
    return name.data();
}

std::string boot_id() {
    constexpr std::size_t kBootIdMax = 128;
    const Result<std::string> text = read_file("/proc/sys/kernel/random/boot_id", kBootIdMax);
    return text.ok() ? std::string(trim(*text)) : "";
}

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

std::vector<std::string> environment_variables() {
    std::vector<std::string> variables;
    for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
        variables.emplace_back(*entry);
    }
    return variables;
}

std::string home_folder() {
    const std::string home = environment("HOME");
    if (!home.empty()) return home;
    passwd entry{};
    passwd* found = nullptr;
    std::array<char, 4096> buffer{};
    const int result = ::getpwuid_r(::geteuid(), &entry, buffer.data(), buffer.size(), &found);
    return result == 0 && found != nullptr ? found->pw_dir : "/";
}

std::string executable_path() {
    return real_path("/proc/self/exe");
}

}  // namespace iw::io
