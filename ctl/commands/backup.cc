#include <CLI/CLI.hpp>
#include <memory>

#include "common/base/text.h"
#include "common/io/files.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/fleet_json.h"
#include "ctl/fleet_text.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Makes a backup of the broker's store while it serves, in a new folder below its own
(backup.folder of broker.toml, where the nightly ones are) or below --to, and prints that
folder. Everything acknowledged before is in it. Copy it to another disk.

Examples:
  ictl backup
  folder=$(ictl backup --to /mnt/backups) && ls "$folder"

Exit codes: 0; 1 it could not be made; 64 wrong arguments; 69 no broker; 75 too little disk,
or not now; 77 denied.
)";

struct Options {
    std::string to;
    bool json = false;
};

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    Result<BrokerClient*> broker = context.broker(Insistence::patient);
    if (!broker) return terminal.fail(broker.error());
    const std::string folder = options.to.empty() ? "" : io::absolute_path(options.to);
    if (terminal.err_is_terminal) terminal.say("the broker makes a backup; this can take a while");
    const Result<BackupReply> reply = (*broker)->call<BackupReply>(BackupRequest{.folder = folder});
    if (!reply) return terminal.fail(reply.error());
    terminal.print(options.json ? backup_json(*reply) : printable(reply->folder, true) + "\n");
    if (!options.json && terminal.out_is_terminal) {
        terminal.say(size_text(reply->bytes) + ", up to record " + std::to_string(reply->seq));
    }
    return kExitOk;
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("--to", options->to, "below this folder of the broker's host")
        ->type_name("FOLDER");
    app.add_flag("--json", options->json, "print JSON");
    return [options](Context& context) { return run(context, *options); };
}

}  // namespace

Command backup_command() {
    return {.name = "backup",
            .group = kGroupFleet,
            .summary = "Make a backup of the broker's store while it serves",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
