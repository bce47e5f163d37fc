#include "broker/core/session.h"

#include <algorithm>
#include <array>

#include "common/base/check.h"

namespace iw::broker {

namespace {

struct Row {
    std::uint8_t kind;
    // By phase: queued, assigned, running, closing.
    std::array<std::optional<Phase>, kPhases> after;
};

constexpr std::optional<Phase> kIllegal = std::nullopt;

// The numbers are those of kind(). A wish to kill a session that is with no worker ends it at once,
// hence none while queued. A session ends where it stands, and then only its closing is left.
constexpr std::array kTable = {
    Row{2, {Phase::assigned, kIllegal, kIllegal, kIllegal}},                   // attempt_assigned
    Row{3, {kIllegal, Phase::running, kIllegal, kIllegal}},                    // attempt_started
    Row{4, {kIllegal, Phase::queued, Phase::queued, kIllegal}},                // attempt_returned
    Row{5, {Phase::closing, Phase::closing, Phase::closing, kIllegal}},        // session_ended
    Row{6, {kIllegal, kIllegal, kIllegal, Phase::closing}},                    // session_closed
    Row{7, {kIllegal, Phase::assigned, Phase::running, kIllegal}},             // kill_wished
    Row{8, {Phase::queued, Phase::assigned, Phase::running, Phase::closing}},  // report_superseded
    Row{11, {Phase::queued, Phase::assigned, Phase::running, kIllegal}},       // timeout_changed
    // A restored state may be behind in any phase but one whose outcome is decided.
    Row{15, {Phase::assigned, Phase::assigned, Phase::assigned, kIllegal}},     // attempt_adopted
    Row{16, {Phase::queued, Phase::assigned, Phase::running, Phase::closing}},  // session_edited
};

}  // namespace

std::optional<Phase> phase_after(Phase phase, const RecordBody& body) {
    const auto row = std::find_if(kTable.begin(), kTable.end(),
                                  [&body](const Row& each) { return each.kind == kind(body); });
    if (row == kTable.end()) return std::nullopt;
    const auto column = static_cast<std::size_t>(phase);
    IW_CHECK(column < kPhases);
    return row->after[column];
}

// One empty object stands for all that were never made.
const Particulars& Session::particular() const {
    static const Particulars kNone;
    return particulars ? *particulars : kNone;
}

const Progress& Session::progressed() const {
    static const Progress kNone;
    return progress ? *progress : kNone;
}

Particulars& Session::particulars_made() {
    if (!particulars) particulars = std::make_unique<Particulars>();
    return *particulars;
}

Progress& Session::progress_made() {
    if (!progress) progress = std::make_unique<Progress>();
    return *progress;
}

void Session::set_due_at(Timestamp due_at) {
    if (due_at != this->due_at()) particulars_made().deadlines.due_at = due_at;
}

void Session::set_expire_at(Timestamp expire_at) {
    if (expire_at != this->expire_at()) particulars_made().deadlines.expire_at = expire_at;
}

std::uint32_t Session::attempts_max() const {
    const std::optional<RetryPolicy>& policy = particular().retry;
    return policy ? policy->attempts_max : 1;
}

bool is_at_or_below(const Session& session, const SessionId& top) {
    if (*session.id == top) return true;
    const std::vector<SessionId>& above = session.particular().ancestors;
    return std::find(above.begin(), above.end(), top) != above.end();
}

bool is_own(const Session& session, const SessionId& top) {
    if (*session.id == top) return true;
    const Particulars& particulars = session.particular();
    const std::vector<SessionId>& above = particulars.ancestors;
    for (std::size_t i = above.size(); i-- > 0;) {
        if ((particulars.inside_links >> i & 1u) == 0) return false;
        if (above[i] == top) return true;
    }
    return false;
}

StatusChange shown(const Session& session) {
    const Progress& progress = session.progressed();
    switch (session.phase) {
        case Phase::queued:
            if (session.fence.attempt > 0) return {SessionStatus::created, Detail::retrying};
            if (session.particular().not_before) return {SessionStatus::created, Detail::delayed};
            return {SessionStatus::created, Detail::queued};
        case Phase::assigned:
            return {SessionStatus::created, Detail::assigned};
        case Phase::running:
            return {SessionStatus::running, progress.kill ? Detail::stopping : Detail::working};
        case Phase::closing:
            return {progress.started_at ? SessionStatus::running : SessionStatus::created,
                    Detail::delivering};
    }
    return {SessionStatus::created, Detail::queued};
}

std::string status_text(StatusChange change) {
    return std::string(name(change.status)) + "/" + std::string(name(change.detail));
}

}  // namespace iw::broker
