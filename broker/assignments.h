#pragma once

// Puts the prompts into assignments before they leave: from the cache, or from the database, and
// then they leave when the prompt is at hand.

#include "broker/core/broker_core.h"
#include "broker/database_thread.h"
#include "broker/prompt_cache.h"
#include "broker/turn.h"

namespace iw::broker {

class Assignments {
  public:
    // All outlive it.
    Assignments(BrokerCore& core, DatabaseThread& database, Turn& turn, PromptCache& prompts)
        : core_(core), database_(database), turn_(turn), prompts_(prompts) {}

    // Fills the assignments of the turn; those without a prompt leave the turn and come back in a
    // later one.
    void fill();

  private:
    bool fill_one(PeerId peer, Assignment& assignment);
    void fetched(PeerId peer, Assignment assignment, Result<std::optional<KeptPrompt>> kept);

    BrokerCore& core_;
    DatabaseThread& database_;
    Turn& turn_;
    PromptCache& prompts_;
};

}  // namespace iw::broker
