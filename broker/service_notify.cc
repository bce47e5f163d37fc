#include "broker/service_notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "common/base/text.h"
#include "common/io/files.h"

namespace iw::broker {
namespace {

constexpr long long kMicrosecondsMax = 24LL * 3600 * 1'000'000;

}  // namespace

ServiceNotify::ServiceNotify() : socket_(io::environment("NOTIFY_SOCKET")) {
    long long microseconds = 0;
    if (parse_int(io::environment("WATCHDOG_USEC"), 1, kMicrosecondsMax, microseconds)) {
        watchdog_interval_ = Duration(microseconds / 2000);
    }
    for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) {
        ::unsetenv(name);
    }
}

void ServiceNotify::send(std::string_view message) const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (socket_.empty() || socket_.size() >= sizeof address.sun_path) return;
    std::memcpy(address.sun_path, socket_.data(), socket_.size());
    // A leading @ stands for the abstract namespace, whose names begin with a zero byte.
    if (socket_.front() == '@') address.sun_path[0] = '\0';
    const io::UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!fd.valid()) return;
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
    // Best effort: the manager's own time-out tells when it did not arrive.
    [[maybe_unused]] const ssize_t sent =
        ::sendto(fd.get(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                 reinterpret_cast<const sockaddr*>(&address), size);
}

}  // namespace iw::broker
