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

// What drain and undrain are told.
struct WorkerHold {
    std::string name;  // a worker, or a host: all of its workers
    HoldOptions hold;
};
// Lays a drain on the workers or lifts it; prints what became of it, returns the exit code.
int hold_workers(Context& context, const WorkerHold& options, bool on);

}  // namespace iw::ctl
