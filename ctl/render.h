#pragma once

// Text for people. Pure: no clock, no descriptor. Everything that came from outside passes
// iw::printable.

#include <string>
#include <vector>

#include "common/base/time.h"
#include "common/messages/messages.h"

namespace iw::ctl {

enum class Colour { none, green, yellow, red, blue, dim, bold };
std::string paint(const std::string& text, Colour colour, bool colours);

// Columns as wide as their widest cell (in characters), two spaces between, nothing behind the
// last. The first row is the header. An empty cell shows as "-".
struct Cell {
    std::string text;
    Colour colour = Colour::none;
};
std::string table(const std::vector<std::vector<Cell>>& rows, bool colours);

// SESSION ID, AGENT, STATUS, STARTED, ELAPSED, and with `place` HOST (REASON): where it runs, or
// why it waits or how it ended. STARTED is 2025-11-18 16:00 UTC; ELAPSED runs from the start to the
// end or `now`. What runs past its estimate is marked at its host.
struct SessionTable {
    bool place = false;
    bool colours = false;
};
std::string session_table(const std::vector<SessionView>& sessions, WallTime now, SessionTable how);

// The lines of `status`: Session, Agent, Status, Created ... Workspace; those without a value are
// left out.
std::string session_details(const SessionView& session, bool tmux_active, WallTime now);
// The lines that say how it is run: Attempts, Estimate, Timeout, Not before, Expires, After.
std::string session_particulars(const SessionView& session, WallTime now);
// "20251118-151005-x  RUNNING (working)  on hosta".
std::string session_line(const SessionView& session);
// "RUNNING", or "CREATED (queued)" where the detail says more.
std::string status_words(const SessionView& session);

std::string worker_table(const std::vector<WorkerView>& workers, WallTime now, bool colours);

// RUNNING for longer than its estimate.
bool is_overdue(const SessionView& session, WallTime now);
// From creation to completion or `now`; from the start of the current attempt the same way.
Duration elapsed_since_created(const SessionView& session, WallTime now);
std::optional<Duration> elapsed_since_started(const SessionView& session, WallTime now);

}  // namespace iw::ctl
