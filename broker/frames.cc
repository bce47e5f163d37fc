#include <algorithm>
#include <iterator>
#include <utility>

#include "broker/turn.h"
#include "common/base/limits.h"
#include "common/codec/codec.h"

// How what a turn sends becomes frames that fit the message limit.

namespace iw::broker {
namespace {

// A worker asks again at its next heartbeat, so what does not fit now comes later.
constexpr std::size_t kStopsMax = 1000;

template <typename T>
std::vector<T> back_half(std::vector<T>& whole) {
    const auto middle = whole.begin() + static_cast<std::ptrdiff_t>(whole.size() / 2);
    std::vector<T> back(std::make_move_iterator(middle), std::make_move_iterator(whole.end()));
    whole.erase(middle, whole.end());
    return back;
}

// Takes the back half out of a push; nothing when it holds a single thing.
std::optional<Push> split(Push& push) {
    if (auto* assign = std::get_if<AssignPush>(&push);
        assign != nullptr && assign->assignments.size() > 1) {
        return AssignPush{.assignments = back_half(assign->assignments)};
    }
    if (auto* stop = std::get_if<StopPush>(&push); stop != nullptr && stop->stops.size() > 1) {
        return StopPush{.stops = back_half(stop->stops)};
    }
    if (auto* close = std::get_if<ClosePush>(&push);
        close != nullptr && close->outcomes.size() > 1) {
        return ClosePush{.outcomes = back_half(close->outcomes)};
    }
    if (auto* change = std::get_if<LimitsPush>(&push);
        change != nullptr && change->limits.size() > 1) {
        return LimitsPush{.limits = back_half(change->limits)};
    }
    if (auto* follow = std::get_if<FollowPush>(&push);
        follow != nullptr && follow->sessions.size() > 1) {
        return FollowPush{.sessions = back_half(follow->sessions)};
    }
    return std::nullopt;
}

// Prompts are the only large thing in pushes; adding them up first spares encoding what is too
// large anyway.
bool is_surely_large(const Push& push) {
    const auto* assign = std::get_if<AssignPush>(&push);
    if (assign == nullptr) return false;
    std::size_t size = 0;
    for (const Assignment& assignment : assign->assignments) {
        size +=
            assignment.prompt.size() + assignment.metadata.size() + assignment.result_schema.size();
    }
    return size > limits::kPromptMax;
}

void add_push_frames(Push push, std::vector<std::string>& frames) {
    if (is_surely_large(push)) {
        if (std::optional<Push> rest = split(push)) {
            add_push_frames(std::move(push), frames);
            return add_push_frames(std::move(*rest), frames);
        }
    }
    std::string frame = encode(PushFrame{.body = push});
    std::optional<Push> rest;
    if (frame.size() > limits::kMessageMax) rest = split(push);
    if (!rest) return frames.push_back(std::move(frame));
    add_push_frames(std::move(push), frames);
    add_push_frames(std::move(*rest), frames);
}

std::string encode_answer(const std::string& request, const std::string& verb,
                          const Answer& answer) {
    return encode(ReplyFrame{.id = request, .body = answer}, verb);
}

// What is left out comes with a later heartbeat.
bool shorten(HeartbeatReply& heartbeat) {
    if (heartbeat.stops.size() <= kStopsMax && heartbeat.limits.size() <= kStopsMax) return false;
    heartbeat.stops.resize(std::min(heartbeat.stops.size(), kStopsMax));
    heartbeat.limits.resize(std::min(heartbeat.limits.size(), kStopsMax));
    return true;
}

// The sessions stay named: what they were submitted with can be asked for one by one.
bool shorten(ConfirmDeadReply& dead) {
    const auto is_heavy = [](const SessionView& session) { return !session.metadata.empty(); };
    if (std::ranges::none_of(dead.sessions, is_heavy)) return false;
    for (SessionView& session : dead.sessions) {
        session.metadata.clear();
    }
    return true;
}

// Drops what the asker will ask for again; false when nothing can be dropped.
bool shorten(Answer& answer) {
    auto* reply = std::get_if<Reply>(&answer);
    if (reply == nullptr) return false;
    if (auto* acks = std::get_if<ReportReply>(reply); acks != nullptr && acks->acks.size() > 1) {
        acks->acks.resize(acks->acks.size() / 2);
        return true;
    }
    if (auto* heartbeat = std::get_if<HeartbeatReply>(reply)) return shorten(*heartbeat);
    if (auto* dead = std::get_if<ConfirmDeadReply>(reply)) return shorten(*dead);
    return false;
}

std::string fitting_answer(const std::string& request, const std::string& verb, Answer answer) {
    std::string frame = encode_answer(request, verb, answer);
    while (frame.size() > limits::kMessageMax && shorten(answer)) {
        frame = encode_answer(request, verb, answer);
    }
    if (frame.size() <= limits::kMessageMax) return frame;
    return encode_answer(
        request, verb,
        refuse(ErrorCode::too_large, "the answer to " + verb + " is larger than a message may be"));
}

std::string answer_frame(const Outbound::Answered& answered) {
    const ReplyTo& to = answered.to;
    if (!to.inner) return fitting_answer(to.request, to.verb, answered.answer);
    RelayReply relay{.reply = fitting_answer(to.inner->request, to.inner->verb, answered.answer)};
    return fitting_answer(to.request, to.verb, Reply(std::move(relay)));
}

}  // namespace

std::vector<std::string> frames_of(const Outbound& outbound) {
    std::vector<std::string> frames;
    if (const auto* answered = std::get_if<Outbound::Answered>(&outbound.what)) {
        frames.push_back(answer_frame(*answered));
        return frames;
    }
    if (const auto* push = std::get_if<Push>(&outbound.what)) add_push_frames(*push, frames);
    return frames;
}

}  // namespace iw::broker
