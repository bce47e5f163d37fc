#include "worker/attempt_store/attempt_store.h"

#include <stdio.h>

#include <cerrno>
#include <type_traits>
#include <utility>

#include "common/base/text.h"
#include "worker/attempt_store/record_json.h"

namespace iw::worker {
namespace {

constexpr std::size_t kRecordBytesMax = 4u << 20;  // a plan with a large environment is the largest
constexpr mode_t kFileMode = 0600;                 // records hold prompts and variables
constexpr mode_t kFolderMode = 0700;

constexpr const char* kAssignment = "assignment.json";
constexpr const char* kPrompt = "prompt.md";
constexpr const char* kPlan = "launch.json";
constexpr const char* kStart = "start";
constexpr const char* kProcess = "process.json";
constexpr const char* kStop = "stop.json";
constexpr const char* kLimits = "limits.json";
constexpr const char* kJudged = "judged.json";
constexpr const char* kExit = "exit.json";
constexpr const char* kLogDone = "log.json";
constexpr const char* kOutcome = "outcome.json";
constexpr const char* kReported = "reported";
constexpr const char* kClosed = "closed";

// A file's record: nothing when it is missing, an error that names it when it cannot be understood.
template <typename Parse>
auto read_record(const std::string& path, Parse&& parse)
    -> Result<std::optional<std::decay_t<decltype(*parse(std::string_view()))>>> {
    using Record = std::decay_t<decltype(*parse(std::string_view()))>;
    const Result<std::string> text = io::read_file(path, kRecordBytesMax);
    if (!text) {
        if (text.error().code == ErrorCode::not_found) return std::optional<Record>();
        return text.error();
    }
    Result<Record> record = parse(*text);
    if (!record)
        return make_error(ErrorCode::io, "cannot read " + path + ": " + record.error().message);
    return std::optional<Record>(std::move(*record));
}

Result<std::uint32_t> parse_number(std::string_view text) {
    long long number = 0;
    if (!parse_int(trim(text), 0, 1'000'000, number)) {
        return make_error(ErrorCode::io, "it does not hold a whole number");
    }
    return static_cast<std::uint32_t>(number);
}

// Fills `field` with a file's record; the first error stays in facts.error.
template <typename Field, typename Parse>
void fill(AttemptFacts& facts, Field& field, const std::string& path, Parse&& parse) {
    auto record = read_record(path, parse);
    if (!record) {
        if (facts.error.empty()) facts.error = record.error().message;
        return;
    }
    if (*record) field = std::move(**record);
}

template <typename Record>
std::optional<Record> only_value(Result<std::optional<Record>> record) {
    return record ? std::move(*record) : std::nullopt;
}

AttemptFacts read_facts(const AttemptRef& attempt, const std::string& folder) {
    const std::string front = folder + "/";
    AttemptFacts facts;
    facts.attempt = attempt;
    std::optional<ClaimRecord> claim;
    fill(facts, facts.assignment, front + kAssignment, parse_assignment);
    fill(facts, claim, front + kStart, parse_claim);
    fill(facts, facts.process, front + kProcess, parse_process);
    fill(facts, facts.stop, front + kStop, parse_stop);
    fill(facts, facts.exit, front + kExit, parse_exit);
    fill(facts, facts.outcome, front + kOutcome, parse_outcome);
    // Without it a report is repeated, which costs nothing: no reason to distrust the rest.
    facts.reported = only_value(read_record(front + kReported, parse_number)).value_or(0);
    // Without it the assignment's timeout counts, and the broker sends the change again.
    facts.timeout = only_value(read_record(front + kLimits, parse_limits));
    facts.log_done = io::exists(front + kLogDone);
    facts.closed = io::exists(front + kClosed);
    if (claim) {
        facts.claim = claim->claim;
        facts.claim_reason = claim->reason;
    }
    return facts;
}

// A crash while the folder was made leaves one in which nothing was recorded and nothing
// acknowledged.
bool is_blank(const AttemptFacts& facts) {
    return facts.error.empty() && !facts.assignment && !facts.claim && !facts.stop && !facts.exit &&
           !facts.outcome && !facts.closed;
}

Status write_record(const std::string& path, std::string_view text) {
    return io::write_file(path, text, kFileMode, io::Sync::file_and_folder);
}

}  // namespace

Result<AttemptStore> AttemptStore::open(const std::string& state_folder) {
    const std::string attempts = state_folder + "/attempts";
    if (Status made = io::make_folders(attempts, kFolderMode); !made) return made.error();
    return AttemptStore(attempts);
}

std::string AttemptStore::folder(const AttemptRef& attempt) const {
    return attempts_folder_ + "/" + attempt_name(attempt);
}

Result<std::vector<AttemptFacts>> AttemptStore::load_all() const {
    // A worker that died between making a folder and syncing its name has left one that a power cut
    // would still take away, with all that is synced in it from now on.
    if (Status kept = io::make_durable_folders(attempts_folder_, kFolderMode); !kept)
        return kept.error();
    if (Status synced = io::sync_folder(attempts_folder_); !synced) return synced.error();
    std::vector<AttemptFacts> all;
    for (const std::string& entry : io::list_folder(attempts_folder_)) {
        const std::optional<AttemptRef> attempt = parse_name(entry);
        if (!attempt) continue;
        AttemptFacts facts = read_facts(*attempt, folder(*attempt));
        if (!is_blank(facts)) all.push_back(std::move(facts));
    }
    return all;
}

Result<AttemptFacts> AttemptStore::examine(const AttemptRef& attempt) const {
    if (!io::exists(folder(attempt))) {
        return make_error(ErrorCode::not_found,
                          "no attempt " + attempt_name(attempt) + " in " + attempts_folder_);
    }
    return read_facts(attempt, folder(attempt));
}

Result<AttemptFacts> AttemptStore::load(const AttemptRef& attempt) const {
    Result<AttemptFacts> facts = examine(attempt);
    if (facts && !facts->error.empty()) return make_error(ErrorCode::io, facts->error);
    return facts;
}

bool AttemptStore::is_start_garbled(const AttemptRef& attempt) const {
    const Result<std::string> text = io::read_file(folder(attempt) + "/" + kStart, kRecordBytesMax);
    if (text) return !parse_claim(*text);
    return text.error().code == ErrorCode::too_large;
}

Status AttemptStore::make_folder(const AttemptRef& attempt) {
    if (io::exists(folder(attempt))) return Done{};
    if (Status made = io::make_folders(folder(attempt), kFolderMode); !made) return made;
    return io::sync_folder(attempts_folder_);
}

Status AttemptStore::accept(const Assignment& assignment) {
    const AttemptRef attempt{.session = assignment.session, .fence = assignment.fence};
    if (Status made = make_folder(attempt); !made) return made;
    const std::string front = folder(attempt) + "/";
    if (io::exists(front + kAssignment)) {
        return make_error(ErrorCode::conflict,
                          "attempt " + attempt_name(attempt) + " is known already");
    }
    // assignment.json comes last: while it is missing, nothing was accepted.
    if (Status wrote =
            io::write_file(front + kPrompt, assignment.prompt, kFileMode, io::Sync::file);
        !wrote) {
        return wrote;
    }
    return io::write_file_new(front + kAssignment, to_json(assignment), kFileMode,
                              io::Sync::file_and_folder);
}

Status AttemptStore::write_plan(const LaunchPlan& plan) {
    return write_record(folder(plan.attempt) + "/" + kPlan, to_json(plan));
}

Result<LaunchPlan> AttemptStore::read_plan(const AttemptRef& attempt) const {
    const std::string path = folder(attempt) + "/" + kPlan;
    auto plan = read_record(path, parse_plan);
    if (!plan) return plan.error();
    if (!*plan) return make_error(ErrorCode::not_found, "there is no " + path);
    if ((*plan)->attempt != attempt) {
        return make_error(ErrorCode::io,
                          path + " belongs to attempt " + attempt_name((*plan)->attempt));
    }
    return std::move(**plan);
}

// link(2) of a whole file instead of O_EXCL and a write: a claim that exists also says whose it is.
Status AttemptStore::claim(const AttemptRef& attempt, Claim claim, const std::string& reason) {
    if (Status made = make_folder(attempt); !made) return made;
    return io::write_file_new(folder(attempt) + "/" + kStart,
                              to_json(ClaimRecord{.claim = claim, .reason = reason}), kFileMode,
                              io::Sync::file_and_folder);
}

Status AttemptStore::write_process(const AttemptRef& attempt, const ProcessRecord& record) {
    return write_record(folder(attempt) + "/" + kProcess, to_json(record));
}

Status AttemptStore::write_stop(const AttemptRef& attempt, const StopRecord& record) {
    if (Status made = make_folder(attempt); !made) return made;
    Status wrote = io::write_file_new(folder(attempt) + "/" + kStop, to_json(record), kFileMode,
                                      io::Sync::file_and_folder);
    if (!wrote && wrote.error().code == ErrorCode::conflict) return Done{};
    return wrote;
}

Status AttemptStore::write_limits(const AttemptRef& attempt, Duration timeout) {
    return write_record(folder(attempt) + "/" + kLimits, limits_json(timeout));
}

Status AttemptStore::write_exit(const AttemptRef& attempt, const ExitRecord& record) {
    return io::write_file_new(folder(attempt) + "/" + kExit, to_json(record), kFileMode,
                              io::Sync::file_and_folder);
}

Status AttemptStore::write_log_done(const AttemptRef& attempt, std::uint64_t bytes_seen,
                                    std::uint64_t bytes_kept) {
    return write_record(folder(attempt) + "/" + kLogDone, log_done_json(bytes_seen, bytes_kept));
}

// Of use only once the broker has had it, and then outcome.json is synced with the folder: that
// keeps the name, so one sync is enough here.
Status AttemptStore::write_judged(const AttemptRef& attempt, const JudgedRecord& record) {
    return io::write_file(folder(attempt) + "/" + kJudged, to_json(record), kFileMode,
                          io::Sync::file);
}

Status AttemptStore::write_outcome(const AttemptRef& attempt, const SessionView& outcome) {
    if (Status made = make_folder(attempt); !made) return made;
    return write_record(folder(attempt) + "/" + kOutcome, to_json(outcome));
}

// A power cut may take the newest number back: a report is then repeated, which costs nothing. So
// the folder is not synced.
Status AttemptStore::write_reported(const AttemptRef& attempt, std::uint32_t number) {
    return io::write_file(folder(attempt) + "/" + kReported, std::to_string(number) + "\n",
                          kFileMode, io::Sync::file);
}

Status AttemptStore::write_closed(const AttemptRef& attempt) {
    return write_record(folder(attempt) + "/" + kClosed, "");
}

bool AttemptStore::has(const AttemptRef& attempt) const {
    return io::exists(folder(attempt));
}

bool AttemptStore::has_siblings(const AttemptRef& attempt) const {
    for (const std::string& entry : io::list_folder(attempts_folder_)) {
        if (!entry.starts_with(attempt.session.str())) continue;
        const std::optional<AttemptRef> other = parse_name(entry);
        if (other && other->session == attempt.session && *other != attempt) return true;
    }
    return false;
}

// Under another name first, so that a crash half-way cannot leave a folder that looks like an open
// attempt.
Status AttemptStore::remove(const AttemptRef& attempt) {
    const std::string path = folder(attempt);
    const std::string aside = attempts_folder_ + "/.removed-" + attempt_name(attempt);
    if (io::exists(path)) {
        if (!io::exists(path + "/" + kClosed)) {
            return make_error(ErrorCode::conflict,
                              "attempt " + attempt_name(attempt) + " is not closed");
        }
        if (Status cleared = io::remove_tree(aside); !cleared) return cleared;
        if (::rename(path.c_str(), aside.c_str()) != 0)
            return io::system_error("cannot rename", path);
    }
    return io::remove_tree(aside);
}

std::optional<ProcessRecord> AttemptStore::read_process(const AttemptRef& attempt) const {
    return only_value(read_record(folder(attempt) + "/" + kProcess, parse_process));
}

std::optional<StopRecord> AttemptStore::read_stop(const AttemptRef& attempt) const {
    return only_value(read_record(folder(attempt) + "/" + kStop, parse_stop));
}

std::optional<ExitRecord> AttemptStore::read_exit(const AttemptRef& attempt) const {
    return only_value(read_record(folder(attempt) + "/" + kExit, parse_exit));
}

std::optional<JudgedRecord> AttemptStore::read_judged(const AttemptRef& attempt) const {
    return only_value(read_record(folder(attempt) + "/" + kJudged, parse_judged));
}

bool AttemptStore::has_log_done(const AttemptRef& attempt) const {
    return io::exists(folder(attempt) + "/" + kLogDone);
}

std::optional<AttemptRef> AttemptStore::parse_name(const std::string& name) {
    const auto attempt_dash = name.rfind('-');
    if (attempt_dash == std::string::npos || attempt_dash == 0) return std::nullopt;
    const auto generation_dash = name.rfind('-', attempt_dash - 1);
    if (generation_dash == std::string::npos) return std::nullopt;
    const std::string_view text = name;
    const auto generation_text =
        text.substr(generation_dash + 1, attempt_dash - generation_dash - 1);
    long long generation = 0;
    long long attempt = 0;
    if (!parse_int(generation_text, 0, UINT32_MAX, generation)) return std::nullopt;
    if (!parse_int(text.substr(attempt_dash + 1), 0, UINT32_MAX, attempt)) return std::nullopt;
    AttemptRef ref{.session = SessionId(name.substr(0, generation_dash)),
                   .fence = Fence{.generation = static_cast<std::uint32_t>(generation),
                                  .attempt = static_cast<std::uint32_t>(attempt)}};
    // The name must be exactly what attempt_name makes: no leading zeros, no path in it.
    if (!is_session_id(ref.session.str()) || attempt_name(ref) != name) return std::nullopt;
    return ref;
}

}  // namespace iw::worker
