#include "worker/local_sockets.h"

#include <utility>
#include <vector>

#include "common/base/overloaded.h"
#include "common/codec/codec.h"
#include "common/io/files.h"
#include "common/io/logging.h"
#include "common/io/system_clock.h"

namespace iw::worker {
namespace {

constexpr std::size_t kUnderWayMax = 64;  // requests of one attempt
constexpr int kMessagesPerRead = 64;
constexpr std::size_t kNameLength = 12;
// No client waits this long for one answer; what is older is forgotten.
constexpr Duration kPatience{180'000};

std::string endpoint_of(const std::string& path) {
    return "ipc://" + path;
}

// Sent again, would the request do its work a second time?
bool is_repeatable(const std::string& bytes) {
    const std::variant<RequestFrame, BadFrame> decoded = decode_request(bytes);
    const auto* frame = std::get_if<RequestFrame>(&decoded);
    if (frame == nullptr) return true;
    if (const auto* submit = std::get_if<SubmitRequest>(&frame->body)) {
        for (const Submission& session : submit->sessions) {
            if (session.key.empty()) return false;
        }
    }
    const auto* retry = std::get_if<RetryRequest>(&frame->body);
    return retry == nullptr || !retry->key.empty();
}

}  // namespace

LocalSockets::LocalSockets(io::Context& context, io::EventLoop& loop, std::string folder,
                           Forward forward)
    : context_(context), loop_(loop), folder_(std::move(folder)), forward_(std::move(forward)) {}

LocalSockets::~LocalSockets() {
    for (auto& [attempt, open] : open_)
        loop_.remove_socket(open.socket.native());
}

Status LocalSockets::check_folder(const std::string& folder) {
    const std::string longest = folder + "/" + std::string(kNameLength, 'x') + ".sock";
    if (const Status fits = io::check_endpoint(endpoint_of(longest)); !fits) {
        return make_error(ErrorCode::config,
                          "the state folder's path is too long for the sockets in it (" + longest +
                              " has " + std::to_string(longest.size()) +
                              " bytes, 100 are possible); choose a shorter --state-dir");
    }
    return Done{};
}

std::string LocalSockets::path(const AttemptRef& attempt) const {
    return folder_ + "/" + io::sha256_hex(attempt_name(attempt)).substr(0, kNameLength) + ".sock";
}

Status LocalSockets::open(const AttemptRef& attempt) {
    if (open_.contains(attempt)) return Done{};
    if (const Status made = io::make_folders(folder_, 0700); !made) return made;
    Result<io::RouterSocket> socket =
        io::RouterSocket::bind(context_, endpoint_of(path(attempt)), "");
    if (!socket) return socket.error();
    const auto [entry, is_new] =
        open_.emplace(attempt, Open{.socket = std::move(*socket), .under_way = 0});
    loop_.add_socket(entry->second.socket.native(), [this, attempt] { read(attempt); });
    return Done{};
}

void LocalSockets::close(const AttemptRef& attempt) {
    const auto found = open_.find(attempt);
    if (found == open_.end()) return;
    loop_.remove_socket(found->second.socket.native());
    open_.erase(found);
    std::erase_if(pending_, [&](const auto& entry) { return entry.second.attempt == attempt; });
    static_cast<void>(io::remove_file(path(attempt)));
}

void LocalSockets::read(const AttemptRef& attempt) {
    expire();
    for (int count = 0; count < kMessagesPerRead; ++count) {
        const auto found = open_.find(attempt);
        if (found == open_.end()) return;
        std::optional<io::RouterSocket::Message> message = found->second.socket.receive();
        if (!message) return;
        take(found->second, attempt, std::move(*message));
    }
}

void LocalSockets::take(Open& open, const AttemptRef& attempt, io::RouterSocket::Message message) {
    if (open.under_way >= kUnderWayMax) {
        const std::string what =
            "more than " + std::to_string(kUnderWayMax) + " requests of this session are under way";
        return refuse(open, message.peer, message.payload,
                      make_error(ErrorCode::rate_limited, what));
    }
    const std::uint64_t ticket = ++last_ticket_;
    ++open.under_way;
    Pending& pending = pending_[ticket];
    pending = Pending{.attempt = attempt,
                      .peer = std::move(message.peer),
                      .request = std::move(message.payload),
                      .since = io::steady_now(),
                      .sent = false};
    pending.sent = forward_(ticket, RelayRequest{attempt.session, attempt.fence, pending.request});
    if (pending.sent) return;
    // Said at once, so that who must not wait (a hook that asks for its fence) knows; others ask
    // again, and know that nothing was done.
    refuse(open, pending.peer, pending.request,
           make_error(ErrorCode::unreachable, "the worker is not connected to its broker"));
    finish(pending_.find(ticket));
}

void LocalSockets::refuse(Open& open, const std::string& peer, const std::string& request,
                          const Error& error) {
    const std::variant<RequestFrame, BadFrame> decoded = decode_request(request);
    std::string id;
    std::string verb_of;
    std::visit(overloaded{[&](const RequestFrame& frame) {
                              id = frame.id;
                              verb_of = verb(frame.body);
                          },
                          [&](const BadFrame& frame) {
                              id = frame.id;
                              verb_of = frame.verb;
                          }},
               decoded);
    const ErrorReply reply{.error = error, .retry = Duration{1'000}, .matches = {}};
    static_cast<void>(open.socket.send(peer, encode(ReplyFrame{.id = id, .body = reply}, verb_of)));
}

void LocalSockets::answer(std::uint64_t ticket, const Result<RelayReply>& reply) {
    const auto pending = pending_.find(ticket);
    if (pending == pending_.end()) return;
    Open& open = open_.at(pending->second.attempt);
    if (reply) {
        static_cast<void>(open.socket.send(pending->second.peer, reply->reply));
    } else {
        refuse(open, pending->second.peer, pending->second.request, reply.error());
    }
    finish(pending);
}

void LocalSockets::finish(std::map<std::uint64_t, Pending>::iterator pending) {
    const auto open = open_.find(pending->second.attempt);
    if (open != open_.end()) --open->second.under_way;
    pending_.erase(pending);
}

void LocalSockets::resend() {
    expire();
    for (auto it = pending_.begin(); it != pending_.end();) {
        const auto current = it++;
        Pending& pending = current->second;
        // Its client gets no answer and says so: the outcome is unknown.
        if (pending.sent && !is_repeatable(pending.request)) {
            finish(current);
            continue;
        }
        pending.sent =
            forward_(current->first,
                     RelayRequest{pending.attempt.session, pending.attempt.fence, pending.request});
    }
}

void LocalSockets::expire() {
    const Timestamp oldest = io::steady_now() - kPatience;
    while (!pending_.empty() && pending_.begin()->second.since < oldest)
        finish(pending_.begin());
}

}  // namespace iw::worker
