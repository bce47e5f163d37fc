#pragma once

// Where a command reads and writes. Results go to `out`, all else to `err`, so that `ictl ... |
// script` sees results only. Handed in, so that tests see every byte.

#include <istream>
#include <ostream>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace iw::ctl {

struct Terminal {
    std::istream& in;
    std::ostream& out;
    std::ostream& err;
    bool in_is_terminal = false;
    bool out_is_terminal = false;
    bool err_is_terminal = false;
    bool colour = false;  // of results: a terminal, and NO_COLOR is not set

    void print(std::string_view text) const;  // a result, as it is
    void say(std::string_view line) const;    // one line for people
    // "ictl: <line>"; returns `code`, so that a command ends with `return terminal.fail(...)`.
    int fail(int code, std::string_view line) const;
    int fail(const Error& error) const;
    // Asks on the terminal; only "y" and "yes" are yes.
    bool confirm(std::string_view question) const;
};

// Standard input, output and error of this process.
Terminal system_terminal();

// What an interrupt (Ctrl+C) says before the program ends with 130; nothing to say when empty.
// Until catch_interrupts() the default of the system holds.
void catch_interrupts();
void set_interrupt_note(std::string_view line);

}  // namespace iw::ctl
