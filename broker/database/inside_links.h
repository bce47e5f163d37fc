#pragma once

// How a live session came to be below its ancestors. The parents may be final, and then only their
// rows tell.

#include <cstdint>
#include <map>
#include <optional>

#include "broker/core/record.h"
#include "broker/database/sqlite.h"
#include "common/base/ids.h"
#include "common/base/result.h"

namespace iw::broker {

class InsideLinks {
  public:
    // The connection must outlive this.
    static Result<InsideLinks> prepare(sqlite::Connection& connection);
    // What `LiveSession::inside_links` says. An ancestor past its retention counts as submitted
    // from inside, like most.
    Result<std::optional<std::uint16_t>> of(const LiveSession& session);

  private:
    explicit InsideLinks(sqlite::Statement find) : find_(std::move(find)) {}
    Result<bool> is_from_inside(const SessionId& id);

    sqlite::Statement find_;
    // Of those asked for: many sessions are below few.
    std::map<SessionId, bool> known_;
};

}  // namespace iw::broker
