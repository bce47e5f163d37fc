#include "common/workspace/settings.h"

#include "common/base/text.h"
#include "common/io/files.h"

namespace iw::workspace {

long long project_number(const std::string& root, const std::string& name, long long fallback,
                         long long min, long long max) {
    constexpr std::size_t kFileMax = 1u << 20;
    const Result<std::string> text = io::read_file(root + "/scripts/ops/config.sh", kFileMax);
    if (!text) return fallback;
    long long value = fallback;
    for (const std::string& line : split(*text, '\n')) {
        std::string_view rest = trim(line);
        if (!rest.starts_with(name + "=")) continue;
        rest = trim(rest.substr(name.size() + 1));
        rest = trim(rest.substr(0, rest.find('#')));
        const bool quoted = rest.size() >= 2 && (rest.front() == '"' || rest.front() == '\'') &&
                            rest.back() == rest.front();
        if (quoted) rest = rest.substr(1, rest.size() - 2);
        long long number = 0;
        value = parse_int(rest, min, max, number) ? number : fallback;
    }
    return value;
}

}  // namespace iw::workspace
