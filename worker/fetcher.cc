#include "worker/fetcher.h"

#include <algorithm>
#include <utility>

#include "common/io/files.h"
#include "common/io/logging.h"

namespace iw::worker {
namespace {

constexpr std::size_t kUnderWayMax = 4;
constexpr Duration kAnswerPatience{30'000};
constexpr Duration kPause{10'000};
// A blob that comes wrong this often is wrong where it lies.
constexpr int kSpoiledMax = 3;

}  // namespace

void Fetcher::start(WriteFinal action, const std::string& workspace) {
    const AttemptRef attempt = action.attempt;
    if (fetches_.contains(attempt)) return;
    Fetch fetch{.action = std::move(action), .workspace = workspace};
    fetches_.emplace(attempt, std::move(fetch));
}

bool Fetcher::is_busy_with(const SessionId& id) const {
    return std::ranges::any_of(fetches_,
                               [&](const auto& entry) { return entry.first.session == id; });
}

void Fetcher::connected() {
    connected_ = true;
    flights_.clear();
}

std::optional<Timestamp> Fetcher::deadline(Timestamp now) const {
    std::optional<Timestamp> first;
    const auto sooner = [&](Timestamp at) { first = first ? std::min(*first, at) : at; };
    for (const auto& [attempt, fetch] : fetches_) {
        if (fetch.not_before > now) sooner(fetch.not_before);
    }
    for (const auto& [ticket, flight] : flights_)
        sooner(flight.since + kAnswerPatience);
    return first;
}

void Fetcher::work(Timestamp now) {
    now_ = now;
    std::erase_if(flights_,
                  [&](const auto& entry) { return now - entry.second.since >= kAnswerPatience; });
    bool moved = connected_;
    while (moved) {
        moved = false;
        for (auto& [attempt, fetch] : fetches_) {
            if (flights_.size() >= kUnderWayMax) return;
            if (now >= fetch.not_before && ask(fetch, now)) moved = true;
        }
    }
}

// ---- Out ---------------------------------------------------------------------------------------

bool Fetcher::is_under_way(const AttemptRef& attempt, const std::string& blob) const {
    return std::ranges::any_of(flights_, [&](const auto& entry) {
        return entry.second.attempt == attempt && entry.second.blob == blob;
    });
}

// One piece of a blob at a time: how long a piece is, the broker decides.
bool Fetcher::ask(Fetch& fetch, Timestamp now) {
    const AttemptRef& attempt = fetch.action.attempt;
    if (!fetch.incoming) {
        const std::string& blob = fetch.action.outcome.deliverables->manifest;
        return !is_under_way(attempt, blob) && ask(fetch, blob, fetch.manifest.size(), now);
    }
    for (const workspace::Incoming::Wanted& wanted : fetch.incoming->wanted(kUnderWayMax)) {
        if (!is_under_way(attempt, wanted.blob)) return ask(fetch, wanted.blob, wanted.have, now);
    }
    return false;
}

bool Fetcher::ask(Fetch& fetch, const std::string& blob, std::uint64_t offset, Timestamp now) {
    const std::uint64_t ticket = ++last_ticket_;
    const AttemptRef& attempt = fetch.action.attempt;
    if (!handlers_.send(ticket, {.id = attempt.session.str(), .blob = blob, .offset = offset})) {
        fetch.not_before = now + kPause;
        return false;
    }
    flights_[ticket] = {.attempt = attempt, .blob = blob, .offset = offset, .since = now};
    return true;
}

// ---- Answers -----------------------------------------------------------------------------------

void Fetcher::answer(std::uint64_t ticket, const Result<GetReply>& reply) {
    const auto found = flights_.find(ticket);
    if (found == flights_.end()) return;
    const Flight flight = std::move(found->second);
    flights_.erase(found);
    const auto fetch = fetches_.find(flight.attempt);
    if (fetch == fetches_.end()) return;
    if (!reply) return take_error(fetch->second, flight, reply.error());
    if (!fetch->second.incoming) return take_manifest(fetch->second, *reply);
    take_piece(fetch->second, flight, *reply);
}

void Fetcher::take_manifest(Fetch& fetch, const GetReply& reply) {
    fetch.manifest += reply.data;
    const bool sane = reply.size <= workspace::kManifestBytesMax &&
                      fetch.manifest.size() <= reply.size &&
                      (!reply.data.empty() || fetch.manifest.size() == reply.size);
    if (sane && fetch.manifest.size() < reply.size) return;
    const std::string& name = fetch.action.outcome.deliverables->manifest;
    if (!sane || io::sha256_hex(fetch.manifest) != name) {
        fetch.lines.push_back("the list of its files came damaged; none were brought here");
        return finish(fetch, std::nullopt);
    }
    begin(fetch);
}

void Fetcher::begin(Fetch& fetch) {
    Result<workspace::Manifest> manifest = workspace::parse_manifest(fetch.manifest);
    if (!manifest) {
        fetch.lines.push_back(manifest.error().message + "; none of its files were brought here");
        return finish(fetch, std::nullopt);
    }
    fetch.lines = manifest->left_out;
    for (std::string& line : fetch.lines)
        line.insert(0, "left behind: ");
    Result<workspace::Incoming> incoming =
        workspace::Incoming::open(fetch.workspace, workspace::Incoming::Busy::refuse);
    if (!incoming) {
        // Who removed it does not want them.
        const bool gone = incoming.error().code == ErrorCode::not_found;
        return finish(fetch, gone ? std::nullopt : std::optional(incoming.error()));
    }
    if (const Status expected = incoming->expect(std::move(*manifest)); !expected)
        return finish(fetch, expected.error());
    fetch.incoming = std::move(*incoming);
    if (fetch.incoming->complete()) install(fetch);
}

void Fetcher::take_piece(Fetch& fetch, const Flight& flight, const GetReply& reply) {
    if (reply.data.empty()) {
        fetch.lines.push_back("the broker ends a file early: " + flight.blob);
        fetch.incoming->give_up(flight.blob);
    } else if (const Status took = fetch.incoming->append(flight.blob, flight.offset, reply.data);
               !took) {
        if (took.error().code != ErrorCode::conflict) return finish(fetch, took.error());
        if (++fetch.spoiled[flight.blob] >= kSpoiledMax) {
            fetch.lines.push_back(took.error().message);
            fetch.incoming->give_up(flight.blob);
        }
    }
    if (fetch.incoming->complete()) install(fetch);
}

void Fetcher::take_error(Fetch& fetch, const Flight& flight, const Error& error) {
    if (error.code == ErrorCode::no_session) return;  // asked again after the next welcome
    const bool for_good = error.code == ErrorCode::not_found || error.code == ErrorCode::gone ||
                          error.code == ErrorCode::unknown_verb ||
                          error.code == ErrorCode::forbidden ||
                          error.code == ErrorCode::bad_request;
    if (!for_good) {
        fetch.not_before = now_ + kPause;
        return;
    }
    if (!fetch.incoming) {
        fetch.lines.push_back("its files are not to be had: " + error.message);
        return finish(fetch, std::nullopt);
    }
    const std::size_t files = fetch.incoming->give_up(flight.blob);
    fetch.lines.push_back(std::to_string(files) + " of its files: " + error.message);
    if (fetch.incoming->complete()) install(fetch);
}

void Fetcher::install(Fetch& fetch) {
    // Moved away while it was still running for everybody, and made again: that one gets them.
    if (!fetch.incoming->stands_at(fetch.workspace) && io::exists(fetch.workspace)) {
        fetch.incoming->discard();
        return finish(fetch, make_error(ErrorCode::conflict, "the workspace was moved meanwhile"));
    }
    const Status installed = fetch.incoming->install();
    finish(fetch, installed ? std::nullopt : std::optional(installed.error()));
}

void Fetcher::finish(Fetch& fetch, std::optional<Error> error) {
    const AttemptRef attempt = fetch.action.attempt;
    std::erase_if(flights_, [&](const auto& entry) { return entry.second.attempt == attempt; });
    auto node = fetches_.extract(attempt);
    const Fetch done = std::move(node.mapped());
    if (error) return handlers_.on_done(done.action, *error);
    handlers_.on_done(done.action, done.lines);
}

}  // namespace iw::worker
