#include "broker/admin_requests.h"

#include <algorithm>
#include <map>
#include <utility>

#include "broker/session_lookup.h"
#include "common/base/limits.h"
#include "common/base/text.h"
#include "common/base/version.h"
#include "common/io/files.h"
#include "common/io/logging.h"

namespace iw::broker {
namespace {

// As many random bytes as a new database takes for its first epoch.
constexpr std::size_t kEpochBytes = 16;

using Statuses = std::map<SessionId, SessionStatus>;

bool begins_epoch(const Record& record) {
    return std::holds_alternative<EpochBegun>(record.body);
}

}  // namespace

AdminRequests::AdminRequests(Parts parts) : parts_(parts) {
    parts_.turn.hold_still(parts_.read_only.why());
}

void AdminRequests::fleet(const Requester& who) {
    FleetReply fleet = parts_.core.fleet(parts_.turn.now());
    fleet.software = "ibroker " + std::string(kVersion);
    fleet.read_only = parts_.read_only.why();
    parts_.backups.describe(fleet);
    parts_.blobs.describe(fleet);
    parts_.submissions.describe(fleet);
    parts_.turn.reply(who.to, Reply(std::move(fleet)));
}

// To the core a session that is over is as unknown as one that it never heard of; the database
// knows better.
void AdminRequests::workers(const Requester& who) {
    WorkersReply reply = parts_.core.workers(parts_.turn.now());
    std::vector<SessionId> ids;
    for (const WorkerView& worker : reply.workers) {
        for (const AttemptRef& attempt : worker.unknown)
            ids.push_back(attempt.session);
    }
    if (ids.empty()) return parts_.turn.reply(who.to, Reply(std::move(reply)));
    parts_.database.ask<Statuses>(
        [ids = std::move(ids)](Database& database) { return database.statuses(ids); },
        [this, who, reply = std::move(reply)](const Result<Statuses>& kept) mutable {
            if (!kept.ok()) return parts_.turn.reply(who.to, question_failed(kept.error()));
            for (WorkerView& worker : reply.workers) {
                std::erase_if(worker.unknown, [&](const AttemptRef& attempt) {
                    return kept->contains(attempt.session);
                });
            }
            parts_.turn.reply(who.to, Reply(std::move(reply)));
        });
}

void AdminRequests::hold(const Requester& who, const HoldRequest& request) {
    parts_.turn.step(parts_.core, who, HoldEvent{.caller = caller_of(who), .request = request}, {});
}

void AdminRequests::confirm_dead(const Requester& who, const ConfirmDeadRequest& request) {
    parts_.turn.step(parts_.core, who,
                     ConfirmDeadEvent{.caller = caller_of(who), .request = request}, {});
}

void AdminRequests::backup(const Requester& who, const BackupRequest& request) {
    parts_.backups.request(who, request);
}

void AdminRequests::release(const Requester& who, const ReleaseRequest& request) {
    if (request.accept_loss) return accept_loss(who, request);
    parts_.turn.step(
        parts_.core, who,
        ReleaseEvent{.caller = caller_of(who), .force = request.force, .reason = request.reason},
        {});
}

void AdminRequests::accept_loss(const Requester& who, const ReleaseRequest& request) {
    if (!parts_.read_only.is_on()) {
        return parts_.turn.reply(
            who.to, refuse(ErrorCode::conflict,
                           "the broker is not read-only: no loss is there to be accepted"));
    }
    const std::string why = request.reason.empty() ? parts_.read_only.evidence() : request.reason;
    BeginEpochEvent event{.caller = caller_of(who),
                          .epoch = io::random_hex(kEpochBytes),
                          .reason = short_line("a loss was accepted: " + why, limits::kReasonMax),
                          .principal = who.principal};
    parts_.turn.step_regardless(parts_.core, who, std::move(event), {});
}

void AdminRequests::compare_heads(const WorkerName& worker, const SeenHead& seen) {
    if (parts_.read_only.is_on()) return;
    const FleetReply fleet = parts_.core.fleet(parts_.turn.now());
    std::string why =
        why_read_only("worker " + worker.str(), seen, fleet.epoch, parts_.core.head());
    if (why.empty()) return;
    io::log(io::LogLevel::error,
            "the store has lost records; nothing changes until an admin decides", {{"why", why}});
    parts_.turn.hold_still(why);
    const Status marked = parts_.read_only.enter(fleet.epoch, std::move(why));
    if (!marked.ok())
        io::log(io::LogLevel::error, "cannot write the mark", {{"error", marked.error().message}});
}

std::vector<PeerId> AdminRequests::committed() {
    if (std::ranges::none_of(parts_.turn.records, begins_epoch)) return {};
    const Status left = parts_.read_only.leave();
    if (!left.ok())
        io::log(io::LogLevel::warn, "cannot remove the mark", {{"error", left.error().message}});
    parts_.turn.hold_still({});
    return parts_.peers.forget_greetings();
}

}  // namespace iw::broker
