#pragma once

// state.json between us and the scripts that edit it: what they may change, what of it they have
// changed, and how to write the file so that no change of theirs is lost. Used by the worker that
// owns the root, and by ictl where no worker runs.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/messages/messages.h"
#include "common/workspace/workspace.h"

namespace iw::workspace {

// What scripts may edit, besides fields that are not ours.
struct SharedFields {
    SessionId parent;
    std::vector<std::string> tags;
    std::string metadata;  // JSON text of an object; empty: none
};
SharedFields shared_of(const SessionView& session);
void set_shared(SessionView& session, const SharedFields& fields);

// The fields that differ from what we wrote last.
struct ForeignEdit {
    std::optional<SessionId> parent;  // empty: none any more
    std::optional<std::vector<std::string>> tags;
    std::optional<std::string> metadata;  // empty: none any more
    // What cannot be meant, one sentence each, beginning with the field's name.
    std::vector<std::string> refused;

    bool empty() const { return !parent && !tags && !metadata; }
};
// `known`: what state.json showed before. A field that is missing has not been edited. Nothing when
// the text is no JSON object.
std::optional<ForeignEdit> foreign_edit(std::string_view json, const SharedFields& known);
SharedFields apply(SharedFields fields, const ForeignEdit& edit);
// What `later` says is added to `edit`, or replaces it.
void merge_into(ForeignEdit& edit, const ForeignEdit& later);
// What of `edit` is not so already.
ForeignEdit without(ForeignEdit edit, const SharedFields& known);
EditRequest edit_request(const SessionId& id, const ForeignEdit& edit);

// Who finds another version there knows that somebody else wrote it.
struct StateVersion {
    std::uint64_t inode = 0;
    std::int64_t changed_ns = 0;
    bool operator==(const StateVersion&) const = default;
};
// Nothing: there is no file of that name.
std::optional<StateVersion> state_version(const ProjectPaths& project, const SessionId& id);

// The text of state.json for a view. Fields that we do not know are kept from `kept`, an older
// text; the shared ones are as the view has them.
std::string state_json_of(const SessionView& session, bool tmux_active, WallTime now,
                          std::string_view kept);

// Whether a state.json shows this session, whatever else it holds; of a live one its
// elapsed_seconds are not compared.
bool shows_session(std::string_view json, const SessionView& session, bool tmux_active,
                   WallTime now);

struct RewrittenState {
    std::optional<StateVersion> version;  // of our text; none: the workspace is missing
    std::string broken;                   // where a text that was no JSON object stands now
};
// Replaces state.json by what `make` makes of the text that stands there (empty: none that can be
// read), inside the folder as it was opened, so that a move of the workspace takes the write along.
// Whatever a script put there between reading and writing is handed to `make` once more. What is
// broken is kept aside.
Result<RewrittenState> rewrite_state(const ProjectPaths& project, const SessionId& id,
                                     const std::function<std::string(const std::string&)>& make);

// The WARN about that, for the logs.
std::string broken_line(const std::string& kept_as);

}  // namespace iw::workspace
