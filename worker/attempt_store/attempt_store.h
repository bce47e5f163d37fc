#pragma once

// What a worker and its launchers know about attempts, as one folder per attempt in the worker's
// state directory: `attempts/<session>-<generation>-<attempt>/`. Each file is one fact, written
// once and synced with its folder before anybody acts on it, so the folder is journal and outbox in
// one: what has to be reported follows from which files are there.
//
//   assignment.json  worker   the assignment as received, without the prompt
//   prompt.md        worker   the prompt, byte for byte
//   launch.json      worker   what iexec is to run: the plan
//   start            link(2)  the claim: iexec before it starts the agent, or the worker that
//                             declines or stops it first; who does not get it runs nothing
//   process.json     iexec    pid and start ticks of iexec and agent, once the agent runs
//   stop.json        worker   a stop, before the first signal
//   limits.json      worker   another run timeout than the assignment's
//   exit.json        iexec    how it ended; or worker, when it had to find out itself
//   log.json         ilogd    bytes seen and kept; written at the end of the terminal's output
//   judged.json      worker   result and verdict as reported, so that a broker that lost them can
//                             be told again after the workspace has moved on
//   outcome.json     worker   the broker's outcome of the attempt
//   reported         worker   highest report number acknowledged
//   closed           worker   closed report acknowledged: kept 7 days, then removed
//
// iexec and ilogd find the state directory in IW_WORKER_STATE (set for the tmux server), the
// attempt by name.

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/time.h"
#include "common/io/files.h"
#include "common/messages/messages.h"

namespace iw::worker {

// SIGTERM makes iexec look for stop.json. This one is a stop by itself: for the case that the
// record cannot be written, because the disk is full.
inline constexpr int kStopSignal = SIGUSR2;

// What iexec runs, made by the worker from profile and assignment. No shell is involved.
struct LaunchPlan {
    AttemptRef attempt;
    std::string folder;     // the project's root: the agent's working directory
    std::string workspace;  // output.log goes there
    std::vector<std::string> argv;
    std::map<std::string, std::string> environment;  // complete: nothing is inherited
    std::string stdin_file;                          // empty: the terminal
    std::string success;  // the word of the rule that judges the end; for the worker alone
    std::uint64_t log_bytes_max = 0;
    Duration stop_grace{0};
    Duration settle{250};  // what an ended agent leaves has this long to end by itself
    // On CLOCK_BOOTTIME: a launcher that comes to claim the start after this runs nothing, since
    // the broker may have taken the worker for gone. Zero: no bound.
    Timestamp start_by;
};

// Who holds the start claim.
enum class Claim { launcher, declined, stopped };

struct ProcessRecord {
    io::ProcessId launcher;
    io::ProcessId guard;  // the launcher's parent, which ends the agent if the launcher is killed
    io::ProcessId agent;  // also its process group
    std::string boot_id;
    WallTime started_at;
};

struct StopRecord {
    Detail cause = Detail::killed;  // killed, parent_killed, timeout, disk_limit
    std::string reason;
    WallTime at;
};

struct ExitRecord {
    EndCause cause = EndCause::exited;
    std::optional<int> exit_code;  // 128+n for a signal
    bool stop_sent = false;        // a stop signal had been sent before the agent ended
    bool hangup = false;           // the terminal went away under the agent
    std::string reason;            // of start_failed and lost
    std::string evidence;
    std::optional<WallTime> started_at;
    WallTime ended_at;
    std::uint32_t swept = 0;  // descendants that had to be ended after the agent
};

// What the worker read of the deliverables and made of them.
struct JudgedRecord {
    bool success = false;
    std::string reason;
    std::string result_status;
    std::optional<std::uint64_t> result_size;
    std::string result_sha256;
    bool result_inline = false;
    std::string result;
    std::optional<EndCause> fault;       // that replaces the cause of the end
    std::optional<Delivered> delivered;  // what was put to the broker
};

// Everything that is known of one attempt.
struct AttemptFacts {
    AttemptRef attempt;
    std::optional<Assignment> assignment;  // prompt empty
    std::optional<Claim> claim;
    std::string claim_reason;
    std::optional<ProcessRecord> process;
    std::optional<StopRecord> stop;
    std::optional<Duration> timeout;  // of limits.json
    std::optional<ExitRecord> exit;
    bool log_done = false;
    std::optional<SessionView> outcome;
    std::uint32_t reported = 0;
    bool closed = false;
    // The first file that could not be read, by name and why; its field is as if it were missing,
    // so nothing may be started, reported or removed on these facts. Empty: all is well.
    std::string error;
};

class AttemptStore {
  public:
    // `state_folder`/attempts is made when missing.
    static Result<AttemptStore> open(const std::string& state_folder);

    std::string folder(const AttemptRef& attempt) const;
    // All attempts on disk, by name. One that cannot be read whole carries an `error` and hides no
    // other; folders in which nothing was recorded yet are left out.
    Result<std::vector<AttemptFacts>> load_all() const;
    // not_found when there is none; io when one of its files cannot be read.
    Result<AttemptFacts> load(const AttemptRef& attempt) const;

    // The same, with what can be read; `error` names what cannot. not_found when there is none.
    Result<AttemptFacts> examine(const AttemptRef& attempt) const;
    // The start is taken, but what stands there was never written by a claim and never will make
    // sense. A file that cannot be read right now is not that.
    bool is_start_garbled(const AttemptRef& attempt) const;

    // Records assignment and prompt, synced. conflict when the attempt is known already.
    Status accept(const Assignment& assignment);
    Status write_plan(const LaunchPlan& plan);
    Result<LaunchPlan> read_plan(const AttemptRef& attempt) const;
    // The exclusive start. conflict when somebody else holds it.
    Status claim(const AttemptRef& attempt, Claim claim, const std::string& reason);
    Status write_process(const AttemptRef& attempt, const ProcessRecord& record);
    // Makes the folder of an attempt that is not known yet. An earlier stop stands, and is no
    // error.
    Status write_stop(const AttemptRef& attempt, const StopRecord& record);
    // Replaces an earlier one.
    Status write_limits(const AttemptRef& attempt, Duration timeout);
    // conflict when an exit record exists: the first one stands.
    Status write_exit(const AttemptRef& attempt, const ExitRecord& record);
    Status write_log_done(const AttemptRef& attempt, std::uint64_t bytes_seen,
                          std::uint64_t bytes_kept);
    // Replaces an earlier one. On disk for good with the next record of the attempt.
    Status write_judged(const AttemptRef& attempt, const JudgedRecord& record);
    Status write_outcome(const AttemptRef& attempt, const SessionView& outcome);
    Status write_reported(const AttemptRef& attempt, std::uint32_t number);
    Status write_closed(const AttemptRef& attempt);
    bool has(const AttemptRef& attempt) const;
    // Whether another attempt of the same session is on disk.
    bool has_siblings(const AttemptRef& attempt) const;
    // Removes the folder; only of closed attempts (conflict otherwise). Missing is fine.
    Status remove(const AttemptRef& attempt);

    std::optional<ProcessRecord> read_process(const AttemptRef& attempt) const;
    std::optional<StopRecord> read_stop(const AttemptRef& attempt) const;
    std::optional<ExitRecord> read_exit(const AttemptRef& attempt) const;
    std::optional<JudgedRecord> read_judged(const AttemptRef& attempt) const;
    bool has_log_done(const AttemptRef& attempt) const;

    // "<session>-<generation>-<attempt>" back to its parts; nothing for other text.
    static std::optional<AttemptRef> parse_name(const std::string& name);

  private:
    Status make_folder(const AttemptRef& attempt);

    explicit AttemptStore(std::string attempts_folder)
        : attempts_folder_(std::move(attempts_folder)) {}
    std::string attempts_folder_;
};

}  // namespace iw::worker
