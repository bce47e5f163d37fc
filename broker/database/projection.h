#pragma once

// Records become rows. Plain facts: what a record says is written down, and the words for a status
// come from status_after. The caller holds the transaction.

#include <memory>

#include "broker/core/record.h"
#include "broker/database/sqlite.h"
#include "common/base/result.h"

namespace iw::broker {

class Projection {
  public:
    static Result<std::unique_ptr<Projection>> prepare(sqlite::Connection& connection);
    ~Projection();

    // Writes what one record changes, its event included. internal: the record speaks of a session
    // that is not there.
    Status apply(const Record& record);

    struct Statements;  // known to projection.cc alone

  private:
    explicit Projection(std::unique_ptr<Statements> statements);
    std::unique_ptr<Statements> statements_;
};

}  // namespace iw::broker
