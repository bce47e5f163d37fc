// Pauses and drains.

#include "broker/core/state.h"

namespace iw::broker {

void BrokerCore::State::on(HoldEvent event) {
    refuse(event.caller, ErrorCode::unknown_verb, "hold: not known to this broker");
}

}  // namespace iw::broker
