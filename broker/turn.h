#pragma once

// What one turn of the loop has gathered: records to commit, and what may leave once they are on
// disk.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "broker/core/action.h"
#include "broker/core/broker_core.h"
#include "broker/core/event.h"
#include "broker/core/record.h"
#include "common/base/time.h"
#include "common/messages/messages.h"

namespace iw::broker {

using Answer = std::variant<Reply, ErrorReply>;

// Where an answer goes. Requests from inside a session come wrapped in a worker's relay request,
// and their answers go back wrapped.
struct ReplyTo {
    struct Inner {
        std::string request;
        std::string verb;
    };
    PeerId peer;
    std::string request;
    std::string verb;
    std::optional<Inner> inner;
};

// Who asks, and where the answer goes.
struct Requester {
    ReplyTo to;
    Principal principal;
    std::optional<AttemptRef> inside;  // a process inside this attempt asks, through its worker:
    WorkerName relayed_by;
};

// Answers that say no.
ErrorReply refuse(ErrorCode code, std::string message);
ErrorReply refuse(ErrorCode code, std::string message, Duration retry);

struct Outbound {
    struct Answered {
        ReplyTo to;
        Answer answer;
    };
    PeerId peer;
    std::variant<Answered, Push> what;
    // Of an answer whose bytes are counted: kept until the transport has let them go.
    std::shared_ptr<const void> ticket;
};

class Turn {
  public:
    // What a step's answer becomes on its way out; the identity if empty. Nothing: it is held back
    // and given later.
    using Rewrite = std::function<std::optional<Answer>(Answer)>;

    void begin(Now now);
    Now now() const { return now_; }

    // While there is a reason, nothing steps the core but `step_regardless`: requests are answered
    // READ_ONLY with it, and what nobody asked for is dropped. Empty: steps go on.
    void hold_still(std::string why) { still_ = std::move(why); }
    bool is_held_still() const { return !still_.empty(); }
    Answer held_still_answer() const { return refuse(ErrorCode::read_only, still_); }

    void reply(const ReplyTo& to, Answer answer);
    void reply(const ReplyTo& to, Answer answer, std::shared_ptr<const void> ticket);
    void push(PeerId peer, Push push);
    // One step of the core for a request: every request gets exactly one answer. That to the kill
    // of a large family may come with a later step.
    void step(BrokerCore& core, const Requester& who, CoreEvent event, const Rewrite& rewrite);
    // A step that nobody asked for.
    void step(BrokerCore& core, CoreEvent event);
    // The first, also while held still.
    void step_regardless(BrokerCore& core, const Requester& who, CoreEvent event,
                         const Rewrite& rewrite);

    std::vector<Record> records;
    std::vector<Outbound> outgoing;
    std::vector<Transition> transitions;

  private:
    void keep(Actions& actions);
    // To the request of an earlier step that was not answered by it; dropped where there is none.
    void reply_late(SendReply& answer);

    Now now_{};
    // By connection and request id.
    std::map<std::pair<PeerId, std::string>, ReplyTo> unanswered_;
    std::string still_;
};

// What the core is told about a requester.
Caller caller_of(const Requester& who);

// The frames that an outbound message becomes, each within the message limit: pushes are split, and
// of an answer that is repeated until it is complete only the front is sent.
std::vector<std::string> frames_of(const Outbound& outbound);

// Roughly what a record takes in memory and on disk, in bytes.
std::size_t size_of(const Record& record);

}  // namespace iw::broker
