#include "worker/attempt_facts.h"

#include <sys/stat.h>
#include <unistd.h>

#include "common/io/system_clock.h"

namespace iw::worker {
namespace {

StartHolder holder_of(const std::optional<Claim>& claim) {
    if (!claim) return StartHolder::nobody;
    switch (*claim) {
        case Claim::launcher:
            return StartHolder::launcher;
        case Claim::declined:
            return StartHolder::declined;
        case Claim::stopped:
            return StartHolder::stopped;
    }
    return StartHolder::nobody;
}

WallTime time_of(const std::string& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return io::wall_now();
    return wall_from_ms(static_cast<std::int64_t>(info.st_mtim.tv_sec) * 1000);
}

std::optional<Timestamp> start_of(const ProcessRecord& process, const std::string& boot_id) {
    const long ticks_per_second = ::sysconf(_SC_CLK_TCK);
    if (process.boot_id != boot_id || process.agent.start_ticks == 0 || ticks_per_second <= 0)
        return std::nullopt;
    const std::uint64_t ms =
        process.agent.start_ticks * 1000 / static_cast<std::uint64_t>(ticks_per_second);
    return Timestamp(Duration(static_cast<Duration::rep>(ms)));
}

EndFact end_of(const ExitRecord& record) {
    EndFact end{.cause = record.cause,
                .exit_code = record.exit_code,
                .stop_sent = record.stop_sent,
                .reason = record.reason,
                .evidence = record.evidence,
                .started_at = record.started_at,
                .ended_at = record.ended_at};
    if (record.hangup && end.reason.empty()) end.reason = "the terminal went away under the agent";
    return end;
}

}  // namespace

AttemptSnapshot snapshot_of(const AttemptFacts& facts, const std::string& folder,
                            const std::string& boot_id) {
    AttemptSnapshot snapshot;
    snapshot.attempt = facts.attempt;
    snapshot.assignment = facts.assignment;
    snapshot.holder = holder_of(facts.claim);
    snapshot.holder_reason = facts.claim_reason;
    if (facts.process) {
        snapshot.started_at = facts.process->started_at;
        snapshot.started = start_of(*facts.process, boot_id);
    }
    snapshot.timeout = facts.timeout;
    if (facts.stop)
        snapshot.stop = StopFact{.cause = facts.stop->cause, .reason = facts.stop->reason};
    if (facts.exit) snapshot.end = end_of(*facts.exit);
    snapshot.log_done = facts.log_done;
    snapshot.outcome = facts.outcome;
    snapshot.reported = facts.reported;
    if (facts.closed) snapshot.closed_at = time_of(folder + "/closed");
    return snapshot;
}

ExitRecord exit_record_of(const EndFact& end) {
    ExitRecord record;
    record.cause = end.cause;
    record.exit_code = end.exit_code;
    record.stop_sent = end.stop_sent;
    record.reason = end.reason;
    record.evidence = end.evidence;
    record.started_at = end.started_at;
    record.ended_at = end.ended_at;
    return record;
}

StopRecord stop_record_of(const StopFact& stop, WallTime at) {
    return StopRecord{.cause = stop.cause, .reason = stop.reason, .at = at};
}

}  // namespace iw::worker
