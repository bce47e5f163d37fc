#include "ctl/edits.h"

#include <optional>
#include <string>
#include <vector>

#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "common/workspace/edits.h"
#include "ctl/context.h"

namespace iw::ctl {
namespace {

constexpr std::size_t kStateMax = 4u << 20;

bool is_active(const SessionView& session) {
    return session.status == SessionStatus::running && session.detail != Detail::delivering;
}

void warn(const workspace::ProjectPaths& project, const SessionId& id, const std::string& line) {
    const WallTime now = io::wall_now();
    static_cast<void>(workspace::log_session(project, id, now, workspace::LogWord::warn, line));
    static_cast<void>(workspace::log_project(project, now, workspace::LogWord::warn, line));
}

// Asking again would be answered the same.
bool is_refusal(const Error& error) {
    return error.code == ErrorCode::not_found || error.code == ErrorCode::bad_request ||
           error.code == ErrorCode::conflict;
}

// What was not taken, one sentence each; an error: nobody could take it now.
Result<std::vector<std::string>> tell(Context& context, SessionView& view,
                                      const workspace::ForeignEdit& edit) {
    std::vector<std::string> refused = edit.refused;
    if (edit.empty()) return refused;
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return broker.error();
    const Result<EditReply> reply =
        (*broker)->call<EditReply>(workspace::edit_request(view.id, edit));
    if (!reply && !is_refusal(reply.error())) return reply.error();
    if (!reply) {
        refused.push_back(reply.error().message);
        return refused;
    }
    workspace::set_shared(view, workspace::shared_of(reply->session));
    refused.insert(refused.end(), reply->refused.begin(), reply->refused.end());
    return refused;
}

}  // namespace

Status settle_edits(Context& context, const workspace::ProjectPaths& project, SessionView& view) {
    const Result<std::string> text =
        io::read_file(project.workspace(view.id) + "/state.json", kStateMax);
    if (!text) return Done{};
    const workspace::SharedFields known = workspace::shared_of(view);
    const std::optional<workspace::ForeignEdit> found = workspace::foreign_edit(*text, known);
    const WallTime now = io::wall_now();
    const bool right = workspace::shows_session(*text, view, is_active(view), now);
    if (right && found && found->refused.empty()) return Done{};
    const workspace::ForeignEdit edit = found.value_or(workspace::ForeignEdit{});
    const workspace::SharedFields read = workspace::apply(known, edit);
    const Result<std::vector<std::string>> refused = tell(context, view, edit);
    // The file stays as it is until somebody asks who may tell the broker, and can.
    if (!refused) return Done{};
    const auto written = workspace::rewrite_state(project, view.id, [&](const std::string& kept) {
        SessionView shown = view;
        // Written since the look: it stays in the file for the next one.
        if (const auto later = workspace::foreign_edit(kept, read))
            workspace::set_shared(shown, workspace::apply(workspace::shared_of(shown), *later));
        return workspace::state_json_of(shown, is_active(view), now, kept);
    });
    if (!written) return written.error();
    std::vector<std::string> lines;
    if (!written->broken.empty()) lines.push_back(workspace::broken_line(written->broken));
    for (const std::string& what : *refused)
        lines.push_back("Edit of state.json of " + view.id.str() + " put right: " + what);
    for (const std::string& line : lines)
        warn(project, view.id, line);
    return Done{};
}

}  // namespace iw::ctl
