// Fills a data directory with queued sessions, as a broker leaves it that is killed: journal and
// database, with the last records not yet in the database.
// usage: start_store FOLDER SESSIONS

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "broker/database/database.h"
#include "broker/journal/journal.h"

namespace {

using namespace iw;
using namespace iw::broker;

constexpr Seq kBatch = 2'000;
// The database may be this much behind when the broker dies.
constexpr Seq kBehind = 1'000;
constexpr std::size_t kPromptBytes = 200;
constexpr std::int64_t kStartMs = 1'763'479'842'000;
constexpr std::size_t kKeepBytes = std::size_t{64} << 20;

std::string digits(Seq number, std::size_t count) {
    std::string text = std::to_string(number);
    text.insert(0, count - std::min(count, text.size()), '0');
    return text;
}

// What `ictl submit` makes of a plain prompt: with origin and key, without anything rare.
Record submission(Seq seq) {
    SessionCreated created;
    const WallTime second = wall_from_ms(kStartMs + static_cast<std::int64_t>(seq / 1'000 * 1'000));
    created.id = SessionId(format_id_second(second) + "-tester-" + std::to_string(seq % 1'000 + 2));
    created.principal = "uid:1000";
    Submission& s = created.submission;
    s.key = "019a0000-0000-7000-8000-" + digits(seq, 12);
    s.agent = AgentName("tester");
    s.prompt = std::string(kPromptBytes, 'p');
    s.project = "project-" + std::to_string(seq % 20);
    s.origin = {.host = "host-" + std::to_string(seq % 20), .root = "/srv/project"};
    return {.seq = seq,
            .time = wall_from_ms(kStartMs + static_cast<std::int64_t>(seq)),
            .body = std::move(created)};
}

int fail(const Error& error) {
    std::fprintf(stderr, "start_store: %s\n", error.message.c_str());
    return 1;
}

int fill(const std::string& folder, Seq sessions) {
    auto journal = open_journal({.folder = folder + "/journal", .keep_bytes = kKeepBytes});
    if (!journal.ok()) return fail(journal.error());
    auto database = Database::open({.file = folder + "/broker.db"});
    if (!database.ok()) return fail(database.error());
    for (Seq first = 1; first <= sessions; first += kBatch) {
        std::vector<Record> records;
        for (Seq seq = first; seq < first + kBatch && seq <= sessions; ++seq)
            records.push_back(submission(seq));
        const Status committed = (*journal)->commit(records);
        if (!committed.ok()) return fail(committed.error());
        std::erase_if(records, [&](const Record& each) { return each.seq + kBehind > sessions; });
        const Status applied = (*database)->apply(records);
        if (!applied.ok()) return fail(applied.error());
        if (first % (50 * kBatch) != 1) continue;
        const Result<Seq> synced = (*database)->sync();
        if (!synced.ok()) return fail(synced.error());
        (*journal)->release(*synced);
    }
    const Result<Seq> synced = (*database)->sync();
    return synced.ok() ? 0 : fail(synced.error());
}

}  // namespace

int main(int argc, char** argv) {
    const long long sessions = argc == 3 ? std::atoll(argv[2]) : 0;
    if (sessions < 1) {
        std::fputs("usage: start_store FOLDER SESSIONS\n", stderr);
        return 64;
    }
    return fill(argv[1], static_cast<Seq>(sessions));
}
