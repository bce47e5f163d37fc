#include "worker/uploader.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "common/io/entropy.h"
#include "common/io/logging.h"

namespace iw::worker {
namespace {

// Small enough that a heartbeat behind the pieces under way is not late on a slow line.
constexpr std::uint64_t kPiece = 256u << 10;
static_assert(kPiece <= limits::kChunkMax);
constexpr std::size_t kUnderWayMax = 4;
constexpr std::uint64_t kHashPerSlice = 4u << 20;
constexpr Duration kAnswerPatience{30'000};
constexpr Duration kNoRoomPause{10'000};
constexpr Duration kSendPause{5'000};

// What the broker refuses now, it may take later.
bool may_pass(ErrorCode code) {
    return is_retryable(code) || code == ErrorCode::read_only || code == ErrorCode::internal ||
           code == ErrorCode::io;
}

}  // namespace

void Uploader::start(Job job) {
    const AttemptRef attempt = job.event.attempt;
    if (uploads_.contains(attempt)) return;
    workspace::Collector collector(
        job.folder, {.files_max = workspace::kManifestFilesMax, .bytes_max = job.bytes_max});
    uploads_.emplace(attempt, Upload{.job = std::move(job), .collector = std::move(collector)});
}

void Uploader::connected() {
    connected_ = true;
    flights_.clear();
    for (auto& [attempt, upload] : uploads_)
        begin_anew(upload);
}

// What the broker has of each blob is asked first.
void Uploader::begin_anew(Upload& upload) {
    for (Transfer& transfer : upload.transfers) {
        transfer.next = transfer.have = 0;
        transfer.under_way = 0;
        transfer.asked = false;
    }
}

std::optional<Timestamp> Uploader::deadline(Timestamp now) const {
    std::optional<Timestamp> first;
    const auto sooner = [&](Timestamp at) { first = first ? std::min(*first, at) : at; };
    for (const auto& [attempt, upload] : uploads_) {
        if (upload.not_before > now) {
            sooner(upload.not_before);
        } else if (!upload.listed) {
            sooner(now);
        }
    }
    for (const auto& [ticket, flight] : flights_)
        sooner(flight.since + kAnswerPatience);
    return first;
}

void Uploader::work(Timestamp now) {
    now_ = now;
    expire(now);
    std::vector<AttemptRef> attempts;
    for (const auto& [attempt, upload] : uploads_)
        attempts.push_back(attempt);
    // Each in turn, so that a large one holds up nobody.
    std::ranges::rotate(attempts, std::ranges::upper_bound(attempts, turn_));
    bool moved = true;
    while (moved) {
        moved = false;
        for (const AttemptRef& attempt : attempts) {
            const auto found = uploads_.find(attempt);
            if (found == uploads_.end() || now < found->second.not_before) continue;
            if (!found->second.listed && !collect(found->second)) continue;
            if (flights_.size() >= kUnderWayMax || !connected_) continue;
            if (uploads_.contains(attempt) && send_piece(found->second, now)) {
                moved = true;
                turn_ = attempt;
            }
        }
    }
}

void Uploader::expire(Timestamp now) {
    std::set<AttemptRef> late;
    for (const auto& [ticket, flight] : flights_) {
        if (now - flight.since >= kAnswerPatience) late.insert(flight.attempt);
    }
    for (const AttemptRef& attempt : late) {
        std::erase_if(flights_, [&](const auto& entry) { return entry.second.attempt == attempt; });
        if (const auto found = uploads_.find(attempt); found != uploads_.end())
            begin_anew(found->second);
    }
}

// ---- What there is to send ---------------------------------------------------------------------

// True once all of it is known and there is something to send.
bool Uploader::collect(Upload& upload) {
    const AttemptRef attempt = upload.job.event.attempt;
    if (!upload.collector.done()) upload.collector.step(kHashPerSlice);
    if (!upload.collector.done()) return false;
    if (!upload.collector.over().empty()) {
        finish_over(attempt, upload.collector.over());
        return false;
    }
    const workspace::Manifest manifest = upload.collector.manifest();
    if (manifest.files.empty() && manifest.left_out.empty()) {
        finish_undelivered(attempt, "");
        return false;
    }
    upload.manifest = workspace::format_manifest(manifest);
    if (upload.manifest.size() > workspace::kManifestBytesMax) {
        finish_over(attempt, "the names of its files are too long together");
        return false;
    }
    list_blobs(upload);
    return true;
}

void Uploader::list_blobs(Upload& upload) {
    const workspace::Manifest manifest = upload.collector.manifest();
    upload.listed = true;
    upload.bytes = workspace::total_bytes(manifest);
    upload.waiting.clear();
    std::set<std::string> known = upload.sent;
    for (const Transfer& transfer : upload.transfers)
        known.insert(transfer.blob);
    for (const workspace::DeliveredFile& file : manifest.files) {
        if (file.size == 0 || !known.insert(file.sha256).second) continue;
        upload.waiting.push_back({.blob = file.sha256, .path = file.path, .size = file.size});
    }
}

// ---- Out ---------------------------------------------------------------------------------------

// The manifest comes once everything that it names is there.
Uploader::Transfer* Uploader::next_transfer(Upload& upload) {
    for (Transfer& transfer : upload.transfers) {
        const bool answered = transfer.under_way == 0;
        // Of a large one the broker is asked first; of others the first piece is the question.
        if (!transfer.asked || (transfer.next < transfer.size && transfer.next > 0) ||
            (transfer.next < transfer.size && answered))
            return &transfer;
    }
    if (!upload.waiting.empty()) {
        upload.transfers.push_back(std::move(upload.waiting.front()));
        upload.waiting.pop_front();
        return &upload.transfers.back();
    }
    if (!upload.transfers.empty() || upload.manifest_sent) return nullptr;
    upload.manifest_sent = true;
    upload.transfers.push_back(
        {.blob = io::sha256_hex(upload.manifest), .path = "", .size = upload.manifest.size()});
    return &upload.transfers.back();
}

bool Uploader::send_piece(Upload& upload, Timestamp now) {
    Transfer* transfer = next_transfer(upload);
    return transfer != nullptr && send_piece(upload, *transfer, now);
}

bool Uploader::send_piece(Upload& upload, Transfer& transfer, Timestamp now) {
    const AttemptRef attempt = upload.job.event.attempt;
    PutRequest request{.session = attempt.session,
                       .fence = attempt.fence,
                       .blob = transfer.blob,
                       .size = transfer.size,
                       .offset = transfer.next,
                       .data = ""};
    const bool asks = !transfer.asked && transfer.size > kPiece;
    const std::uint64_t size = std::min(kPiece, transfer.size - transfer.next);
    if (!asks && transfer.path.empty()) {
        request.data = upload.manifest.substr(transfer.next, size);
    } else if (!asks) {
        Result<std::string> bytes = upload.collector.read(transfer.path, transfer.next, size);
        if (!bytes || bytes->size() != size) {
            changed(upload, std::string(transfer.blob));
            return true;
        }
        request.data = std::move(*bytes);
    }
    const std::uint64_t ticket = ++last_ticket_;
    if (!handlers_.send(ticket, std::move(request))) {
        upload.not_before = now + kSendPause;
        return false;
    }
    flights_[ticket] = {.attempt = attempt, .blob = transfer.blob, .since = now};
    transfer.asked = true;
    ++transfer.under_way;
    if (!asks) transfer.next += size;
    return true;
}

// ---- Answers -----------------------------------------------------------------------------------

Uploader::Transfer* Uploader::find(Upload& upload, const std::string& blob) {
    const auto found = std::ranges::find(upload.transfers, blob, &Transfer::blob);
    return found == upload.transfers.end() ? nullptr : &*found;
}

void Uploader::answer(std::uint64_t ticket, const Result<PutReply>& reply) {
    const auto found = flights_.find(ticket);
    if (found == flights_.end()) return;
    const Flight flight = std::move(found->second);
    flights_.erase(found);
    const auto upload = uploads_.find(flight.attempt);
    if (upload == uploads_.end()) return;
    if (!reply) return take_error(flight.attempt, flight.blob, reply.error());
    Transfer* transfer = find(upload->second, flight.blob);
    if (transfer == nullptr) return;
    --transfer->under_way;
    take(upload->second, *transfer, reply->have);
}

void Uploader::take(Upload& upload, Transfer& transfer, std::uint64_t have) {
    upload.warned.clear();
    if (have >= transfer.size) {
        const bool last = transfer.path.empty();
        const std::string blob = transfer.blob;
        upload.sent.insert(blob);
        std::erase_if(upload.transfers, [&](const Transfer& other) { return other.blob == blob; });
        if (last) finish(upload.job.event.attempt);
        return;
    }
    transfer.have = have;
    // Pieces that arrived in order leave nothing to repeat; else it goes on where the broker is.
    const bool stuck = transfer.under_way == 0 && transfer.next != have;
    if (stuck) transfer.next = have;
}

void Uploader::take_error(const AttemptRef& attempt, const std::string& blob, const Error& error) {
    Upload& upload = uploads_.at(attempt);
    if (error.code == ErrorCode::no_session) return;  // asked again after the next welcome
    if (error.code == ErrorCode::conflict) return changed(upload, blob);
    if (error.code == ErrorCode::too_large) return finish_over(attempt, error.message);
    // Nobody wants them any more, or this broker cannot take files at all.
    if (!may_pass(error.code)) return finish_undelivered(attempt, error.message);
    warn(upload, "its files wait for the broker: " + error.message);
    upload.not_before = now_ + kNoRoomPause;
    begin_anew(upload);
    std::erase_if(flights_, [&](const auto& entry) { return entry.second.attempt == attempt; });
}

// The file is not what was hashed: it is read anew, and so is the manifest made anew.
void Uploader::changed(Upload& upload, const std::string& blob) {
    for (const workspace::DeliveredFile& file : upload.collector.manifest().files) {
        if (file.sha256 == blob) upload.collector.read_anew(file.path);
    }
    std::erase_if(upload.transfers, [&](const Transfer& transfer) {
        return transfer.blob == blob || transfer.path.empty();
    });
    const AttemptRef attempt = upload.job.event.attempt;
    std::erase_if(flights_, [&](const auto& entry) {
        return entry.second.attempt == attempt &&
               (entry.second.blob == blob || upload.manifest_sent);
    });
    upload.manifest_sent = false;
    upload.listed = false;
}

void Uploader::warn(Upload& upload, const std::string& text) {
    if (upload.warned == text) return;
    upload.warned = text;
    handlers_.on_warning(upload.job.event.attempt, text);
}

// ---- The end -----------------------------------------------------------------------------------

void Uploader::finish(const AttemptRef& attempt) {
    auto node = uploads_.extract(attempt);
    Upload& upload = node.mapped();
    const workspace::Manifest manifest = upload.collector.manifest();
    upload.job.event.deliverables.delivered = Delivered{.manifest = io::sha256_hex(upload.manifest),
                                                        .files = manifest.files.size(),
                                                        .bytes = upload.bytes};
    io::log(io::LogLevel::info, "delivered",
            {{"attempt", attempt_name(attempt)},
             {"files", std::to_string(manifest.files.size())},
             {"bytes", std::to_string(upload.bytes)}});
    handlers_.on_done(std::move(upload.job.event));
}

void Uploader::finish_over(const AttemptRef& attempt, const std::string& why) {
    auto node = uploads_.extract(attempt);
    JudgedEvent& event = node.mapped().job.event;
    event.deliverables.fault = EndCause::disk_limit;
    event.deliverables.delivered.reset();
    event.deliverables.reason = "Disk limit (" + why + "): its files did not travel";
    handlers_.on_warning(attempt, event.deliverables.reason);
    handlers_.on_done(std::move(event));
}

void Uploader::finish_undelivered(const AttemptRef& attempt, const std::string& why) {
    auto node = uploads_.extract(attempt);
    if (!why.empty()) handlers_.on_warning(attempt, "its files did not travel: " + why);
    handlers_.on_done(std::move(node.mapped().job.event));
}

}  // namespace iw::worker
