#pragma once

// What must be done after a step. The shell performs a turn's actions in a fixed order: commit all
// records, then send all that is outgoing. If the commit fails, nothing is sent and the process
// ends.

#include <string>
#include <variant>
#include <vector>

#include "broker/core/event.h"
#include "broker/core/record.h"
#include "common/messages/messages.h"

namespace iw::broker {

// Of a WelcomeReply the core fills in generation, seq, heartbeat, unreachable and lost; software,
// protocol, epoch, time, limits and capabilities are the shell's.
struct SendReply {
    PeerId peer;
    std::string request;
    std::variant<Reply, ErrorReply> body;
};
// The shell adds the prompt (its cache or the database) to each assignment before it sends it. The
// core puts one assignment into a push, so that every push fits a message; the shell may join small
// ones.
struct SendPush {
    PeerId peer;
    Push body;
};
using Outgoing = std::variant<SendReply, SendPush>;

// One line for the log: what became of what. Never payloads.
struct Transition {
    std::string subject;  // "session=<id>" or "worker=<name>"
    std::string from;
    std::string to;
    std::string why;
};

struct Actions {
    std::vector<Record> records;
    std::vector<Outgoing> outgoing;
    std::vector<Transition> transitions;
};

}  // namespace iw::broker
