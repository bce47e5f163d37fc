#include "broker/restore_command.h"

#include <unistd.h>

#include <cstdio>
#include <string>

#include "broker/restore.h"
#include "common/base/text.h"
#include "common/io/system_clock.h"

namespace iw::broker {

int refused(const Refusal& refusal) {
    std::fprintf(stderr, "ibroker: %s\n", printable(refusal.message, true).c_str());
    return refusal.exit_code;
}

int run_restore(const BrokerOptions& options) {
    const Result<RestoreOutcome> outcome =
        restore_backup({.data_dir = options.data_dir,
                        .backup = options.restore,
                        .segment_bytes = options.segment_bytes,
                        .principal = "uid:" + std::to_string(::geteuid()),
                        .at = io::wall_now()});
    if (!outcome.ok()) {
        return refused(
            {.exit_code = exit_code_of_store(outcome.error()), .message = outcome.error().message});
    }
    std::printf("restored up to record %llu (the backup holds %llu)\n",
                static_cast<unsigned long long>(outcome->seq),
                static_cast<unsigned long long>(outcome->backup_seq));
    std::printf("epoch %s, generation %u\n", outcome->epoch.c_str(), outcome->generation);
    for (const std::string& remark : outcome->remarks)
        std::printf("%s\n", printable(remark, true).c_str());
    if (!outcome->aside.empty())
        std::printf("the former store is in %s\n", printable(outcome->aside, true).c_str());
    return kExitOk;
}

}  // namespace iw::broker
