#pragma once

// Bugs that only the simulator's own build of the cores can have, to prove that its oracle would
// find such a bug. IW_PLANT(name) is false everywhere else, so nothing of them is in what is
// shipped.

namespace iw {

enum class Plant {
    none,
    // P1: the virtual broker answers before its commit.
    send_before_commit,
    // P2: what the database knows of a key is not asked.
    key_forgotten,
    // P3: a report counts whatever its fence.
    stale_report_counts,
    // P3: a power cut takes the exclusive start back.
    claim_not_synced,
    // P4: leases do not get the broker's own stalls back.
    stall_counts_as_silence,
    // P4: a silent worker's sessions are lost as soon as it is unreachable.
    lost_when_unreachable,
    // P5: a restarted worker takes the launchers that it finds for gone.
    adopts_nobody,
    // P6: a page of events begins behind what the watcher has seen.
    page_skips,
    // P7: whoever ran a session says that its files are where people read them.
    runner_closes,
};

#ifdef IW_PLANTED_BUGS
// One for the whole process: a run has at most one planted bug.
inline Plant active_plant = Plant::none;
#define IW_PLANT(name) (::iw::active_plant == ::iw::Plant::name)
#else
#define IW_PLANT(name) false
#endif

}  // namespace iw
