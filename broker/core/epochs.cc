// Epochs: what a restored store does until an admin lets it go on.

#include <utility>

#include "broker/core/state.h"

namespace iw::broker {

void BrokerCore::State::on(BeginEpochEvent event) {
    emit(EpochBegun{.epoch = std::move(event.epoch),
                    .generation = durable_.generation() + 1,
                    .hold = true,
                    .reason = std::move(event.reason),
                    .principal = std::move(event.principal)});
}

void BrokerCore::State::on(ReleaseEvent event) {
    refuse(event.caller, ErrorCode::unknown_verb, "resume_epoch: not known to this broker");
}

FleetReply BrokerCore::State::fleet() const {
    FleetReply fleet;
    fleet.epoch = durable_.epoch();
    fleet.generation = durable_.generation();
    fleet.seq = durable_.head();
    fleet.restored = durable_.restored().has_value();
    fleet.restored_why = durable_.restored().value_or("");
    for (const auto& [key, hold] : durable_.holds())
        fleet.holds.push_back(hold);
    fleet.queued = durable_.count(Phase::queued);
    fleet.assigned = durable_.count(Phase::assigned);
    fleet.running = durable_.count(Phase::running);
    fleet.closing = durable_.count(Phase::closing);
    return fleet;
}

}  // namespace iw::broker
