#include "worker/launcher/exit_record.h"

#include <poll.h>
#include <string.h>
#include <sys/wait.h>

#include <cstdio>

#include "common/base/text.h"
#include "worker/launcher/launcher.h"

namespace iw::worker {
namespace {

constexpr int kSignalBase = 128;
// A full disk often has room again soon.
constexpr int kExitRecordTries = 300;
constexpr int kExitRecordPauseMs = 2'000;

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

int write_exit(AttemptStore& store, const AttemptRef& attempt, const ExitRecord& record) {
    for (int tries = 0; tries < kExitRecordTries; ++tries) {
        const Status written = store.write_exit(attempt, record);
        if (written) return 0;
        if (written.error().code == ErrorCode::conflict) {
            say("the attempt has an exit record already; it stands");
            return 0;
        }
        if (tries == 0) say("cannot write the exit record, trying on: " + written.error().message);
        if (!io::exists(store.folder(attempt)))
            break;  // somebody removed the state: nobody waits for it
        ::poll(nullptr, 0, kExitRecordPauseMs);
    }
    return kExitIo;
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
