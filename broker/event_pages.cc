#include "broker/event_pages.h"

#include <algorithm>
#include <utility>

#include "broker/session_lookup.h"

namespace iw::broker {
namespace {

constexpr EventWaiters::Bounds kBounds{
    .waiters_max = 10'000, .per_owner_max = 64, .ids_max = 200'000};
constexpr Duration kRetry{1'000};

Answer page_answer(Result<EventsReply> page) {
    if (!page.ok()) return question_failed(page.error());
    return Reply(std::move(page).value());
}

}  // namespace

EventPages::EventPages(DatabaseThread& database, Turn& turn)
    : database_(database), turn_(turn), waiters_(kBounds) {}

void EventPages::request(const Requester& who, EventsRequest request) {
    if (request.wait > Duration(0)) {
        const Timestamp deadline =
            turn_.now().steady + std::min(request.wait, limits::kEventsWaitMax);
        Result<WaiterId> id =
            waiters_.add(Waiter{.who = who, .request = std::move(request), .deadline = deadline});
        if (id.ok()) return ask(*id);
        return turn_.reply(who.to, refuse(id.error().code, id.error().message, kRetry));
    }
    database_.ask<EventsReply>(
        [request = std::move(request)](Database& database) { return database.events(request); },
        [this, who](Result<EventsReply> page) {
            turn_.reply(who.to, page_answer(std::move(page)));
        });
}

void EventPages::ask(WaiterId id) {
    const Waiter* waiter = waiters_.find(id);
    if (waiter == nullptr) return;
    database_.ask<EventsReply>(
        [request = waiter->request](Database& database) { return database.events(request); },
        [this, id](Result<EventsReply> page) { answered(id, std::move(page)); });
}

void EventPages::answered(WaiterId id, Result<EventsReply> page) {
    Waiter* waiter = waiters_.find(id);
    if (waiter == nullptr) return;
    const bool empty = page.ok() && page->events.empty() && !page->gap;
    if (!empty || turn_.now().steady >= waiter->deadline) {
        turn_.reply(waiter->who.to, page_answer(std::move(page)));
        waiters_.remove(id);
        return;
    }
    // What was looked through already need not be looked through again.
    waiter->request.after = std::max(waiter->request.after, page->next);
    waiter->request.epoch = page->epoch;
    waiter->last = std::move(page).value();
    // The page may have ended before all that there is was looked through.
    if (waiter->concerned || waiter->last.next < waiter->last.head) {
        waiter->concerned = false;
        return ask(id);
    }
    waiters_.park(id);
}

void EventPages::committed(std::span<const Record> records) {
    for (const WaiterId id : waiters_.wake(records)) {
        ask(id);
    }
}

void EventPages::expire(Timestamp now) {
    for (const WaiterId id : waiters_.due(now)) {
        Waiter* waiter = waiters_.find(id);
        turn_.reply(waiter->who.to, Reply(std::move(waiter->last)));
        waiters_.remove(id);
    }
}

void EventPages::forget(PeerId peer) {
    for (const WaiterId id : waiters_.of_peer(peer)) {
        waiters_.remove(id);
    }
}

void EventPages::shut_down() {
    for (const WaiterId id : waiters_.all()) {
        const Waiter* waiter = waiters_.find(id);
        turn_.reply(waiter->who.to,
                    refuse(ErrorCode::shutting_down,
                           "the broker is ending; ask again when it is back", kRetry));
        waiters_.remove(id);
    }
}

}  // namespace iw::broker
