#include "broker/submissions.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "broker/session_lookup.h"
#include "common/codec/codec.h"
#include "common/io/files.h"

namespace iw::broker {
namespace {

constexpr Duration kBehindRetry{1'000};
constexpr Duration kStorageRetry{10'000};
constexpr Duration kMeasureInterval{3'000};
constexpr std::size_t kPendingBytesMax = 64u << 20;
// What a held-back submission takes beside its texts.
constexpr std::size_t kItemBytes = 1024;

std::size_t size_of_items(const std::vector<SubmitEvent::Item>& items) {
    std::size_t size = 0;
    for (const SubmitEvent::Item& item : items) {
        size += kItemBytes + item.submission.prompt.size() + item.submission.metadata.size() +
                item.submission.result_schema.size();
    }
    return size;
}

}  // namespace

struct Submissions::RetrySource {
    FoundSession found;
    std::optional<Submission> submission;
};

Submissions::Submissions(Parts parts, Storage storage, KeyFilter keys)
    : parts_(parts), storage_(std::move(storage)), keys_(std::move(keys)) {}

// ---- Refusing ----------------------------------------------------------------------------------

std::optional<ErrorReply> Submissions::refusal() {
    if (shutting_down_) {
        return refuse(ErrorCode::shutting_down, "the broker is ending; repeat this when it is back",
                      kBehindRetry);
    }
    if (parts_.database.is_behind(parts_.turn.now().steady) || pending_bytes_ > kPendingBytesMax) {
        return refuse(ErrorCode::rate_limited,
                      "the broker's database is behind; repeat this in a moment", kBehindRetry);
    }
    if (is_storage_low()) {
        return refuse(ErrorCode::storage_low,
                      "less than " + std::to_string(storage_.reserve) + " bytes are free in " +
                          storage_.folder +
                          "; make room there (or lower broker.storage_reserve), then repeat this",
                      kStorageRetry);
    }
    return std::nullopt;
}

// Measured only while somebody wants to know, and then rarely: an idle broker asks for nothing.
void Submissions::measure() {
    const Timestamp now = parts_.turn.now().steady;
    if (measured_at_ && now - *measured_at_ < kMeasureInterval) return;
    free_bytes_ = io::free_bytes(storage_.folder);
    measured_at_ = now;
}

bool Submissions::is_storage_low() {
    if (storage_.reserve == 0) return false;
    measure();
    return free_bytes_ < storage_.reserve;
}

void Submissions::describe(FleetReply& fleet) {
    measure();
    fleet.disk_free = free_bytes_;
    fleet.storage_low = is_storage_low();
}

// ---- Submit ------------------------------------------------------------------------------------

SubmitEvent::Item Submissions::make_item(const Requester& who, Submission submission) {
    // Which session asks is vouched for by its worker; what the request says about it is not.
    if (who.inside) submission.parent = who.inside->session;
    SubmitEvent::Item item{.submission = std::move(submission), .body_hash = {}, .known = {}};
    if (!item.submission.key.empty()) item.body_hash = io::sha256(canonical(item.submission));
    return item;
}

void Submissions::submit(const Requester& who, SubmitRequest request) {
    if (auto refused = refusal()) return parts_.turn.reply(who.to, std::move(*refused));
    Pending pending{.who = who, .items = {}, .is_retry = false};
    pending.items.reserve(request.sessions.size());
    for (Submission& submission : request.sessions) {
        pending.items.push_back(make_item(who, std::move(submission)));
    }
    admit(std::move(pending));
}

// A key that the filter has not seen is surely new. Any other holds the whole request back for a
// look, because its items are decided together; so does a dependency that is not live.
void Submissions::admit(Pending pending) {
    Looks looks;
    for (std::size_t i = 0; i < pending.items.size(); ++i) {
        const std::string& key = pending.items[i].submission.key;
        if (key.empty() || !keys_.contains(key_digest(pending.who.principal, key))) continue;
        looks.keys.push_back(KeyLook{.item = i, .key = key, .known = {}});
    }
    add_unsettled(pending, looks);
    if (looks.empty()) return step(std::move(pending));
    pending.bytes = size_of_items(pending.items);
    pending_bytes_ += pending.bytes;
    look_up(std::move(pending), std::move(looks));
}

void Submissions::add_unsettled(const Pending& pending, Looks& looks) const {
    for (const SubmitEvent::Item& item : pending.items) {
        for (SessionId& id : parts_.core.unsettled(item.submission, item.settled)) {
            if (!pending.missing.contains(id)) looks.dependencies.try_emplace(std::move(id));
        }
    }
}

Result<Submissions::Looks> Submissions::look(Database& database, const Principal& principal,
                                             Looks looks) {
    for (KeyLook& each : looks.keys) {
        Result<std::optional<KnownKey>> known = database.key(principal, each.key);
        if (!known.ok()) return known.error();
        each.known = std::move(known).value();
    }
    std::vector<SessionId> ids;
    for (const auto& [id, status] : looks.dependencies)
        ids.push_back(id);
    const Result<std::map<SessionId, SessionStatus>> found = database.statuses(ids);
    if (!found.ok()) return found.error();
    for (const auto& [id, status] : *found)
        looks.dependencies[id] = status;
    return looks;
}

void Submissions::look_up(Pending pending, Looks looks) {
    const Principal principal = pending.who.principal;
    parts_.database.ask<Looks>(
        [principal, looks = std::move(looks)](Database& database) mutable {
            return look(database, principal, std::move(looks));
        },
        [this, pending = std::move(pending)](Result<Looks> done) mutable {
            looked_up(std::move(pending), std::move(done));
        });
}

void Submissions::take(Pending& pending, const Looks& looks) {
    for (const KeyLook& each : looks.keys) {
        pending.items[each.item].known = each.known;
    }
    for (const auto& [id, status] : looks.dependencies) {
        if (!status) pending.missing.insert(id);
        if (!status || !is_final(*status)) continue;
        for (SubmitEvent::Item& item : pending.items) {
            const bool waits = std::ranges::any_of(
                item.submission.after, [&](const Dependency& each) { return each.id == id; });
            if (waits) item.settled.insert_or_assign(id, *status);
        }
    }
}

void Submissions::looked_up(Pending pending, Result<Looks> looks) {
    const Requester& who = pending.who;
    if (!looks.ok() || shutting_down_) {
        pending_bytes_ -= pending.bytes;
        ErrorReply refused = looks.ok() ? *refusal() : question_failed(looks.error());
        return parts_.turn.reply(who.to, std::move(refused));
    }
    take(pending, *looks);
    Looks again;
    for (KeyLook& each : looks->keys) {
        // Another request with this key may have been accepted after the look began; its session
        // may even have ended, so the core need not know the key any more.
        if (!each.known && is_unapplied(key_digest(who.principal, each.key)))
            again.keys.push_back(std::move(each));
    }
    // A dependency that was live may have become final meanwhile.
    add_unsettled(pending, again);
    if (!again.empty()) return look_up(std::move(pending), std::move(again));
    pending_bytes_ -= pending.bytes;
    step(std::move(pending));
}

void Submissions::step(Pending pending) {
    const std::size_t first_record = parts_.turn.records.size();
    const Requester& who = pending.who;
    Turn::Rewrite rewrite;
    if (pending.is_retry)
        rewrite = [this](Answer answer) { return retry_answer(std::move(answer)); };
    parts_.turn.step(parts_.core, who,
                     SubmitEvent{.caller = caller_of(who), .items = std::move(pending.items)},
                     rewrite);
    note_created(first_record);
}

void Submissions::note_created(std::size_t first_record) {
    const std::vector<Record>& records = parts_.turn.records;
    for (std::size_t i = first_record; i < records.size(); ++i) {
        const auto* created = std::get_if<SessionCreated>(&records[i].body);
        if (created == nullptr) continue;
        parts_.prompts.put(created->id,
                           KeptPrompt{.prompt = created->submission.prompt,
                                      .result_schema = created->submission.result_schema});
        if (created->submission.key.empty()) continue;
        const std::uint64_t digest = key_digest(created->principal, created->submission.key);
        keys_.insert(digest);
        unapplied_.insert_or_assign(digest, records[i].seq);
        unapplied_order_.emplace_back(records[i].seq, digest);
    }
    static_cast<void>(is_unapplied(0));  // keeps the list short also when nobody looks anything up
}

bool Submissions::is_unapplied(std::uint64_t digest) {
    const Seq applied = parts_.database.applied();
    while (!unapplied_order_.empty() && unapplied_order_.front().first <= applied) {
        const auto [seq, old] = unapplied_order_.front();
        const auto found = unapplied_.find(old);
        if (found != unapplied_.end() && found->second == seq) unapplied_.erase(found);
        unapplied_order_.pop_front();
    }
    return unapplied_.contains(digest);
}

// ---- Retry -------------------------------------------------------------------------------------

Result<Submissions::RetrySource> Submissions::find_retry_source(Database& database,
                                                                const std::string& id) {
    Result<FoundSession> found = find_session(database, id, false);
    if (!found.ok()) return found.error();
    RetrySource source{.found = std::move(found).value(), .submission = {}};
    if (!source.found.session || !is_final(source.found.session->status)) return source;
    Result<std::optional<Submission>> submission = database.submission(source.found.session->id);
    if (!submission.ok()) return submission.error();
    source.submission = std::move(submission).value();
    return source;
}

void Submissions::retry(const Requester& who, const RetryRequest& request) {
    if (auto refused = refusal()) return parts_.turn.reply(who.to, std::move(*refused));
    parts_.database.ask<RetrySource>(
        [id = request.id](Database& database) { return find_retry_source(database, id); },
        [this, who, request](Result<RetrySource> source) {
            retry_found(who, request, std::move(source));
        });
}

void Submissions::retry_found(const Requester& who, const RetryRequest& request,
                              Result<RetrySource> source) {
    Turn& turn = parts_.turn;
    if (!source.ok()) return turn.reply(who.to, question_failed(source.error()));
    if (auto refused = refusal()) return turn.reply(who.to, std::move(*refused));
    if (!source->found.session)
        return turn.reply(who.to, no_single_session(request.id, source->found));
    const SessionView& session = *source->found.session;
    if (!is_final(session.status)) {
        return turn.reply(
            who.to, refuse(ErrorCode::conflict, "session " + session.id.str() + " is " +
                                                    std::string(name(session.status)) +
                                                    "; only one that has ended can be retried"));
    }
    if (!source->submission) {
        return turn.reply(who.to,
                          refuse(ErrorCode::gone, "the prompt of session " + session.id.str() +
                                                      " is past its retention; submit it anew"));
    }
    Submission submission = std::move(*source->submission);
    submission.key = request.key;
    submission.parent = SessionId();
    submission.retry_of = session.id;
    // What it came after is over, and may have ended in a way that would end this one, too.
    submission.after.clear();
    Pending pending{.who = who, .items = {}, .is_retry = true};
    pending.items.push_back(make_item(who, std::move(submission)));
    admit(std::move(pending));
}

Answer Submissions::retry_answer(Answer answer) const {
    const auto* reply = std::get_if<Reply>(&answer);
    const auto* submitted = reply == nullptr ? nullptr : std::get_if<SubmitReply>(reply);
    if (submitted == nullptr || submitted->sessions.size() != 1) return answer;
    const SubmitOutcome& outcome = submitted->sessions.front();
    if (!outcome.error) return Reply(RetryReply{.id = outcome.id, .duplicate = outcome.duplicate});
    ErrorReply refused = refuse(outcome.error->code, outcome.error->message);
    if (outcome.error->code == ErrorCode::unknown_agent)
        refused.matches = parts_.core.known_agents();
    return refused;
}

}  // namespace iw::broker
