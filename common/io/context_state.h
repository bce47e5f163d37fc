#pragma once

// Inside of Context, for the files that make sockets; nobody else includes it.

#include <zmq.hpp>

#include "common/io/socket.h"

namespace iw::io {

struct Context::State {
    zmq::context_t context;
};

}  // namespace iw::io
