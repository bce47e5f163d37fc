// ikeep: see housekeeping.h. The worker starts it; `ictl archive` does the same on demand.

#include <sys/resource.h>

#include <cstdio>
#include <exception>

#include "common/io/exit_codes.h"
#include "common/io/system_clock.h"
#include "worker/housekeeping/housekeeping.h"

int main(int argc, char** argv) {
    try {
        const auto order = iw::worker::parse_arguments({argv + 1, argv + argc});
        if (!order) {
            std::fprintf(stderr, "%s\n", order.error().message.c_str());
            return iw::kExitUsage;
        }
        // Agents come first.
        constexpr int kNice = 10;
        static_cast<void>(::setpriority(PRIO_PROCESS, 0, kNice));
        iw::worker::keep_house(*order, iw::io::wall_now());
        return iw::kExitOk;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "ikeep: %s\n", error.what());
        return iw::kExitIo;
    }
}
