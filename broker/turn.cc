#include "broker/turn.h"

#include <iterator>
#include <utility>

#include "common/base/overloaded.h"

namespace iw::broker {
namespace {

// Fixed part of a record: its numbers, names and heads of texts.
constexpr std::size_t kRecordBytes = 512;

std::size_t size_of_submission(const Submission& submission) {
    std::size_t size = submission.prompt.size() + submission.metadata.size() +
                       submission.result_schema.size() + submission.origin.root.size();
    for (const std::string& tag : submission.tags) {
        size += tag.size() + sizeof(std::string);
    }
    for (const auto& [name, value] : submission.require) {
        size += name.size() + value.size() + 2 * sizeof(std::string);
    }
    for (const Dependency& dependency : submission.after) {
        size += dependency.id.str().size() + sizeof(Dependency);
    }
    return size;
}

std::size_t size_of_registration(const WorkerRegistered& worker) {
    std::size_t size = worker.root.size();
    for (const std::string& agent : worker.agents) {
        size += agent.size() + sizeof(std::string);
    }
    for (const auto& [name, value] : worker.labels) {
        size += name.size() + value.size() + 2 * sizeof(std::string);
    }
    return size;
}

// A lambda for each kind would only repeat these three; the others are small.
struct BodySize {
    std::size_t operator()(const SessionCreated& body) const {
        constexpr std::size_t kIdBytes = 128;
        return size_of_submission(body.submission) + body.ancestors.size() * kIdBytes;
    }
    std::size_t operator()(const SessionEnded& body) const {
        return body.result.size() + body.evidence.size() + body.reason.size() +
               body.workspace.size();
    }
    std::size_t operator()(const WorkerRegistered& body) const {
        return size_of_registration(body);
    }
    std::size_t operator()(const AttemptStarted& body) const { return body.workspace.size(); }
    std::size_t operator()(const AttemptReturned& body) const {
        return body.reason.size() + body.evidence.size();
    }
    std::size_t operator()(const SessionEdited& body) const {
        constexpr std::size_t kIdBytes = 128;
        std::size_t size = (body.ancestors.size() + body.below.size()) * kIdBytes;
        if (body.metadata) size += body.metadata->size();
        for (const std::string& tag : body.tags.value_or(std::vector<std::string>{}))
            size += tag.size() + sizeof(std::string);
        return size;
    }
    std::size_t operator()(const KillWished& body) const { return body.reason.size(); }
    std::size_t operator()(const ReportSuperseded& body) const {
        return body.what.size() + body.result.size();
    }
    std::size_t operator()(const HoldChanged& body) const {
        return body.name.size() + body.reason.size();
    }
    std::size_t operator()(const EpochBegun& body) const { return body.reason.size(); }
    std::size_t operator()(const RestoreReleased& body) const { return body.reason.size(); }
    std::size_t operator()(const WorkerNoted& body) const { return body.evidence.size(); }
    std::size_t operator()(const AttemptAssigned&) const { return 0; }
    std::size_t operator()(const SessionClosed&) const { return 0; }
    std::size_t operator()(const TimeoutChanged&) const { return 0; }
    std::size_t operator()(const AttemptAdopted&) const { return 0; }
};

}  // namespace

ErrorReply refuse(ErrorCode code, std::string message) {
    return refuse(code, std::move(message), Duration(0));
}

ErrorReply refuse(ErrorCode code, std::string message, Duration retry) {
    return ErrorReply{.error = make_error(code, std::move(message)), .retry = retry, .matches = {}};
}

void Turn::begin(Now now) {
    now_ = now;
    records.clear();
    outgoing.clear();
    transitions.clear();
}

void Turn::reply(const ReplyTo& to, Answer answer) {
    reply(to, std::move(answer), nullptr);
}

void Turn::reply(const ReplyTo& to, Answer answer, std::shared_ptr<const void> ticket) {
    outgoing.push_back(Outbound{.peer = to.peer,
                                .what = Outbound::Answered{.to = to, .answer = std::move(answer)},
                                .ticket = std::move(ticket)});
}

void Turn::push(PeerId peer, Push push) {
    outgoing.push_back(Outbound{.peer = peer, .what = std::move(push), .ticket = {}});
}

void Turn::keep(Actions& actions) {
    std::move(actions.records.begin(), actions.records.end(), std::back_inserter(records));
    std::move(actions.transitions.begin(), actions.transitions.end(),
              std::back_inserter(transitions));
}

void Turn::step(BrokerCore& core, const Requester& who, CoreEvent event, const Rewrite& rewrite) {
    if (is_held_still()) return reply(who.to, held_still_answer());
    step_regardless(core, who, std::move(event), rewrite);
}

void Turn::step_regardless(BrokerCore& core, const Requester& who, CoreEvent event,
                           const Rewrite& rewrite) {
    const bool may_wait = std::holds_alternative<KillEvent>(event);
    Actions actions = core.step(now_, std::move(event));
    keep(actions);
    bool answered = false;
    for (Outgoing& out : actions.outgoing) {
        if (auto* message = std::get_if<SendPush>(&out)) {
            push(message->peer, std::move(message->body));
            continue;
        }
        auto* answer = std::get_if<SendReply>(&out);
        if (answer == nullptr) continue;
        if (answered || answer->peer != who.to.peer || answer->request != who.to.request) {
            reply_late(*answer);
            continue;
        }
        answered = true;
        std::optional<Answer> body = std::move(answer->body);
        if (rewrite) body = rewrite(std::move(*body));
        if (body) reply(who.to, std::move(*body));
    }
    if (!answered && may_wait) {
        unanswered_.insert_or_assign({who.to.peer, who.to.request}, who.to);
        return;
    }
    // A request that nobody answers would hang its sender until it gives up.
    if (!answered)
        reply(who.to, refuse(ErrorCode::internal, "the broker made no answer to " + who.to.verb));
}

void Turn::step(BrokerCore& core, CoreEvent event) {
    if (is_held_still()) return;
    Actions actions = core.step(now_, std::move(event));
    keep(actions);
    for (Outgoing& out : actions.outgoing) {
        if (auto* message = std::get_if<SendPush>(&out))
            push(message->peer, std::move(message->body));
        if (auto* answer = std::get_if<SendReply>(&out)) reply_late(*answer);
    }
}

void Turn::reply_late(SendReply& answer) {
    const auto found = unanswered_.find({answer.peer, answer.request});
    if (found == unanswered_.end()) return;
    reply(found->second, std::move(answer.body));
    unanswered_.erase(found);
}

Caller caller_of(const Requester& who) {
    return Caller{.peer = who.to.peer,
                  .request = who.to.request,
                  .principal = who.principal,
                  .inside = who.inside,
                  .relayed_by = who.relayed_by};
}

std::size_t size_of(const Record& record) {
    return kRecordBytes + std::visit(BodySize{}, record.body);
}

}  // namespace iw::broker
