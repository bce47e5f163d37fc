#include <CLI/CLI.hpp>
#include <memory>

#include "common/base/version.h"
#include "common/messages/messages.h"
#include "ctl/command.h"
#include "ctl/command_line.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/json.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Says what this program is; it asks no broker (`ictl doctor` does).

Exit codes: 0.
)";

int run(Context& context, bool json) {
    const std::string revision = software_revision();
    const std::vector<std::pair<std::string, std::string>> fields = {
        {"version", std::string(kVersion)},
        {"revision", revision},
        {"protocol", std::to_string(kProtocolVersion)},
        {"libzmq", io::transport_version()}};
    if (json) {
        context.terminal().print(fields_json(fields));
        return kExitOk;
    }
    context.terminal().print(software_name() + (revision.empty() ? "" : " (" + revision + ")") +
                             "\nprotocol " + std::to_string(kProtocolVersion) + "\nlibzmq " +
                             io::transport_version() + "\n");
    return kExitOk;
}

Runner declare(CLI::App& app) {
    auto json = std::make_shared<bool>(false);
    app.add_flag("--json", *json, "print JSON");
    return [json](Context& context) { return run(context, *json); };
}

}  // namespace

Command version_command() {
    return {.name = "version",
            .group = kGroupSelf,
            .summary = "Say what this program is",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
