#include "worker/broker_link.h"

#include <utility>

#include "common/base/overloaded.h"
#include "common/codec/codec.h"
#include "common/io/logging.h"

namespace iw::worker {
namespace {

// Read per wait; the rest is reported again at the next one.
constexpr int kMessagesPerRead = 64;
constexpr Duration kLinger{500};  // for the goodbye

}  // namespace

BrokerLink::BrokerLink(io::Context& context, io::EventLoop& loop, std::string endpoint,
                       Handlers handlers)
    : context_(context),
      loop_(loop),
      endpoint_(std::move(endpoint)),
      handlers_(std::move(handlers)) {}

BrokerLink::~BrokerLink() {
    close();
}

Status BrokerLink::open() {
    Result<io::DealerSocket> socket = io::DealerSocket::connect(context_, endpoint_, kLinger);
    if (!socket) return socket.error();
    socket_ = std::move(*socket);
    ++serial_;
    loop_.add_socket(socket_->native(), [this] { read(); });
    return Done{};
}

Status BrokerLink::reconnect() {
    close();
    return open();
}

void BrokerLink::close() {
    if (!socket_) return;
    loop_.remove_socket(socket_->native());
    socket_.reset();
    expected_.clear();
}

bool BrokerLink::send(Request request) {
    // What an earlier hello was told belongs to another welcome, perhaps to another epoch.
    if (std::holds_alternative<HelloRequest>(request)) {
        std::erase_if(expected_,
                      [](const auto& entry) { return entry.second.verb == "heartbeat"; });
    }
    Expected expected{
        .verb = std::string(verb(request)), .ticket = 0, .reports = {}, .on_answer = {}};
    if (const auto* message = std::get_if<ReportRequest>(&request)) {
        for (const Report& report : message->reports)
            expected.reports.push_back({{report.session, report.fence}, report.number});
    }
    return send_expected(std::move(request), std::move(expected));
}

bool BrokerLink::send_relay(std::uint64_t ticket, RelayRequest request) {
    return send_expected(
        std::move(request),
        Expected{.verb = "relay", .ticket = ticket, .reports = {}, .on_answer = {}});
}

bool BrokerLink::ask(Request request, OnAnswer on_answer) {
    Expected expected{.verb = std::string(verb(request)),
                      .ticket = 0,
                      .reports = {},
                      .on_answer = std::move(on_answer)};
    return send_expected(std::move(request), std::move(expected));
}

bool BrokerLink::send_expected(Request request, Expected expected) {
    if (!socket_) return false;
    const std::string id = std::to_string(++last_request_);
    const std::string bytes = encode(RequestFrame{.id = id, .body = std::move(request)});
    if (socket_->send(bytes) != io::SendOutcome::sent) return false;
    io::log(io::LogLevel::debug, "sent", {{"verb", expected.verb}, {"request", id}});
    expected_[id] = std::move(expected);
    return true;
}

void BrokerLink::read() {
    const std::uint64_t serial = serial_;
    for (int count = 0; count < kMessagesPerRead; ++count) {
        const std::optional<std::string> bytes = socket_->receive();
        if (!bytes) return;
        take(*bytes);
        // What else waits belongs to a connection that was given up in the meantime.
        if (serial != serial_ || !socket_) return;
    }
}

void BrokerLink::take(const std::string& bytes) {
    Result<Incoming> incoming = decode_incoming(bytes);
    if (!incoming) {
        io::log(io::LogLevel::warn, "unreadable message from the broker",
                {{"error", incoming.error().message}});
        return;
    }
    std::visit(overloaded{[this](ReplyFrame& frame) { take_reply(std::move(frame)); },
                          [this](PushFrame& frame) { take_push(std::move(frame)); }},
               *incoming);
}

void BrokerLink::take_reply(ReplyFrame frame) {
    const auto found = expected_.find(frame.id);
    if (found == expected_.end()) return;
    const Expected expected = std::move(found->second);
    expected_.erase(found);
    std::visit(overloaded{[&](Reply& reply) { take_reply(expected, std::move(reply)); },
                          [&](ErrorReply& error) { take_error(expected, error.error); }},
               frame.body);
}

void BrokerLink::take_reply(Expected expected, Reply reply) {
    if (expected.on_answer) {
        handlers_.on_event(HeardEvent{});
        return expected.on_answer(std::move(reply));
    }
    const auto ignore = [this](const auto&) { handlers_.on_event(HeardEvent{}); };
    std::visit(
        overloaded{
            [this](WelcomeReply& welcome) { handlers_.on_event(WelcomeEvent{std::move(welcome)}); },
            [this](HeartbeatReply& heartbeat) {
                handlers_.on_event(HeartbeatAnsweredEvent{std::move(heartbeat)});
            },
            [this](ReportReply& report) { handlers_.on_event(AcksEvent{std::move(report.acks)}); },
            [this, &expected](RelayReply& relay) {
                handlers_.on_event(HeardEvent{});
                handlers_.on_relay(expected.ticket, std::move(relay));
            },
            [this](GoodbyeReply&) { handlers_.on_goodbye(); },
            // Answers to what only clients ask.
            [&](auto& other) { ignore(other); }},
        reply);
}

void BrokerLink::take_error(const Expected& expected, const Error& error) {
    const std::string code(name(error.code));
    io::log(io::LogLevel::debug, "refused",
            {{"verb", expected.verb}, {"code", code}, {"msg", error.message}});
    if (error.code == ErrorCode::no_session) {
        // The request of a process inside a session is repeated after the next welcome.
        handlers_.on_event(NoSessionEvent{});
        return;
    }
    if (expected.on_answer) {
        handlers_.on_event(HeardEvent{});
        return expected.on_answer(error);
    }
    if (expected.verb == "hello") {
        handlers_.on_event(RefusedEvent{error});
        return;
    }
    if (error.code == ErrorCode::read_only && expected.verb != "relay")
        return handlers_.on_event(ReadOnlyEvent{error.message});
    const bool of_form = error.code == ErrorCode::bad_request || error.code == ErrorCode::too_large;
    if (of_form && !expected.reports.empty()) {
        const bool alone = expected.reports.size() == 1;
        io::log(alone ? io::LogLevel::error : io::LogLevel::warn,
                alone ? "the broker refused a report for its form"
                      : "the broker refused a message of reports; each goes alone now",
                {{"attempt", attempt_name(expected.reports.front().attempt)},
                 {"code", code},
                 {"msg", error.message}});
        handlers_.on_event(ReportsRefusedEvent{expected.reports, error});
        return;
    }
    handlers_.on_event(HeardEvent{});
    if (expected.verb == "relay") handlers_.on_relay(expected.ticket, error);
    if (expected.verb == "report" || expected.verb == "heartbeat") {
        io::log(io::LogLevel::warn, "the broker refused",
                {{"verb", expected.verb}, {"msg", error.message}});
    }
}

void BrokerLink::take_push(PushFrame frame) {
    std::visit(
        overloaded{
            [this](AssignPush& push) {
                handlers_.on_event(AssignEvent{std::move(push.assignments)});
            },
            [this](StopPush& push) { handlers_.on_event(StopEvent{std::move(push.stops)}); },
            [this](ClosePush& push) { handlers_.on_event(CloseEvent{std::move(push.outcomes)}); },
            [this](LimitsPush& push) { handlers_.on_event(LimitsEvent{std::move(push.limits)}); },
            [this](FollowPush& push) {
                handlers_.on_event(HeardEvent{});
                handlers_.on_follow(std::move(push));
            }},
        frame.body);
}

}  // namespace iw::worker
