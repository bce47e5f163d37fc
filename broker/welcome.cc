#include "broker/welcome.h"

#include "common/base/version.h"
#include "common/codec/codec.h"

namespace iw::broker {

WelcomeReply make_welcome(const BrokerCore& core, const CoreConfig& leases, Now now) {
    const FleetReply fleet = core.fleet(now);
    return WelcomeReply{.software = "ibroker " + std::string(kVersion),
                        .protocol = kProtocolVersion,
                        .epoch = fleet.epoch,
                        .generation = fleet.generation,
                        .seq = core.head(),
                        .time = now.wall,
                        .heartbeat = leases.heartbeat,
                        .unreachable = leases.unreachable_after,
                        .lost = leases.lost_after,
                        .restored = fleet.restored,
                        .limits = announced_limits(),
                        .capabilities = {}};
}

std::optional<ErrorReply> check_versions(const HelloRequest& hello) {
    if (hello.protocol_min <= kProtocolVersion && kProtocolVersion <= hello.protocol_max)
        return std::nullopt;
    const std::string ours = std::to_string(kProtocolVersion);
    return refuse(ErrorCode::version,
                  "the broker speaks version " + ours + " of the protocol, you speak " +
                      std::to_string(hello.protocol_min) + " to " +
                      std::to_string(hello.protocol_max) + "; update the older side");
}

}  // namespace iw::broker
