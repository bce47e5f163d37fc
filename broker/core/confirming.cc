// An admin's word that what a silent worker ran is gone for good.

#include "broker/core/state.h"

namespace iw::broker {

void BrokerCore::State::on(ConfirmDeadEvent event) {
    refuse(event.caller, ErrorCode::unknown_verb, "confirm_dead: not known to this broker");
}

}  // namespace iw::broker
