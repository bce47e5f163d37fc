#pragma once

// Everybody who talks to the broker besides workers: submitters, killers, retriers, readers,
// watchers and admins. A request whose answer does not come is sent again, with the same key, maybe
// over another connection.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "tests/sim/network.h"
#include "tests/sim/oracle.h"
#include "tests/sim/plans.h"
#include "tests/sim/world.h"

namespace iw::sim {

// What clients tell one another.
struct Book {
    std::vector<SessionId> acknowledged;
    std::vector<Origin> roots;
    std::vector<WorkerName> workers;
    bool is_restored = false;  // and not released yet
};

class Client {
  public:
    struct Parts {
        World& world;
        Network& network;
        Oracle& oracle;
        Plans& plans;
        Book& book;
    };
    Client(Parts parts, std::string name);
    virtual ~Client();
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    const std::string& name() const { return name_; }
    virtual void start() = 0;
    // It wants nothing more.
    virtual bool is_done(Seq head) const = 0;

  protected:
    using Answer = std::variant<Reply, ErrorReply>;
    // One call at a time, repeated until it is answered for good.
    void call(Request request, std::function<void(const Answer&)> done);
    bool is_calling() const { return call_ != nullptr; }
    // A moment of leisure, shorter while faults happen.
    void rest(std::function<void()> what);
    std::optional<SessionId> some_session();

    Parts parts_;

  private:
    struct Call {
        Request request;
        std::function<void(const Answer&)> done;
        std::uint64_t tries = 0;
    };
    void connect();
    void send();
    void take(Payload payload);

    std::string name_;
    Network::SocketId socket_ = 0;
    std::uint64_t serial_ = 0;
    std::shared_ptr<Call> call_;
};

class Submitter : public Client {
  public:
    Submitter(Parts parts, std::string name, int count)
        : Client(parts, std::move(name)), left_(count) {}
    void start() override;
    bool is_done(Seq) const override { return left_ == 0 && !is_calling(); }

  private:
    Submission submission();
    void submit();
    void submitted(const SubmitRequest& request, const Answer& answer);

    int left_;
    std::uint64_t last_key_ = 0;
    std::optional<SubmitRequest> repeated_;
};

// Kills, retries and asks, in any order.
class Meddler : public Client {
  public:
    Meddler(Parts parts, std::string name, int count)
        : Client(parts, std::move(name)), left_(count) {}
    void start() override;
    bool is_done(Seq) const override { return left_ == 0 && !is_calling(); }

  private:
    void meddle();
    void kill(const SessionId& id);
    void retry(const SessionId& id);
    void edit(const SessionId& id);
    void ask(const SessionId& id);

    int left_;
    std::uint64_t last_key_ = 0;
};

// Pauses and drains for a while, changes timeouts, and says that silent workers are dead.
class Admin : public Client {
  public:
    Admin(Parts parts, std::string name, int count)
        : Client(parts, std::move(name)), left_(count) {}
    void start() override;
    bool is_done(Seq) const override { return left_ == 0 && !is_calling(); }

  private:
    void act();
    Request hold();
    Request extension(const SessionId& id);
    Request confirmation();

    int left_;
};

// Lets a restored broker go on once it has heard its workers; never by force.
class Releaser : public Client {
  public:
    using Client::Client;
    void start() override;
    bool is_done(Seq) const override { return !parts_.book.is_restored && !is_calling(); }

  private:
    void look();

    bool is_refused_ = false;
};

class Watcher : public Client {
  public:
    Watcher(Parts parts, std::string name, bool is_picky)
        : Client(parts, std::move(name)), is_picky_(is_picky) {}
    void start() override;
    bool is_done(Seq head) const override { return request_.after >= head; }

  private:
    void watch();

    bool is_picky_;
    EventsRequest request_;
};

}  // namespace iw::sim
