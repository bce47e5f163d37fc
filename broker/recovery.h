#pragma once

// From files to a broker that knows what it knew: locks, journal, database, core. Refuses, instead
// of guessing, where the files contradict each other.

#include <memory>
#include <string>
#include <variant>

#include "broker/core/broker_core.h"
#include "broker/database/database.h"
#include "broker/exit_codes.h"
#include "broker/journal/journal.h"
#include "broker/key_filter.h"
#include "broker/options.h"
#include "broker/read_only.h"
#include "common/io/files.h"

namespace iw::broker {

// Held as long as the broker lives. The endpoint has a lock of its own, because binding a socket
// that another broker holds would silently take it away.
struct Locks {
    io::FileLock data;
    io::FileLock endpoint;
};
// Makes the folders (mode 0700) and takes the locks.
std::variant<Locks, Refusal> take_locks(const BrokerOptions& options);

struct Recovered {
    std::unique_ptr<Journal> journal;
    std::unique_ptr<Database> database;
    BrokerCore core;
    KeyFilter keys;
    CoreConfig leases;
    ReadOnly read_only;
    std::size_t replayed = 0;  // records that the database had not yet applied
};
// The locks are held by the caller.
std::variant<Recovered, Refusal> recover(const BrokerOptions& options);

}  // namespace iw::broker
