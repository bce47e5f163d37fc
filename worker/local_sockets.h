#pragma once

// One socket per running attempt, at which a process inside that attempt speaks the client
// protocol. Who it is follows from the socket alone, so no key enters an agent's environment. Each
// request is relayed to the broker in the attempt's name, and the answer given back. While the
// worker is not linked it is answered UNREACHABLE at once; what was on its way when the link broke
// waits for the next one.

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/time.h"
#include "common/io/event_loop.h"
#include "common/io/socket.h"
#include "common/messages/messages.h"

namespace iw::worker {

class LocalSockets {
  public:
    // Hands a request on; false: nobody is connected.
    using Forward = std::function<bool(std::uint64_t ticket, RelayRequest request)>;

    // `folder` is made (0700) when the first socket opens.
    LocalSockets(io::Context& context, io::EventLoop& loop, std::string folder, Forward forward);
    ~LocalSockets();
    LocalSockets(const LocalSockets&) = delete;
    LocalSockets& operator=(const LocalSockets&) = delete;

    // config when no socket below `folder` would have a path that the system takes.
    static Status check_folder(const std::string& folder);

    // The attempt's socket: the same path each time, so that it survives a restart of the worker.
    std::string path(const AttemptRef& attempt) const;
    Status open(const AttemptRef& attempt);
    void close(const AttemptRef& attempt);

    void answer(std::uint64_t ticket, const Result<RelayReply>& reply);
    // After a welcome: what has no answer yet is sent again, unless a repeat could do it twice.
    void resend();

  private:
    struct Open {
        io::RouterSocket socket;
        std::size_t under_way = 0;
    };
    struct Pending {
        AttemptRef attempt;
        std::string peer;
        std::string request;
        Timestamp since;
        bool sent = false;
    };

    void read(const AttemptRef& attempt);
    void take(Open& open, const AttemptRef& attempt, io::RouterSocket::Message message);
    void refuse(Open& open, const std::string& peer, const std::string& request,
                const Error& error);
    void finish(std::map<std::uint64_t, Pending>::iterator pending);
    void expire();

    io::Context& context_;
    io::EventLoop& loop_;
    std::string folder_;
    Forward forward_;
    std::map<AttemptRef, Open> open_;
    std::map<std::uint64_t, Pending> pending_;  // by ticket, so in order
    std::uint64_t last_ticket_ = 0;
};

}  // namespace iw::worker
