#include "worker/launcher/exit_record.h"

#include <poll.h>
#include <string.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>

#include "common/base/text.h"
#include "worker/launcher/launcher.h"

namespace iw::worker {
namespace {

constexpr int kSignalBase = 128;
constexpr int kExitRecordPauseMs = 2'000;
constexpr int kExitRecordPauseMaxMs = 30'000;

std::string signal_words(int signal) {
    const char* name = ::sigabbrev_np(signal);
    const char* words = ::sigdescr_np(signal);
    std::string text = "signal " + std::to_string(signal);
    if (name != nullptr)
        text +=
            std::string(" (SIG") + name + (words != nullptr ? std::string(": ") + words : "") + ")";
    return text;
}

}  // namespace

void say(const std::string& text) {
    std::fprintf(stdout, "iexec: %s\n", printable(text, true).c_str());
    std::fflush(stdout);
}

// For as long as it takes: a full disk has room again some day, and without the record the run,
// which may have cost hours, would count as lost.
int write_exit(AttemptStore& store, const AttemptRef& attempt, const ExitRecord& record) {
    for (int pause_ms = kExitRecordPauseMs;;
         pause_ms = std::min(pause_ms * 2, kExitRecordPauseMaxMs)) {
        const Status written = store.write_exit(attempt, record);
        if (written) return 0;
        if (written.error().code == ErrorCode::conflict) {
            say("the attempt has an exit record already; it stands");
            return 0;
        }
        if (pause_ms == kExitRecordPauseMs)
            say("cannot write the exit record, trying on: " + written.error().message);
        // Somebody removed the state: nobody waits for it.
        if (!io::exists(store.folder(attempt))) return kExitIo;
        ::poll(nullptr, 0, pause_ms);
    }
}

int exit_code_of(int wait_status) {
    return WIFSIGNALED(wait_status) ? kSignalBase + WTERMSIG(wait_status)
                                    : WEXITSTATUS(wait_status);
}

// A stop that was sent decides over everything, a closed terminal over the code that it led to.
ExitRecord describe(const AgentEnd& end, WallTime started_at) {
    ExitRecord record;
    record.exit_code = exit_code_of(end.wait_status);
    record.stop_sent = end.stop_sent;
    record.hangup = end.hangup;
    record.started_at = started_at;
    record.ended_at = end.ended_at;
    record.swept = end.swept;
    record.reason = WIFSIGNALED(end.wait_status) ? signal_words(WTERMSIG(end.wait_status))
                                                 : "exit code " + std::to_string(*record.exit_code);
    record.cause = WIFSIGNALED(end.wait_status) ? EndCause::signal : EndCause::exited;
    if (end.stop_sent) {
        record.cause = EndCause::stopped;
    } else if (end.hangup) {
        record.cause = EndCause::lost;
        record.evidence =
            "the launcher saw its terminal close; the agent ended with " + record.reason;
        record.reason = "the terminal closed: " + end.hangup_cause;
    }
    if (end.left > 0) {
        if (!record.evidence.empty()) record.evidence += "; ";
        record.evidence +=
            std::to_string(end.left) + " of the agent's processes could not be ended";
    }
    return record;
}

}  // namespace iw::worker
