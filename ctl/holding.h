#pragma once

// Laying and lifting holds: what drain, undrain, pause and resume share.

#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/messages/messages.h"

namespace CLI {
class App;
}

namespace iw::ctl {

class Context;

struct HoldOptions {
    std::string reason;
    std::string lasts;
    bool json = false;
};
// --json, and for what lays a hold --reason and --for.
void declare_lifting(CLI::App& app, HoldOptions& options);
void declare_laying(CLI::App& app, HoldOptions& options);

// A hold on something; what it is laid on is filled in already.
Result<HoldRequest> to_hold(const HoldOptions& options, HoldRequest request);

// Asks for each, prints what became of it, returns the exit code.
int hold_and_report(Context& context, const std::vector<HoldRequest>& requests, bool json);

// Workers that `name` means: the one of that name, else all of that host. not_found names the
// nearest; bad_request for what is no name.
Result<std::vector<WorkerName>> find_workers(Context& context, const std::string& name);

}  // namespace iw::ctl
