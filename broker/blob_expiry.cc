#include "broker/blob_expiry.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "common/base/limits.h"
#include "common/io/logging.h"

namespace iw::broker {
namespace {

using Statuses = std::map<SessionId, SessionStatus>;

// The session whose attempt this record ends; null: of none.
const SessionId* over(const Record& record) {
    if (const auto* ended = std::get_if<SessionEnded>(&record.body)) return &ended->id;
    const auto* returned = std::get_if<AttemptReturned>(&record.body);
    return returned == nullptr ? nullptr : &returned->id;
}

}  // namespace

// What the folder holds is listed first, and the database is asked behind that: a session is
// known before anything of it is held.
void BlobExpiry::look() {
    // While a restore is held, its admin may still choose another backup.
    if (parts_.turn.is_held_still() || parts_.core.fleet(parts_.turn.now()).restored) return;
    again_ = looking_;
    if (looking_) return;
    looking_ = true;
    parts_.blobs.ask<Held>(
        [](BlobStore& store) -> Result<Held> {
            return Held{.sessions = store.sessions(), .unfinished = store.unfinished()};
        },
        [this](Result<Held> held) {
            const auto look = std::make_shared<Look>();
            if (held.ok()) look->held = std::move(held).value();
            for (const SessionId& id : look->held.unfinished) {
                if (!parts_.core.is_live(id)) drop_partials(id);
            }
            go_on(look);
        });
}

void BlobExpiry::go_on(const std::shared_ptr<Look>& look) {
    const Ids& all = look->held.sessions;
    if (look->next == all.size()) return end(*look);
    const std::size_t count = std::min(limits::kPageRowsMax, all.size() - look->next);
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(look->next);
    Ids page(first, first + static_cast<std::ptrdiff_t>(count));
    look->next += count;
    parts_.database.ask<Statuses>([page](Database& database) { return database.statuses(page); },
                                  [this, look, page](const Result<Statuses>& known) {
                                      if (!known.ok()) {
                                          io::log(io::LogLevel::warn, "cannot look at what expires",
                                                  {{"error", known.error().message}});
                                          return end(*look);
                                      }
                                      judge(look, page, *known);
                                  });
}

void BlobExpiry::judge(const std::shared_ptr<Look>& look, const Ids& page, const Statuses& known) {
    for (const SessionId& id : page) {
        if (!known.contains(id) && !parts_.core.is_live(id)) look->expired.push_back(id);
    }
    remove(look);
}

void BlobExpiry::remove(const std::shared_ptr<Look>& look) {
    if (look->expired.empty()) return go_on(look);
    parts_.blobs.ask<bool>(
        [id = look->expired.back()](BlobStore& store) { return store.remove_some(id); },
        [this, look](const Result<bool>& more) {
            if (more.ok() && *more) return remove(look);
            if (more.ok()) ++look->removed;
            if (!more.ok()) {
                io::log(io::LogLevel::warn, "cannot remove what has expired",
                        {{"error", more.error().message}});
            }
            look->expired.pop_back();
            remove(look);
        });
}

void BlobExpiry::end(const Look& look) {
    if (look.removed > 0) {
        io::log(io::LogLevel::info, "blobs of old sessions removed",
                {{"sessions", std::to_string(look.removed)},
                 {"bytes_left", std::to_string(parts_.blobs.bytes())}});
    }
    looking_ = false;
    if (again_) this->look();
}

void BlobExpiry::committed() {
    if (!parts_.blobs.has_unfinished()) return;
    for (const Record& record : parts_.turn.records) {
        if (const SessionId* id = over(record)) drop_partials(*id);
    }
}

void BlobExpiry::drop_partials(const SessionId& session) {
    parts_.blobs.ask<Done>(
        [session](BlobStore& store) -> Result<Done> {
            store.drop_partials(session);
            return Done{};
        },
        [](const Result<Done>&) {});
}

}  // namespace iw::broker
