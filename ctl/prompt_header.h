#pragma once

// What the head of a prompt says about the task: lines such as `**Priority**: HIGH`. Pure. A prompt
// is written by people and agents, so nothing in it is an error: what cannot be read is warned
// about.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/time.h"

namespace iw::ctl {

// A field as it was read, and where.
template <typename T>
struct HeaderField {
    T value;
    std::string text;  // as it stands there, without the blanks around it
    int line = 0;      // from 1
};

struct PromptHeader {
    std::optional<HeaderField<int>> priority;                   // limits::kPriorityMin to Max
    std::optional<HeaderField<std::vector<std::string>>> tags;  // **Issue**; valid tags
    std::optional<HeaderField<Duration>> estimate;              // **Estimated Duration**
    std::optional<HeaderField<Duration>> timeout;               // **Max Duration**
    std::vector<std::string> warnings;                          // one line each, with its number
};

// Reads the lines before the first `## ` heading, at most the first 50; fenced code is left out, of
// a field that stands there twice the first counts. Names are read without regard to case, and the
// colon may stand inside the asterisks.
PromptHeader parse_prompt_header(std::string_view prompt);

// "5 minutes", "1 hour 30 min", "1.5h", "90s", "2 days"; more than zero and at most 10 years.
std::optional<Duration> parse_spoken_duration(std::string_view text);

}  // namespace iw::ctl
