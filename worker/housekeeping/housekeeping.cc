#include "worker/housekeeping/housekeeping.h"

#include <limits>

#include "common/base/text.h"
#include "common/io/disk_usage.h"
#include "common/workspace/archive.h"
#include "common/workspace/project_log.h"
#include "common/workspace/settings.h"

namespace iw::worker {
namespace {

constexpr Duration kDay{86'400'000};
constexpr std::uint64_t kMb = 1'000'000;
constexpr std::size_t kNumbers = 4;

// One run over one project.
class Housekeeping {
  public:
    Housekeeping(const HousekeepingOrder& order, WallTime now)
        : project_(order.root), rules_(order.rules), now_(now) {}

    void run() {
        rotate();
        check(workspace::clean_archive(project_), "The archive could not be cleaned");
        compress();
        prune();
        warn_of_size();
    }

  private:
    void rotate() {
        if (rules_.log_bytes == 0) return;
        const auto rotated = workspace::rotate_project_log(project_, rules_.log_bytes, now_);
        if (!rotated) check(rotated.error(), "logs/orchestrator.log was not rotated");
        constexpr long long kDaysMax = 36'500;
        const auto days =
            workspace::project_number(project_.root, "LOG_RETENTION_DAYS", 30, 1, kDaysMax);
        workspace::remove_old_logs(project_, days * kDay, now_);
    }

    void compress() {
        if (rules_.compress_days == 0) return;
        const auto due = workspace::due_for_compression(workspace::list_archive(project_),
                                                        rules_.compress_days * kDay, now_);
        for (const workspace::ArchivedSession& session : due) {
            const auto done = workspace::compress_archived(project_, session.id);
            if (done) {
                say(workspace::LogWord::info, "Session compressed: " + session.id.str());
            } else {
                check(done.error(), "Session not compressed: " + session.id.str());
            }
        }
    }

    void prune() {
        workspace::PruneRule rule;
        if (rules_.prune_days > 0) rule.age = rules_.prune_days * kDay;
        if (rules_.archive_bytes > 0) rule.bytes_max = rules_.archive_bytes;
        const auto due = workspace::due_for_pruning(workspace::list_archive(project_), rule, now_);
        for (const workspace::ArchivedSession& session : due) {
            const Status removed = workspace::remove_archived(project_, session.id);
            if (removed)
                say(workspace::LogWord::info,
                    "Session removed from the archive: " + session.id.str());
            check(removed, "Session not removed from the archive: " + session.id.str());
        }
    }

    void warn_of_size() {
        constexpr long long kMbMax = std::numeric_limits<int>::max();
        const auto most =
            workspace::project_number(project_.root, "TOTAL_DISK_WARNING_MB", 1000, 1, kMbMax);
        const std::uint64_t used =
            (io::disk_usage(project_.sessions) + io::disk_usage(project_.archive)) / kMb;
        if (used <= static_cast<std::uint64_t>(most)) return;
        say(workspace::LogWord::warn,
            "Disk usage of sessions and archive: " + std::to_string(used) + " MB > " +
                std::to_string(most) + " MB (TOTAL_DISK_WARNING_MB); see `ictl archive`");
    }

    // Another process at the same work does what is left here.
    void check(const Status& status, const std::string& what) {
        if (status || status.error().code == ErrorCode::not_found) return;
        say(workspace::LogWord::warn, what + ": " + status.error().message);
    }

    void say(workspace::LogWord word, const std::string& text) {
        static_cast<void>(workspace::log_project(project_, now_, word, text));
    }

    workspace::ProjectPaths project_;
    HousekeepingRules rules_;
    WallTime now_;
};

}  // namespace

std::vector<std::string> to_arguments(const std::string& root, const HousekeepingRules& rules) {
    return {root, std::to_string(rules.compress_days), std::to_string(rules.prune_days),
            std::to_string(rules.archive_bytes), std::to_string(rules.log_bytes)};
}

Result<HousekeepingOrder> parse_arguments(const std::vector<std::string>& arguments) {
    const Error usage{ErrorCode::bad_request,
                      "usage: ikeep ROOT COMPRESS_DAYS PRUNE_DAYS ARCHIVE_BYTES LOG_BYTES"};
    if (arguments.size() != kNumbers + 1 || !arguments[0].starts_with('/')) return usage;
    long long numbers[kNumbers] = {};
    for (std::size_t i = 0; i < kNumbers; ++i) {
        const long long most = i < 2 ? std::numeric_limits<std::int32_t>::max()
                                     : std::numeric_limits<std::int64_t>::max();
        if (!parse_int(arguments[i + 1], 0, most, numbers[i])) return usage;
    }
    return HousekeepingOrder{.root = arguments[0],
                             .rules = {.compress_days = static_cast<std::uint32_t>(numbers[0]),
                                       .prune_days = static_cast<std::uint32_t>(numbers[1]),
                                       .archive_bytes = static_cast<std::uint64_t>(numbers[2]),
                                       .log_bytes = static_cast<std::uint64_t>(numbers[3])}};
}

void keep_house(const HousekeepingOrder& order, WallTime now) {
    Housekeeping(order, now).run();
}

}  // namespace iw::worker
