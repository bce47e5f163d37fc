#pragma once

// Every limit of the wire and of the broker, with how they relate. Sizes in bytes. They are
// announced in WELCOME and listed in common/PROTOCOL.md ("Limits").

#include <cstddef>
#include <cstdint>

#include "common/base/time.h"

namespace iw::limits {

inline constexpr std::size_t kMessageMax = 4u << 20;
inline constexpr std::size_t kPromptMax = 2u << 20;
inline constexpr std::size_t kResultInlineMax = 1u << 20;
inline constexpr std::size_t kPageRowsMax = 500;
inline constexpr std::size_t kPageBytesMax = 512u << 10;
inline constexpr std::size_t kKeyMax = 128;
inline constexpr std::size_t kRequestIdMax = 32;
inline constexpr std::size_t kTagsMax = 32;
inline constexpr std::size_t kTagBytesMax = 128;
inline constexpr std::size_t kMetadataMax = 64u << 10;
inline constexpr std::size_t kSchemaMax = 64u << 10;
inline constexpr std::size_t kChunkMax = 1u << 20;     // of a blob, in one message
inline constexpr std::uint64_t kBlobMax = 5ULL << 30;  // one file that travels
inline constexpr std::size_t kReasonMax = 1024;
inline constexpr std::size_t kPathMax = 4096;
inline constexpr std::size_t kIdsPerRequestMax = 500;
inline constexpr std::size_t kSubmitBatchMax = 500;
inline constexpr std::size_t kReportBatchMax = 100;
inline constexpr std::size_t kAgentsPerWorkerMax = 500;
inline constexpr std::size_t kInventoryMax = 10'000;
inline constexpr int kDecodeDepthMax = 8;   // nesting of one message
inline constexpr int kSessionDepthMax = 8;  // parents above a session
inline constexpr std::size_t kDependenciesMax = 100;
inline constexpr std::uint32_t kAttemptsMax = 100;
inline constexpr int kPriorityMin = -100;
inline constexpr int kPriorityMax = 100;
inline constexpr int kSlotsMax = 1000;
inline constexpr Duration kEventsWaitMax{30'000};

// One turn of the broker's loop reads at most this much before it commits.
inline constexpr std::size_t kTurnMessagesMax = 512;
inline constexpr std::size_t kTurnBytesMax = 8u << 20;
// One commit unit of the journal holds a whole turn; a segment holds at least one unit.
inline constexpr std::size_t kCommitBytesMax = 14u << 20;
inline constexpr std::size_t kSegmentBytesMin = 16u << 20;
inline constexpr std::size_t kSegmentBytesDefault = 64u << 20;

// A session may be given back to the queue by the platform (not started, host lost) this often.
inline constexpr std::uint32_t kPlatformFaultsMax = 3;

static_assert(kPromptMax + kMetadataMax + kSchemaMax + 64 * 1024 <= kMessageMax,
              "one submission fits a message");
static_assert(kResultInlineMax + 64 * 1024 <= kMessageMax, "one report fits a message");
static_assert(kChunkMax + 64 * 1024 <= kMessageMax, "one chunk fits a message");
static_assert(kTurnBytesMax + kMessageMax <= kCommitBytesMax, "a turn fits a commit unit");
static_assert(kCommitBytesMax < kSegmentBytesMin, "a commit unit fits a segment");

// Leases (design: heartbeats are announced by the broker; silence moves nothing before its
// deadline).
inline constexpr Duration kHeartbeatInterval{10'000};
inline constexpr Duration kUnreachableAfter{45'000};
inline constexpr Duration kLostAfter{600'000};
static_assert(kHeartbeatInterval * 3 < kUnreachableAfter);
static_assert(kUnreachableAfter * 2 < kLostAfter);

inline constexpr Duration kRunTimeoutDefault{24LL * 3600 * 1000};
inline constexpr Duration kStopGrace{10'000};
inline constexpr Duration kBackoffDefault{10'000};
inline constexpr Duration kBackoffMaxDefault{600'000};
// One point of priority is worth this much waiting.
inline constexpr Duration kAgeingPerPriority{60'000};

}  // namespace iw::limits
