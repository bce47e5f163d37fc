#pragma once

// Whether this broker's store has turned out to hold less than a peer has seen of it. Then nothing
// changes any more until an admin restores a backup or accepts the loss. A mark in the data
// directory keeps it so over restarts.

#include <string>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/messages/messages.h"

namespace iw::broker {

class ReadOnly {
  public:
    // `data_dir` holds the mark, if there is one; one about another epoch than `epoch` is removed,
    // for a restore has settled it. io: it cannot be read.
    static Result<ReadOnly> load(const std::string& data_dir, const std::string& epoch);

    bool is_on() const { return !why_.empty(); }
    // Evidence and next step, one sentence; empty when off.
    const std::string& why() const { return why_; }
    // Without the next step.
    std::string evidence() const;

    // Turns it on, whether the mark can be written or not: an error only means that a restart would
    // have to find out again.
    Status enter(const std::string& epoch, std::string why);
    // Turns it off. An error: the mark stands, but speaks of an epoch that is over.
    Status leave();

  private:
    explicit ReadOnly(std::string file) : file_(std::move(file)) {}

    std::string file_;
    std::string why_;
};

// Why a store whose newest record is `head` must be read-only when `who` has seen `seen`; empty: it
// need not.
std::string why_read_only(const std::string& who, const SeenHead& seen, const std::string& epoch,
                          Seq head);

}  // namespace iw::broker
