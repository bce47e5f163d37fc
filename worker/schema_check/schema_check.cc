#include "worker/schema_check/schema_check.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstdio>
#include <string>

#include "common/io/exit_codes.h"
#include "common/io/files.h"
#include "common/schema/result_schema.h"

namespace iw::worker {
namespace {

constexpr rlim_t kSecondsMax = 15;                               // of processor time
[[maybe_unused]] constexpr rlim_t kMemoryMax = rlim_t{4} << 30;  // bytes
constexpr std::size_t kSchemaRead = 1u << 20;                    // more than a schema may have

void limit(int what, rlim_t most) {
    const rlimit limits{.rlim_cur = most, .rlim_max = most};
    static_cast<void>(::setrlimit(static_cast<__rlimit_resource>(what), &limits));
}

int say(int code, const std::string& text) {
    std::fputs((text + "\n").c_str(), stdout);
    return code;
}

}  // namespace

int run_schema_check(int argc, const char* const* argv) {
    if (argc != 2) return say(kExitUsage, "usage: ischema RESULT_FILE < SCHEMA");
    limit(RLIMIT_CPU, kSecondsMax);
#ifndef __SANITIZE_ADDRESS__  // which reserves terabytes
    limit(RLIMIT_AS, kMemoryMax);
#endif
    limit(RLIMIT_CORE, 0);
    const Result<std::string> schema = io::read_file("/proc/self/fd/0", kSchemaRead);
    if (!schema) return say(kExitIo, schema.error().message);
    // The file's folder is the agent's: a link is not followed, a FIFO not waited for.
    const io::UniqueFd file(::open(argv[1], O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    struct stat info {};
    if (!file.valid() || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode))
        return say(kResultMissing, "no result.json");
    if (static_cast<std::size_t>(info.st_size) > schema::kResultMax) {
        const std::string most = std::to_string(schema::kResultMax >> 20) + " MiB";
        return say(kResultUnfit, "/: larger than " + most);
    }
    const Result<std::string> result =
        io::read_file("/proc/self/fd/" + std::to_string(file.get()), schema::kResultMax);
    if (!result) return say(kExitIo, result.error().message);
    const auto mismatch = schema::find_mismatch(*schema, *result);
    if (!mismatch) return say(kSchemaUnfit, mismatch.error().message);
    if (*mismatch) return say(kResultUnfit, schema::to_text(**mismatch));
    return kResultFits;
}

}  // namespace iw::worker
