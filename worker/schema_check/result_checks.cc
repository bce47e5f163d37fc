#include "worker/schema_check/result_checks.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "common/base/text.h"
#include "common/io/logging.h"
#include "worker/schema_check/schema_check.h"

namespace iw::worker {
namespace {

constexpr std::size_t kWordsMax = 1024;

CheckedResult over_limits() {
    return CheckedResult{.verdict = ResultVerdict::invalid,
                         .reason =
                             "result.json could not be checked against its schema within the "
                             "limits of time and memory"};
}

CheckedResult verdict_of(const io::CommandResult& ran) {
    const std::string words = printable(trim(ran.output), true);
    switch (ran.exit_code) {
        case kResultFits:
            return CheckedResult{};
        case kResultMissing:
            return CheckedResult{.verdict = ResultVerdict::missing,
                                 .reason = "the agent ended without a result.json"};
        case kResultUnfit:
            return CheckedResult{.verdict = ResultVerdict::invalid,
                                 .reason = "result.json does not fit its schema: " + words};
        case kSchemaUnfit:
            return CheckedResult{.verdict = ResultVerdict::invalid,
                                 .reason = "the schema cannot be used: " + words};
        default:
            return over_limits();
    }
}

}  // namespace

ResultChecks::ResultChecks(io::EventLoop& loop, std::string program)
    : loop_(loop), program_(std::move(program)) {}

ResultChecks::~ResultChecks() {
    for (const Running& running : running_)
        loop_.remove_fd(running.command.fd());
}

void ResultChecks::start(std::string key, std::string schema, std::string file,
                         OnChecked on_checked) {
    if (is_busy_with(key)) return;
    waiting_.push_back({.key = std::move(key),
                        .schema = std::move(schema),
                        .file = std::move(file),
                        .on_checked = std::move(on_checked)});
}

bool ResultChecks::is_busy_with(const std::string& key) const {
    return std::ranges::any_of(waiting_, [&](const Check& check) { return check.key == key; }) ||
           std::ranges::any_of(running_, [&](const Running& running) {
               return !running.given_up && running.check.key == key;
           });
}

std::size_t ResultChecks::at_once() const {
    return static_cast<std::size_t>(std::ranges::count(running_, false, &Running::given_up));
}

std::optional<Timestamp> ResultChecks::deadline(Timestamp now) const {
    std::optional<Timestamp> first;
    const auto sooner = [&](Timestamp at) { first = first ? std::min(*first, at) : at; };
    for (const Running& running : running_) {
        if (!running.given_up) sooner(running.until);
    }
    if (at_once() < kAtOnceMax && !waiting_.empty())
        sooner(std::max(now, waiting_.front().not_before));
    return first;
}

void ResultChecks::work(Timestamp now) {
    std::vector<OnChecked> late;
    for (Running& running : running_) {
        if (running.given_up || now < running.until) continue;
        running.given_up = true;
        running.command.kill();
        late.push_back(std::move(running.check.on_checked));
    }
    for (const OnChecked& on_checked : late)
        on_checked(over_limits());
    while (!waiting_.empty() && at_once() < kAtOnceMax && now >= waiting_.front().not_before) {
        Check check = std::move(waiting_.front());
        waiting_.pop_front();
        if (!begin(check, now)) return;
    }
}

// False: it could not be started, and nor could another one now.
bool ResultChecks::begin(Check& check, Timestamp now) {
    Result<io::BackgroundCommand> command =
        io::BackgroundCommand::start({program_, check.file}, {}, check.schema, kWordsMax);
    if (command) {
        running_.push_back(
            {.check = std::move(check), .command = std::move(*command), .until = now + kPatience});
        const auto running = std::prev(running_.end());
        loop_.add_fd(running->command.fd(), [this, running] { ended(running); });
        return true;
    }
    io::log(io::LogLevel::warn, "a result cannot be checked",
            {{"what", check.key}, {"error", command.error().message}});
    // An installation that is being replaced, or too many processes: work of hours does not fail
    // for that.
    check.not_before = now + kStartPause;
    if (++check.starts < kStartsMax) {
        waiting_.push_front(std::move(check));
    } else {
        check.on_checked(command.error());
    }
    return false;
}

void ResultChecks::ended(std::list<Running>::iterator running) {
    loop_.remove_fd(running->command.fd());
    Running done = std::move(*running);
    running_.erase(running);
    const io::CommandResult ran = done.command.finish();
    if (!done.given_up) done.check.on_checked(verdict_of(ran));
}

}  // namespace iw::worker
