#include "broker/blob_requests.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "broker/session_lookup.h"
#include "common/base/limits.h"
#include "common/base/text.h"
#include "common/io/logging.h"

namespace iw::broker {
namespace {

constexpr std::size_t kPutBytesMax = 64u << 20;
// Each holds at most one chunk in memory.
constexpr std::size_t kGetsMax = 128;
constexpr std::size_t kGetsOfPeerMax = 16;
// A manifest may be larger than the files that it lists.
constexpr std::uint64_t kManifestAllowance = 16u << 20;
constexpr Duration kCrowdedRetry{200};
constexpr Duration kStorageRetry{5'000};

// A file that changes while it is sent comes anew, and what came of it before stays meanwhile.
constexpr std::uint64_t kTimesSent = 4;

std::uint64_t all_max(const std::optional<std::uint64_t>& disk_limit) {
    constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
    if (!disk_limit || *disk_limit > kMost / kTimesSent - kManifestAllowance) return kMost;
    return *disk_limit * kTimesSent + kManifestAllowance;
}

std::uint64_t size_max(const std::optional<std::uint64_t>& disk_limit) {
    if (!disk_limit || *disk_limit > limits::kBlobMax - kManifestAllowance) return limits::kBlobMax;
    return *disk_limit + kManifestAllowance;
}

}  // namespace

class BlobRequests::Ticket {
  public:
    Ticket(Count all, Count of_peer) : all_(std::move(all)), of_peer_(std::move(of_peer)) {
        ++*all_;
        ++*of_peer_;
    }
    // On whichever thread lets the answer's bytes go.
    ~Ticket() {
        --*all_;
        --*of_peer_;
    }
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;

  private:
    Count all_;
    Count of_peer_;
};

BlobRequests::BlobRequests(Parts parts)
    : parts_(parts), gets_(std::make_shared<std::atomic<std::size_t>>(0)) {}

// What is wrong with the broker's own files is its operator's to know. A sender waits it out: the
// files of a run are not given up because a disk is being mended.
Answer BlobRequests::failed(const Error& error, const std::string& what) const {
    if (error.code == ErrorCode::io) {
        io::log(io::LogLevel::error, "a blob cannot be " + what, {{"error", error.message}});
        const bool put = what == "put";
        return refuse(put ? ErrorCode::storage_low : ErrorCode::internal,
                      "the broker's blobs cannot be " + std::string(put ? "written" : "read") +
                          "; its log says why",
                      put ? kStorageRetry : Duration(0));
    }
    const Duration retry = error.code == ErrorCode::storage_low    ? kStorageRetry
                           : error.code == ErrorCode::rate_limited ? kCrowdedRetry
                                                                   : Duration(0);
    return ErrorReply{.error = error, .retry = retry, .matches = {}};
}

void BlobRequests::describe(FleetReply& fleet) const {
    fleet.blobs_bytes = parts_.blobs.bytes();
    fleet.blobs_max = parts_.blobs.bytes_max();
}

// ---- Put ---------------------------------------------------------------------------------------

void BlobRequests::put(const Requester& who, const WorkerName& worker, PutRequest request) {
    Turn& turn = parts_.turn;
    if (turn.is_held_still()) return turn.reply(who.to, turn.held_still_answer());
    const AttemptRef attempt{.session = request.session, .fence = request.fence};
    if (!parts_.core.is_current(attempt, worker)) return refuse_put(who, attempt);
    const std::size_t bytes = request.data.size();
    if (put_bytes_ + bytes > kPutBytesMax || parts_.blobs.is_crowded()) {
        return turn.reply(who.to, refuse(ErrorCode::rate_limited,
                                         "too much waits for the broker's blobs; send it again in "
                                         "a moment",
                                         kCrowdedRetry));
    }
    put_bytes_ += bytes;
    const std::optional<std::uint64_t> disk_limit = parts_.core.disk_limit(attempt.session);
    BlobChunk chunk{.blob = std::move(request.blob),
                    .size = request.size,
                    .size_max = size_max(disk_limit),
                    .all_max = all_max(disk_limit),
                    .offset = request.offset,
                    .data = std::move(request.data)};
    parts_.blobs.ask<std::uint64_t>(
        [attempt, chunk = std::move(chunk)](BlobStore& store) { return store.put(attempt, chunk); },
        [this, who, bytes](const Result<std::uint64_t>& have) {
            put_bytes_ -= bytes;
            if (!have.ok()) return parts_.turn.reply(who.to, failed(have.error(), "put"));
            parts_.turn.reply(who.to, Reply(PutReply{.have = *have}));
        });
}

// As for reports: what is over is stale, and what nobody knows is not found.
void BlobRequests::refuse_put(const Requester& who, const AttemptRef& attempt) {
    const std::string shown = "session " + printable(attempt.session.str(), true);
    const auto stale = [shown] {
        return refuse(ErrorCode::stale_fence,
                      "this attempt of " + shown + " does not count (any more)");
    };
    if (parts_.core.is_live(attempt.session)) return parts_.turn.reply(who.to, stale());
    if (parts_.database.is_crowded()) {
        return parts_.turn.reply(
            who.to, refuse(ErrorCode::rate_limited,
                           "too many questions wait for the broker's database; ask again in a "
                           "moment",
                           kCrowdedRetry));
    }
    parts_.database.ask<std::optional<SessionView>>(
        [id = attempt.session](Database& database) { return database.session(id); },
        [this, who, shown, stale](const Result<std::optional<SessionView>>& found) {
            if (!found.ok()) return parts_.turn.reply(who.to, question_failed(found.error()));
            if (*found) return parts_.turn.reply(who.to, stale());
            parts_.turn.reply(who.to, refuse(ErrorCode::not_found, shown + " is not known here"));
        });
}

// ---- Get ---------------------------------------------------------------------------------------

// Counted until the transport has let the answer go, so that who asks and does not read fills no
// memory.
std::shared_ptr<const void> BlobRequests::take_ticket(PeerId peer) {
    if (*gets_ >= kGetsMax) return nullptr;
    const auto known = gets_of_.find(peer.value);
    if (known != gets_of_.end() && *known->second >= kGetsOfPeerMax) return nullptr;
    if (known == gets_of_.end()) {
        std::erase_if(gets_of_, [](const auto& each) { return *each.second == 0; });
    }
    Count& of_peer = gets_of_[peer.value];
    if (!of_peer) of_peer = std::make_shared<std::atomic<std::size_t>>(0);
    return std::make_shared<const Ticket>(gets_, of_peer);
}

void BlobRequests::get(const Requester& who, const GetRequest& request) {
    std::shared_ptr<const void> ticket = take_ticket(who.to.peer);
    if (ticket == nullptr) {
        return parts_.turn.reply(who.to, refuse(ErrorCode::rate_limited,
                                                "too many pieces of files are under way; read "
                                                "those and ask again",
                                                kCrowdedRetry));
    }
    parts_.blobs.ask<BlobPiece>(
        [request](BlobStore& store) {
            return store.get(SessionId(request.id), request.blob, request.offset,
                             limits::kChunkMax);
        },
        [this, who, ticket](Result<BlobPiece> piece) {
            if (!piece.ok()) return parts_.turn.reply(who.to, failed(piece.error(), "got"));
            parts_.turn.reply(who.to,
                              Reply(GetReply{.data = std::move(piece->data), .size = piece->size}),
                              ticket);
        });
}

}  // namespace iw::broker
