#include "ctl/tmux_sessions.h"

#include "common/base/text.h"
#include "common/io/files.h"
#include "ctl/context.h"

namespace iw::ctl {
namespace {

constexpr std::size_t kListMax = 4u << 20;
constexpr int kTmuxMs = 5'000;

std::set<std::string> ask_tmux(const std::string& socket) {
    const io::CommandResult listed =
        io::run_command({"tmux", "-u", "-S", socket, "list-sessions", "-F", "#{session_name}"}, {},
                        "", kListMax, kTmuxMs);
    std::set<std::string> names;
    if (listed.exit_code != 0) return names;
    for (const std::string& line : split(listed.output, '\n'))
        names.insert(line);
    return names;
}

}  // namespace

std::string tmux_socket(const std::string& worker_state_folder) {
    return worker_state_folder + "/tmux.sock";
}

bool TmuxSessions::active(const SessionView& session) {
    if (session.status != SessionStatus::running) return false;
    const bool by_broker = session.detail != Detail::delivering;
    if (session.host != context_.host()) return by_broker;
    const std::string socket = tmux_socket(context_.worker_state(session.origin.root));
    if (!io::exists(socket)) return by_broker;
    const auto [entry, is_new] = seen_.try_emplace(socket);
    if (is_new) entry->second = ask_tmux(socket);
    if (entry->second.contains(tmux_session_name(session.id))) return true;
    // Not with the worker of its project: another one of this host may run it.
    const bool elsewhere = runners_.root_of(session) != session.origin.root;
    return elsewhere && by_broker;
}

}  // namespace iw::ctl
