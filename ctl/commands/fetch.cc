#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/workspace/incoming.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/fetching.h"
#include "ctl/json.h"
#include "ctl/render.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Brings the files that a session left on the host where it ran, from the broker, which keeps
them as long as the session. FILE is a path in the workspace, or a folder there; without one
all come. They go to DIR (default: a folder of the session's id in the current one); a file
of the same name there is replaced. Its own project gets them without being asked. --attempt
takes what an earlier attempt left, where it is among the files that travelled.

Examples:
  ictl fetch $ID
  ictl fetch $ID --list
  ictl fetch $ID output.log report/ --to /tmp/look

Exit codes: 0; 1 nothing travelled, or some of it is lost; 2 a file could not be written; 4 no
such session; 64 wrong arguments; 69 no broker; 77 denied.
)";

struct Options {
    std::string id;
    std::vector<std::string> files;
    std::string to;
    long long attempt = 0;
    bool given_attempt = false;
    bool list = false;
    bool json = false;
};

using workspace::DeliveredFile;
using workspace::Manifest;

int nothing_travelled(const Terminal& terminal, const SessionView& session) {
    const std::string id = session.id.str();
    if (!is_final(session.status)) {
        return terminal.fail(kExitFailure, "nothing yet: " + id + " is " + status_words(session) +
                                               "; see `ictl wait " + id + "`");
    }
    const bool known = !session.origin.empty() && !session.workspace.empty();
    return terminal.fail(kExitFailure, "the files of " + id + " did not travel" +
                                           (known ? ": they stand on host " + session.origin.host +
                                                        " in " + session.workspace
                                                  : std::string()));
}

// Of an earlier attempt: what stands in its folder, by the names that it had.
Manifest of_attempt(const Manifest& manifest, std::uint32_t attempt) {
    const std::string front = "attempts/" + std::to_string(attempt) + "/";
    Manifest part;
    for (DeliveredFile file : manifest.files) {
        if (!file.path.starts_with(front)) continue;
        file.path.erase(0, front.size());
        if (workspace::is_deliverable_path(file.path)) part.files.push_back(std::move(file));
    }
    return part;
}

// What `wanted` names, or an error that names the first that nothing matches.
Result<Manifest> chosen(const Manifest& manifest, const std::vector<std::string>& wanted) {
    if (wanted.empty()) return manifest;
    std::vector<bool> takes(manifest.files.size(), false);
    for (const std::string& name : wanted) {
        const std::string folder = name.ends_with('/') ? name : name + "/";
        bool found = false;
        for (std::size_t i = 0; i < manifest.files.size(); ++i) {
            const std::string& path = manifest.files[i].path;
            if (path != name && !path.starts_with(folder)) continue;
            takes[i] = found = true;
        }
        if (found) continue;
        return make_error(ErrorCode::not_found,
                          "no file " + printable(name, true) + " travelled; see --list");
    }
    Manifest part;
    for (std::size_t i = 0; i < manifest.files.size(); ++i) {
        if (takes[i]) part.files.push_back(manifest.files[i]);
    }
    return part;
}

nlohmann::ordered_json files_json(const Manifest& manifest) {
    nlohmann::ordered_json files = nlohmann::ordered_json::array();
    for (const DeliveredFile& file : manifest.files) {
        files.push_back({{"path", file.path},
                         {"size", file.size},
                         {"sha256", file.sha256},
                         {"mode", file.executable ? "0755" : "0644"}});
    }
    return files;
}

int show_list(const Terminal& terminal, const SessionView& session, const Manifest& manifest,
              bool json) {
    if (json) {
        const nlohmann::ordered_json document{{"session_id", session.id.str()},
                                              {"attempt", session.attempt},
                                              {"bytes", workspace::total_bytes(manifest)},
                                              {"files", files_json(manifest)},
                                              {"left_out", manifest.left_out}};
        terminal.print(safe_json(document.dump(2) + "\n"));
        return kExitOk;
    }
    for (const DeliveredFile& file : manifest.files) {
        std::string size = std::to_string(file.size);
        size.insert(0, size.size() < 12 ? 12 - size.size() : 0, ' ');
        terminal.print(size + "  " + (file.executable ? "0755" : "0644") + "  " + file.path + "\n");
    }
    for (const std::string& line : manifest.left_out)
        terminal.say("left behind: " + printable(line, true));
    return kExitOk;
}

int bring(Context& context, BrokerClient& broker, const SessionView& session, Manifest manifest,
          const Options& options) {
    const Terminal& terminal = context.terminal();
    const std::string folder =
        io::absolute_path(options.to.empty() ? session.id.str() : options.to);
    if (const Status made = io::make_folders(folder, 0755); !made)
        return terminal.fail(kExitFault, made.error().message);
    // A link that the user names is the user's word; within it none is followed.
    Result<workspace::Incoming> incoming =
        workspace::Incoming::open(io::real_path(folder), workspace::Incoming::Busy::wait);
    if (!incoming) return terminal.fail(kExitFault, incoming.error().message);
    const Manifest files = manifest;
    const Result<std::vector<std::string>> missing =
        fetch_files(broker, session.id, std::move(manifest), *incoming);
    if (!missing) {
        const bool local =
            missing.error().code == ErrorCode::storage_low || missing.error().code == ErrorCode::io;
        return local ? terminal.fail(kExitFault, folder + ": " + missing.error().message)
                     : terminal.fail(missing.error());
    }
    if (options.json) {
        const nlohmann::ordered_json document{{"session_id", session.id.str()},
                                              {"folder", folder},
                                              {"bytes", workspace::total_bytes(files)},
                                              {"files", files_json(files)},
                                              {"missing", *missing}};
        terminal.print(safe_json(
            document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"));
    } else {
        terminal.print(std::to_string(files.files.size()) + " files (" +
                       std::to_string(workspace::total_bytes(files)) + " bytes) of " +
                       session.id.str() + " in " + printable(folder, true) + "\n");
    }
    for (const std::string& line : *missing)
        terminal.say("ictl: missing: " + printable(line, true));
    return missing->empty() ? kExitOk : kExitFailure;
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    if (trim(options.id).empty()) {
        return terminal.fail(kExitUsage,
                             "no session id given; did create fail? see logs/orchestrator.log");
    }
    if (options.given_attempt && (options.attempt < 1 || options.attempt > limits::kAttemptsMax)) {
        return terminal.fail(kExitUsage, "bad --attempt " + std::to_string(options.attempt) +
                                             "; attempts are numbered from 1");
    }
    if (options.list && !options.to.empty())
        return terminal.fail(kExitUsage, "--list brings nothing; leave out --to");
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return terminal.fail(broker.error());
    const Result<StatusReply> reply = (*broker)->status(options.id, /*exact=*/false);
    if (!reply) return terminal.fail(reply.error());
    const SessionView& session = reply->session;
    if (!session.deliverables) return nothing_travelled(terminal, session);
    Result<Manifest> manifest = fetch_manifest(**broker, session);
    if (!manifest && manifest.error().code == ErrorCode::not_found) {
        return terminal.fail(kExitFailure, "the broker does not hold the files of " +
                                               session.id.str() + " any more");
    }
    if (!manifest) return terminal.fail(manifest.error());
    const auto attempt = static_cast<std::uint32_t>(options.attempt);
    if (options.given_attempt && attempt != session.attempt) {
        *manifest = of_attempt(*manifest, attempt);
        if (manifest->files.empty()) {
            return terminal.fail(kExitFailure, "nothing of attempt " + std::to_string(attempt) +
                                                   " is among the files of " + session.id.str());
        }
    }
    Result<Manifest> part = chosen(*manifest, options.files);
    if (!part) return terminal.fail(kExitFailure, part.error().message);
    if (options.list) return show_list(terminal, session, *part, options.json);
    return bring(context, **broker, session, std::move(*part), options);
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("id", options->id, "the session")->required();
    app.add_option("file", options->files, "only these files or folders of its workspace");
    app.add_option("--to", options->to, "the folder that they go to")->type_name("DIR");
    CLI::Option* attempt =
        app.add_option("--attempt", options->attempt, "of an earlier attempt")->type_name("N");
    app.add_flag("--list", options->list, "only say what there is");
    app.add_flag("--json", options->json, "print JSON");
    return [options, attempt](Context& context) {
        options->given_attempt = attempt->count() > 0;
        return run(context, *options);
    };
}

}  // namespace

Command fetch_command() {
    return {.name = "fetch",
            .group = kGroupSessions,
            .summary = "Bring the files of a session that ran elsewhere",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
