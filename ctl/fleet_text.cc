#include "ctl/fleet_text.h"

#include "common/base/text.h"

namespace iw::ctl {
namespace {

// Without a label it goes on with the line before.
std::string line(const std::string& label, const std::string& value) {
    constexpr std::size_t kLabelWidth = 12;
    std::string text = label.empty() ? "" : label + ":";
    text.resize(std::max(kLabelWidth, text.size() + 1), ' ');
    return text + printable(value, true) + "\n";
}

std::string worker_counts(const std::vector<WorkerView>& workers) {
    std::size_t up = 0;
    std::size_t slots = 0;
    std::size_t used = 0;
    for (const WorkerView& worker : workers) {
        used += worker.used;
        if (worker.state != "up") continue;
        ++up;
        slots += worker.slots;
    }
    return std::to_string(up) + " of " + std::to_string(workers.size()) + " up, " +
           std::to_string(used) + " of " + std::to_string(slots) + " slots in use";
}

std::string backup_words(const FleetReply& fleet, WallTime now) {
    if (!fleet.backup_at) return "none yet; `ictl backup` makes one";
    return format_elapsed(now - *fleet.backup_at) + " ago, in " + fleet.backup_folder;
}

std::string restored_text(const FleetReply& fleet) {
    std::string text = line("Restored", fleet.restored_why);
    std::vector<std::string> unheard;
    for (const WorkerName& worker : fleet.unheard)
        unheard.push_back(worker.str());
    if (!unheard.empty()) text += line("Unheard", join(unheard, " "));
    return text + line("", "nothing is assigned until `ictl resume --after-restore`");
}

std::string unknown_text(const std::vector<WorkerView>& workers) {
    constexpr std::size_t kShown = 20;
    std::string text;
    std::size_t count = 0;
    for (const WorkerView& worker : workers) {
        for (const AttemptRef& attempt : worker.unknown) {
            if (++count > kShown) continue;
            text += line("Unknown", attempt_words(attempt) + ", at " + worker.name.str());
        }
    }
    if (count <= kShown) return text;
    const std::string more = std::to_string(count - kShown);
    return text + line("", "and " + more + " more: `ictl workers` lists them");
}

}  // namespace

std::string hold_target(HoldScope scope, const std::string& name) {
    if (scope == HoldScope::fleet) return "the fleet";
    return std::string(iw::name(scope)) + " " + name;
}

std::string hold_line(const HoldView& hold) {
    std::string text = hold_target(hold.scope, hold.name);
    text += hold.scope == HoldScope::worker ? " is drained" : " is paused";
    text += " by " + hold.principal + " since " + format_utc(hold.since);
    if (hold.until) text += " until " + format_utc(*hold.until);
    if (!hold.reason.empty()) text += ": " + hold.reason;
    return text;
}

std::string attempt_words(const AttemptRef& attempt) {
    return attempt.session.str() + " attempt " + std::to_string(attempt.fence.attempt) +
           " (generation " + std::to_string(attempt.fence.generation) + ")";
}

std::string fleet_text(const FleetReply& fleet, const std::vector<WorkerView>& workers,
                       WallTime now) {
    std::string text = line("Broker", fleet.software + ", epoch " + fleet.epoch + ", generation " +
                                          std::to_string(fleet.generation) + ", record " +
                                          std::to_string(fleet.seq));
    if (!fleet.read_only.empty()) text += line("Read-only", fleet.read_only);
    if (fleet.restored) text += restored_text(fleet);
    text += line("Sessions", std::to_string(fleet.queued) + " queued, " +
                                 std::to_string(fleet.assigned) + " assigned, " +
                                 std::to_string(fleet.running) + " running, " +
                                 std::to_string(fleet.closing) + " writing their last files");
    text += line("Workers", worker_counts(workers));
    text += unknown_text(workers);
    for (const HoldView& hold : fleet.holds)
        text += line(hold.scope == HoldScope::worker ? "Drain" : "Pause", hold_line(hold));
    text += line("Backup", backup_words(fleet, now));
    if (!fleet.backup_error.empty()) text += line("", "the last try failed: " + fleet.backup_error);
    if (fleet.blobs_max > 0)
        text += line("Files", size_text(fleet.blobs_bytes) +
                                  " of sessions that ran elsewhere, of at most " +
                                  size_text(fleet.blobs_max));
    const std::string low = fleet.storage_low ? "; submissions are refused" : "";
    return text + line("Disk", size_text(fleet.disk_free) + " free" + low);
}

std::string event_line(const Event& event) {
    std::string text = std::to_string(event.seq) + "  " + format_utc(event.time) + "  ";
    if (event.id.empty()) {
        text += event.topic;
    } else {
        text += event.id.str() + "  " + event.status;
        if (!event.detail.empty()) text += " (" + event.detail + ")";
        if (event.attempt > 1) text += "  attempt " + std::to_string(event.attempt);
        if (!event.host.empty()) text += "  on " + event.host;
    }
    if (!event.reason.empty()) text += "  " + event.reason;
    return printable(text, true);
}

std::string size_text(std::uint64_t bytes) {
    constexpr std::uint64_t kGiB = 1ULL << 30;
    constexpr std::uint64_t kMiB = 1ULL << 20;
    if (bytes >= 10 * kGiB) return std::to_string(bytes / kGiB) + " GiB";
    if (bytes >= kMiB) return std::to_string(bytes / kMiB) + " MiB";
    return std::to_string(bytes / 1024) + " KiB";
}

}  // namespace iw::ctl
