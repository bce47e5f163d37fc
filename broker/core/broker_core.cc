#include "broker/core/broker_core.h"

#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"

namespace iw::broker {

BrokerCore::BrokerCore(CoreConfig config, std::uint32_t generation)
    : state_(std::make_unique<State>(config, generation)) {}
BrokerCore::~BrokerCore() = default;
BrokerCore::BrokerCore(BrokerCore&&) noexcept = default;
BrokerCore& BrokerCore::operator=(BrokerCore&&) noexcept = default;

void BrokerCore::restore(const LiveState& state) {
    state_->restore(state);
}
void BrokerCore::restore(const LiveSession& session) {
    state_->restore(session);
}
void BrokerCore::apply(const Record& record) {
    state_->apply(record);
}
void BrokerCore::started(Now time) {
    state_->started(time);
}
Actions BrokerCore::step(Now time, CoreEvent event) {
    return state_->step(time, std::move(event));
}
std::optional<Timestamp> BrokerCore::next_deadline() const {
    return state_->next_deadline();
}
Seq BrokerCore::head() const {
    return state_->durable().head();
}
bool BrokerCore::is_live(const SessionId& id) const {
    return state_->durable().session(id) != nullptr;
}
std::optional<SessionView> BrokerCore::view(const SessionId& id, Now) const {
    return state_->view(id);
}
std::vector<SessionId> BrokerCore::match(std::string_view prefix, std::size_t max) const {
    return state_->match(prefix, max);
}
WorkersReply BrokerCore::workers(Now) const {
    return state_->workers_view();
}
FleetReply BrokerCore::fleet(Now) const {
    return state_->fleet();
}
std::vector<std::string> BrokerCore::known_agents() const {
    return state_->known_agents("");
}
bool BrokerCore::is_current(const AttemptRef& inside) const {
    return state_->is_current(inside);
}
bool BrokerCore::is_current(const AttemptRef& inside, const WorkerName& by) const {
    return state_->is_current(inside, by);
}
std::optional<std::uint64_t> BrokerCore::disk_limit(const SessionId& id) const {
    const Session* session = state_->durable().session(id);
    if (session == nullptr || session->particular().disk_limit == kNoDiskLimit) return std::nullopt;
    return session->particular().disk_limit;
}
std::vector<SessionId> BrokerCore::unsettled(
    const Submission& submission, const std::map<SessionId, SessionStatus>& settled) const {
    return state_->unsettled(submission, settled);
}
void BrokerCore::check_invariants() const {
    state_->check_invariants();
}

BrokerCore::Counts BrokerCore::counts() const {
    const DurableState& durable = state_->durable();
    return Counts{.queued = durable.count(Phase::queued),
                  .assigned = durable.count(Phase::assigned),
                  .running = durable.count(Phase::running),
                  .workers = durable.workers().size()};
}

BrokerCore::State::State(CoreConfig config, std::uint32_t generation)
    : config_(config), durable_(generation) {
    IW_CHECK(config.heartbeat > Duration(0));
    IW_CHECK(config.heartbeat < config.unreachable_after);
    IW_CHECK(config.unreachable_after < config.lost_after);
    IW_CHECK(config.owner_patience > Duration(0));
}

void BrokerCore::State::restore(const LiveState& state) {
    IW_CHECK(!started_);
    durable_.restore(state);
}

void BrokerCore::State::restore(const LiveSession& session) {
    IW_CHECK(!started_);
    durable_.restore(session);
}

void BrokerCore::State::apply(const Record& record) {
    // While it runs, records come from steps alone.
    IW_CHECK(!started_);
    durable_.apply(record);
}

void BrokerCore::State::started(Now time) {
    IW_CHECK(!started_);
    started_ = true;
    time_ = time;
    run_offset_ = time.wall.time_since_epoch() - time.steady.time_since_epoch();
    durable_.finish_recovery();
    skip_past_ids();
    for (const auto& [name, worker] : durable_.workers())
        presence_[name].heard_at = time.steady;
    begin_holds();
    if (durable_.restored()) await_workers();
    durable_.for_each_session([&](Session& session) {
        begin_schedule(session, to_ms(session.created_at));
        refresh_schedule(session);
        if (waits_for_children(session)) returned_.push_back(*session.id);
    });
    for (const auto& [name, worker] : durable_.workers())
        expect_orphans(worker, time.steady);
}

Actions BrokerCore::State::step(Now time, CoreEvent event) {
    IW_CHECK(started_);
    IW_CHECK(time.steady >= time_.steady);
    IW_CHECK(actions_.records.empty());
    IW_CHECK(actions_.outgoing.empty());
    time_ = time;
    assignments_.clear();
    failed_in_step_ = 0;
    std::visit([this](auto&& each) { on(std::move(each)); }, std::move(event));
    // Sessions' deadlines are no leases: they come whatever the event was, and before anything is
    // handed out, so that what has expired is not given to anyone.
    fire_timers();
    settle_families();
    // After all that may end a session which others wait for.
    close_failed();
    dispatch();
    return std::exchange(actions_, {});
}

}  // namespace iw::broker
