#pragma once

// Pages of sessions and of events: by cursor, filtered, bounded in rows, bytes and in what is
// looked at.

#include "broker/core/record.h"
#include "broker/database/sqlite.h"
#include "common/base/result.h"
#include "common/messages/messages.h"

namespace iw::broker {

// Sessions in the order of creation. A page may be shorter than asked for, even empty, and still
// have a next: a filter that fits few of many rows is worked off in pieces. gone: the cursor's
// session is no longer kept.
Result<ListReply> list_page(sqlite::Connection& connection, const ListRequest& request,
                            Seq applied);

struct EventsKept {
    std::string epoch;
    Seq applied = 0;
    Seq dropped_to = 0;  // events up to here are past their retention
};
// Never empty before the newest event has been looked at.
Result<EventsReply> events_page(sqlite::Connection& connection, const EventsRequest& request,
                                const EventsKept& kept);

}  // namespace iw::broker
