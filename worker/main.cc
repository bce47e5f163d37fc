// iworker: serves one project root of a host. See docs/architecture.md.

#include <signal.h>
#include <sys/stat.h>

#include <cstdio>
#include <exception>
#include <utility>

#include "common/io/exit_codes.h"
#include "common/io/logging.h"
#include "common/io/signals.h"
#include "common/io/socket.h"
#include "worker/identity.h"
#include "worker/options.h"
#include "worker/worker_server.h"

namespace {

using namespace iw;
using namespace iw::worker;

int refuse(const Refusal& refusal) {
    std::fprintf(stderr, "iworker: %s\n", refusal.message.c_str());
    return refusal.exit_code;
}

int say_farewell(const io::Farewell& farewell) {
    std::fputs(farewell.output.c_str(), stdout);
    if (!farewell.error.empty()) std::fprintf(stderr, "iworker: %s\n", farewell.error.c_str());
    return farewell.exit_code;
}

int serve(const WorkerOptions& options, io::SignalFd& signals, WorkerServer::Reload reload) {
    std::variant<Identity, Refusal> identity = take_identity(options);
    if (const auto* refusal = std::get_if<Refusal>(&identity)) return refuse(*refusal);
    std::variant<WorkerServer::Parts, Refusal> parts = WorkerServer::open(options);
    if (const auto* refusal = std::get_if<Refusal>(&parts)) return refuse(*refusal);
    io::Context context;
    WorkerServer server(options, *std::get_if<Identity>(&identity),
                        std::move(*std::get_if<WorkerServer::Parts>(&parts)), context, signals,
                        std::move(reload));
    return server.run();
}

int run(int argc, const char* const* argv) {
    const std::variant<WorkerOptions, io::Farewell> parsed = parse_options(argc, argv);
    if (const auto* farewell = std::get_if<io::Farewell>(&parsed)) return say_farewell(*farewell);
    const WorkerOptions& options = *std::get_if<WorkerOptions>(&parsed);
    // Nobody else writes in workspaces; a user who hides more by a stricter umask keeps it.
    ::umask(::umask(0077) | 0022);

    // Before any thread or ZeroMQ context exists, so that all of them leave the signals to this
    // one.
    Result<io::SignalFd> signals = io::SignalFd::open({SIGTERM, SIGINT, SIGHUP, SIGUSR1});
    if (!signals) return refuse(Refusal{kExitSoftware, signals.error().message});
    io::start_logging(
        {.program = "iworker", .level = options.log_level, .format = options.log_format});
    const auto reload = [argc, argv, level = options.log_level] {
        const std::variant<WorkerOptions, io::Farewell> again = parse_options(argc, argv);
        const auto* fresh = std::get_if<WorkerOptions>(&again);
        return fresh != nullptr ? fresh->log_level : level;
    };
    return serve(options, *signals, reload);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& fault) {
        std::fprintf(stderr, "iworker: %s\n", fault.what());
        return kExitSoftware;
    }
}
