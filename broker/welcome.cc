#include "broker/welcome.h"

#include "common/base/version.h"
#include "common/codec/codec.h"

namespace iw::broker {

WelcomeReply make_welcome(const Identity& identity, Seq seq, WallTime time) {
    return WelcomeReply{.software = "ibroker " + std::string(kVersion),
                        .protocol = kProtocolVersion,
                        .epoch = identity.epoch,
                        .generation = identity.generation,
                        .seq = seq,
                        .time = time,
                        .heartbeat = identity.leases.heartbeat,
                        .unreachable = identity.leases.unreachable_after,
                        .lost = identity.leases.lost_after,
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
