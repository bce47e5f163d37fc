#pragma once

// ZeroMQ behind small types; the only place that knows cppzmq. Exceptions of the library end here.
// No call waits; who wants to wait uses EventLoop. A socket belongs to one thread. Every message is
// one payload frame. Options and their reasons: socket.cc (from measured facts: MANDATORY on,
// HANDOVER off, random routing ids, IMMEDIATE on clients, MAXMSGSIZE before bind, LINGER 0).

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/base/time.h"

namespace iw::io {

// One ZeroMQ context per process (two of them share a crash of libzmq 4.3.4); owned by main,
// outlives sockets.
class Context {
  public:
    Context();
    ~Context();
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;
    void* native() const;

  private:
    friend class RouterSocket;
    friend class DealerSocket;
    friend class LocalAuthenticator;
    struct State;
    std::unique_ptr<State> state_;
};

enum class SendOutcome {
    sent,     // handed to the transport: proves nothing about arrival
    full,     // ROUTER: the peer's pipe is full; try later
    no_peer,  // ROUTER: the connection is gone. DEALER: nobody is connected yet, or the one who is
              // has not read for a thousand messages, which the library does not tell apart; try
              // later
};

// Binds; tells peers apart by the transport's random id of each connection.
class RouterSocket {
  public:
    struct Message {
        std::string peer;  // routing id: names this connection only
        std::string
            user;  // authenticated user id, set by the ZAP handler: "uid:1000"; empty without one
        std::string payload;
    };
    // `zap_domain` empty: no authentication (a socket in a 0700 folder that nobody else can reach).
    // Callers hold a lock and have made the folder: bind takes an ipc path over even from a live
    // process. Changes the umask for its duration, so that the socket gets 0600.
    static Result<RouterSocket> bind(Context& context, const std::string& endpoint,
                                     const std::string& zap_domain);
    RouterSocket(RouterSocket&&) noexcept;
    RouterSocket& operator=(RouterSocket&&) noexcept;
    ~RouterSocket();

    // Nothing when no message waits, or after dropping many bad ones (then the next wait() reports
    // more). A message of more than one payload frame is dropped whole.
    std::optional<Message> receive();
    SendOutcome send(std::string_view peer, std::string_view payload);
    // The same for bytes that are counted: the ticket is let go, on any thread, once they are with
    // the kernel, or dropped. A peer that does not read keeps it.
    SendOutcome send(std::string_view peer, std::string payload,
                     std::shared_ptr<const void> ticket);
    void* native() const;

  private:
    struct State;
    explicit RouterSocket(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

// Connects to one endpoint and reconnects by itself; a message is sent only over a live connection.
class DealerSocket {
  public:
    // Succeeds whether or not somebody listens. `linger`: how long closing may take to send what is
    // queued.
    static Result<DealerSocket> connect(Context& context, const std::string& endpoint,
                                        Duration linger);
    DealerSocket(DealerSocket&&) noexcept;
    DealerSocket& operator=(DealerSocket&&) noexcept;
    ~DealerSocket();

    std::optional<std::string> receive();
    SendOutcome send(std::string_view payload);
    void* native() const;

  private:
    struct State;
    explicit DealerSocket(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

// Answers ZeroMQ's authentication requests on its own thread: ipc peers are let in when their uid
// is ours or root's, and become user "uid:<n>"; all else is refused. Start it before the first bind
// with a domain. Its thread's death ends the process: without a handler libzmq lets peers in.
class LocalAuthenticator {
  public:
    static Result<LocalAuthenticator> start(Context& context);
    LocalAuthenticator(LocalAuthenticator&&) noexcept;
    LocalAuthenticator& operator=(LocalAuthenticator&&) noexcept;
    ~LocalAuthenticator();

  private:
    struct State;
    explicit LocalAuthenticator(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

// ipc:// with an absolute path of at most 100 bytes (the kernel takes 107), or an error that says
// which setting to change. TCP is refused: it needs keys, which do not exist yet.
Status check_endpoint(const std::string& endpoint);

// Of libzmq, as "4.3.4".
std::string transport_version();

}  // namespace iw::io
