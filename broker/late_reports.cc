#include "broker/late_reports.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include "common/base/text.h"

namespace iw::broker {
namespace {

constexpr std::uint32_t kEndedNumber = 2;

bool is_unknown(const ReportAck& ack) {
    return ack.error && ack.error->code == ErrorCode::not_found;
}

// `start`: the report says that an attempt runs.
Status settle(Database& database, bool start, ReportAck& ack) {
    Result<std::optional<SessionView>> found = database.session(ack.session);
    if (!found.ok()) return found.error();
    const std::string shown = "session " + printable(ack.session.str(), true);
    if (!*found) {
        // STALE_FENCE would make the worker stop the attempt, and it may be older than a restore.
        if (start) return Done{};
        ack.error = make_error(ErrorCode::stale_fence, shown + " is not known here");
        return Done{};
    }
    SessionView& session = **found;
    if (!is_final(session.status)) return Done{};
    const Fence fence{.generation = session.generation, .attempt = session.attempt};
    if (ack.fence != fence) {
        ack.error = make_error(ErrorCode::stale_fence,
                               shown + " ended with attempt " + std::to_string(fence.attempt));
        return Done{};
    }
    ack.error.reset();
    if (ack.number == kEndedNumber) ack.outcome = Outcome{.session = std::move(session)};
    return Done{};
}

Result<StopPush> stops_among(Database& database, const std::vector<AttemptState>& attempts) {
    StopPush push;
    for (const AttemptState& attempt : attempts) {
        const Result<std::optional<SessionView>> found = database.session(attempt.session);
        if (!found.ok()) return found.error();
        if (!*found || !is_final((*found)->status)) continue;
        push.stops.push_back(StopOrder{.session = attempt.session,
                                       .fence = attempt.fence,
                                       .cause = Detail::killed,
                                       .reason = "superseded"});
    }
    return push;
}

}  // namespace

void LateReports::report(const Requester& who, const WorkerName& worker, ReportRequest request) {
    std::vector<bool> starts;
    for (const Report& report : request.reports)
        starts.push_back(std::holds_alternative<StartedReport>(report.body));
    const Turn::Rewrite fill = [&](Answer answer) -> std::optional<Answer> {
        auto* reply = std::get_if<Reply>(&answer);
        auto* acks = reply == nullptr ? nullptr : std::get_if<ReportReply>(reply);
        const bool is_whole = acks == nullptr || std::ranges::none_of(acks->acks, is_unknown);
        // An acknowledgement that stays NOT_FOUND is asked for again.
        if (is_whole || database_.is_crowded()) return answer;
        look_up(who, std::move(*acks), std::move(starts));
        return std::nullopt;
    };
    ReportEvent event{
        .caller = caller_of(who), .worker = worker, .reports = std::move(request.reports)};
    turn_.step(core_, who, std::move(event), fill);
}

void LateReports::look_up(const Requester& who, ReportReply reply, std::vector<bool> starts) {
    database_.ask<ReportReply>(
        [reply, starts = std::move(starts)](Database& database) mutable -> Result<ReportReply> {
            for (std::size_t i = 0; i < reply.acks.size(); ++i) {
                if (!is_unknown(reply.acks[i])) continue;
                const Status settled = settle(database, starts[i], reply.acks[i]);
                if (!settled.ok()) return settled.error();
            }
            return std::move(reply);
        },
        [this, who, reply](Result<ReportReply> filled) {
            // The acknowledgements that the core gave hold whether the others can be given or not.
            turn_.reply(who.to, Reply(filled.ok() ? std::move(filled).value() : reply));
        });
}

void LateReports::greeted(PeerId peer, const std::vector<AttemptState>& inventory) {
    std::vector<AttemptState> over;
    for (const AttemptState& attempt : inventory) {
        const bool may_run =
            attempt.phase == AttemptPhase::accepted || attempt.phase == AttemptPhase::running;
        if (may_run && !core_.is_live(attempt.session)) over.push_back(attempt);
    }
    if (over.empty()) return;
    database_.ask<StopPush>(
        [over = std::move(over)](Database& database) { return stops_among(database, over); },
        [this, peer](Result<StopPush> push) {
            // After a failure the worker's next hello asks again.
            if (push.ok() && !push->stops.empty()) turn_.push(peer, std::move(push).value());
        });
}

}  // namespace iw::broker
