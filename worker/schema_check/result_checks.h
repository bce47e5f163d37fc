#pragma once

// Asks `ischema` about results, from inside the worker, which goes on with its work meanwhile.

#include <cstddef>
#include <deque>
#include <functional>
#include <list>
#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/base/time.h"
#include "common/io/event_loop.h"
#include "common/io/processes.h"

namespace iw::worker {

enum class ResultVerdict { fits, missing, invalid };

struct CheckedResult {
    ResultVerdict verdict = ResultVerdict::fits;
    std::string reason;  // for people; empty: it fits
};

class ResultChecks {
  public:
    // io: the program could not be run, though it was tried for a minute.
    using OnChecked = std::function<void(const Result<CheckedResult>& checked)>;

    // `program`: path of ischema. `loop` outlives this.
    ResultChecks(io::EventLoop& loop, std::string program);
    // Ends what is under way; nobody is told.
    ~ResultChecks();
    ResultChecks(const ResultChecks&) = delete;
    ResultChecks& operator=(const ResultChecks&) = delete;

    // `file`: the result.json. What takes more time or memory than there is for one is invalid.
    // `key` names the check; another one of that name is ignored while it lasts.
    void start(std::string key, std::string schema, std::string file, OnChecked on_checked);
    bool is_busy_with(const std::string& key) const;
    // Starts what waits and gives up what takes too long.
    void work(Timestamp now);
    // When work() has something to do; nothing: not before an end.
    std::optional<Timestamp> deadline(Timestamp now) const;

    static constexpr std::size_t kAtOnceMax = 2;
    // Much more than the processor time that ischema allows itself: the machine may be busy.
    static constexpr Duration kPatience{120'000};
    static constexpr Duration kStartPause{10'000};
    static constexpr int kStartsMax = 6;

  private:
    struct Check {
        std::string key;
        std::string schema;
        std::string file;
        OnChecked on_checked;
        int starts = 0;
        Timestamp not_before;
    };
    struct Running {
        Check check;
        io::BackgroundCommand command;
        Timestamp until;
        bool given_up = false;  // it was told, and has still to end
    };

    bool begin(Check& check, Timestamp now);
    void ended(std::list<Running>::iterator running);
    std::size_t at_once() const;

    io::EventLoop& loop_;
    std::string program_;
    std::deque<Check> waiting_;
    std::list<Running> running_;
};

}  // namespace iw::worker
