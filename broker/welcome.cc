#include "broker/welcome.h"

#include "common/base/limits.h"
#include "common/base/version.h"

namespace iw::broker {

std::map<std::string, std::uint64_t> announced_limits() {
    return {
        {"message", limits::kMessageMax},
        {"prompt", limits::kPromptMax},
        {"result_inline", limits::kResultInlineMax},
        {"page_rows", limits::kPageRowsMax},
        {"page_bytes", limits::kPageBytesMax},
        {"key", limits::kKeyMax},
        {"request_id", limits::kRequestIdMax},
        {"tags", limits::kTagsMax},
        {"tag_bytes", limits::kTagBytesMax},
        {"metadata", limits::kMetadataMax},
        {"reason", limits::kReasonMax},
        {"path", limits::kPathMax},
        {"ids_per_request", limits::kIdsPerRequestMax},
        {"submit_batch", limits::kSubmitBatchMax},
        {"report_batch", limits::kReportBatchMax},
        {"agents_per_worker", limits::kAgentsPerWorkerMax},
        {"inventory", limits::kInventoryMax},
        {"decode_depth", static_cast<std::uint64_t>(limits::kDecodeDepthMax)},
        {"session_depth", static_cast<std::uint64_t>(limits::kSessionDepthMax)},
        {"events_wait", static_cast<std::uint64_t>(limits::kEventsWaitMax.count())},
    };
}

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
