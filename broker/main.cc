// ibroker: keeps the fleet's sessions in a durable queue. Options and exit codes: `ibroker --help`,
// config/broker.toml, broker/exit_codes.h.

#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>
#include <variant>

#include "broker/broker_server.h"
#include "broker/exit_codes.h"
#include "broker/options.h"
#include "broker/recovery.h"
#include "broker/restore_command.h"
#include "broker/service_notify.h"
#include "common/base/text.h"
#include "common/base/version.h"
#include "common/io/logging.h"
#include "common/io/signals.h"
#include "common/io/socket.h"
#include "common/io/system_clock.h"

namespace iw::broker {
namespace {

// Any text turns the authentication handler's answer into a condition of every connection.
constexpr const char* kZapDomain = "native-orchestrator";

int serve(io::Context& context, BrokerOptions options, Recovered recovered, io::SignalFd signals,
          std::function<std::optional<std::string>()> log_level) {
    // Before the bind: until somebody answers authentication, libzmq would let everybody in.
    Result<io::LocalAuthenticator> authenticator = io::LocalAuthenticator::start(context);
    if (!authenticator.ok())
        return refused({.exit_code = kExitSoftware, .message = authenticator.error().message});
    Result<io::RouterSocket> router = io::RouterSocket::bind(context, options.endpoint, kZapDomain);
    if (!router.ok())
        return refused({.exit_code = kExitCannotCreate, .message = router.error().message});

    const FleetReply fleet = recovered.core.fleet(io::now());
    const BrokerCore::Counts counts = recovered.core.counts();
    io::log(io::LogLevel::info, "ready",
            {{"version", std::string(kVersion)},
             {"endpoint", options.endpoint},
             {"data_dir", options.data_dir},
             {"epoch", fleet.epoch},
             {"generation", std::to_string(fleet.generation)},
             {"seq", std::to_string(recovered.core.head())},
             {"replayed", std::to_string(recovered.replayed)},
             {"queued", std::to_string(counts.queued)},
             {"running", std::to_string(counts.running)}});
    if (fleet.restored) {
        io::log(io::LogLevel::warn, "nothing is assigned until `ictl resume --after-restore`",
                {{"why", fleet.restored_why}});
    }
    if (recovered.read_only.is_on()) {
        io::log(io::LogLevel::error, "nothing changes until an admin decides",
                {{"why", recovered.read_only.why()}});
    }
    BrokerServer server({.options = std::move(options),
                         .recovered = std::move(recovered),
                         .router = std::move(router).value(),
                         .signals = std::move(signals),
                         .notify = ServiceNotify(),
                         .log_level = std::move(log_level)});
    return server.run();
}

int start(BrokerOptions options, std::function<std::optional<std::string>()> log_level) {
    // Whatever is made from here on is for this user alone.
    ::umask(0077);
    Result<io::SignalFd> signals = io::SignalFd::open({SIGTERM, SIGINT, SIGHUP, SIGUSR1});
    if (!signals.ok())
        return refused({.exit_code = kExitSoftware, .message = signals.error().message});
    io::start_logging(
        {.program = "ibroker", .level = options.log_level, .format = options.log_format});

    auto locks = take_locks(options);
    if (const auto* refusal = std::get_if<Refusal>(&locks)) return refused(*refusal);
    if (!options.restore.empty()) return run_restore(options);
    auto recovered = recover(options);
    if (const auto* refusal = std::get_if<Refusal>(&recovered)) return refused(*refusal);
    io::Context context;
    return serve(context, std::move(options), std::move(*std::get_if<Recovered>(&recovered)),
                 std::move(signals).value(), std::move(log_level));
}

int run(int argc, const char* const* argv) {
    auto parsed = parse_options(argc, argv);
    if (const auto* farewell = std::get_if<io::Farewell>(&parsed)) {
        std::fputs(farewell->output.c_str(), stdout);
        if (!farewell->error.empty())
            std::fprintf(stderr, "ibroker: %s\n", printable(farewell->error, true).c_str());
        return farewell->exit_code;
    }
    const auto log_level = [argc, argv]() -> std::optional<std::string> {
        auto again = parse_options(argc, argv);
        const auto* options = std::get_if<BrokerOptions>(&again);
        return options == nullptr ? std::nullopt : std::optional(options->log_level);
    };
    return start(std::move(*std::get_if<BrokerOptions>(&parsed)), log_level);
}

}  // namespace
}  // namespace iw::broker

int main(int argc, char** argv) {
    try {
        return iw::broker::run(argc, argv);
    } catch (const std::exception& unexpected) {
        std::fprintf(stderr, "ibroker: unexpected failure: %s\n", unexpected.what());
        return iw::kExitSoftware;
    }
}
