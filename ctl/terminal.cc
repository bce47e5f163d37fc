#include "ctl/terminal.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <iostream>

#include "common/base/text.h"
#include "common/io/machine.h"
#include "ctl/exit_code.h"

namespace iw::ctl {
namespace {

// A handler may touch nothing but fixed memory and write(2). Ending right there needs no flag that
// some wait could miss; all that ictl does can be repeated. Written only while interrupts are
// blocked.
std::array<char, 512> interrupt_note{};
volatile std::size_t interrupt_note_size = 0;

void on_interrupt(int /*signal*/) {
    const std::size_t size = interrupt_note_size;
    // There is nowhere to report a failed write to.
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, interrupt_note.data(), size);
    ::_exit(kExitInterrupted);
}

}  // namespace

void Terminal::print(std::string_view text) const {
    out << text << std::flush;
}

void Terminal::say(std::string_view line) const {
    err << line << '\n' << std::flush;
}

int Terminal::fail(int code, std::string_view line) const {
    // Names in messages may come from a peer or an agent.
    say("ictl: " + printable(line, true));
    return code;
}

int Terminal::fail(const Error& error) const {
    return fail(exit_code(error.code), error.message);
}

bool Terminal::confirm(std::string_view question) const {
    err << question << " [y/N] " << std::flush;
    std::string answer;
    if (!std::getline(in, answer)) return false;
    const std::string word = to_lower(trim(answer));
    return word == "y" || word == "yes";
}

Terminal system_terminal() {
    const bool out_is_terminal = ::isatty(STDOUT_FILENO) == 1;
    return Terminal{.in = std::cin,
                    .out = std::cout,
                    .err = std::cerr,
                    .in_is_terminal = ::isatty(STDIN_FILENO) == 1,
                    .out_is_terminal = out_is_terminal,
                    .err_is_terminal = ::isatty(STDERR_FILENO) == 1,
                    .colour = out_is_terminal && io::environment("NO_COLOR").empty()};
}

void catch_interrupts() {
    struct sigaction before {};
    ::sigaction(SIGINT, nullptr, &before);
    // A shell starts background jobs with interrupts ignored; that stays.
    if (before.sa_handler == SIG_IGN) return;
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    ::sigaction(SIGINT, &action, nullptr);
}

void set_interrupt_note(std::string_view line) {
    sigset_t interrupt;
    sigset_t before;
    ::sigemptyset(&interrupt);
    ::sigaddset(&interrupt, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &interrupt, &before);
    std::string text = line.empty() ? std::string() : "\n" + printable(line, true) + "\n";
    text.resize(std::min(text.size(), interrupt_note.size()));
    std::ranges::copy(text, interrupt_note.begin());
    interrupt_note_size = text.size();
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace iw::ctl
