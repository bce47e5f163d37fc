#include "ctl/render.h"

#include <algorithm>

#include "common/base/text.h"
#include "common/workspace/workspace.h"

namespace iw::ctl {
namespace {

constexpr std::size_t kMinuteText = 16;  // "2025-11-18 16:00"
constexpr std::size_t kReasonShown = 60;

// Columns that a terminal takes are near enough to characters for ids, names and reasons.
std::size_t width(std::string_view text) {
    return static_cast<std::size_t>(std::ranges::count_if(
        text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string shown(const std::string& text) {
    return text.empty() ? "-" : printable(text, true);
}

// At most `max` characters, the cut marked.
std::string shorten(const std::string& text, std::size_t max) {
    if (width(text) <= max) return text;
    std::size_t end = 0;
    for (std::size_t count = 0; end < text.size(); ++end) {
        const bool starts = (static_cast<unsigned char>(text[end]) & 0xC0) != 0x80;
        if (starts && ++count > max - 3) break;
    }
    return text.substr(0, end) + "...";
}

Colour colour_of(SessionStatus status) {
    switch (status) {
        case SessionStatus::created:
            return Colour::yellow;
        case SessionStatus::running:
            return Colour::blue;
        case SessionStatus::completed:
            return Colour::green;
        case SessionStatus::failed:
            return Colour::red;
        case SessionStatus::killed:
            return Colour::red;
    }
    return Colour::none;
}

std::string minute(const std::optional<WallTime>& time) {
    return time ? format_display(*time).substr(0, kMinuteText) : "";
}

// Why it waits or how it ended; in a line, so shortened.
std::string why(const SessionView& session) {
    const std::string& reason = session.kill_reason.empty() ? session.reason : session.kill_reason;
    if (reason.empty()) return std::string(name(session.detail));
    return shorten(printable(reason, true), kReasonShown);
}

std::string place_of(const SessionView& session, WallTime now) {
    if (session.status == SessionStatus::running) {
        const bool is_silent = session.detail == Detail::unreachable;
        const bool is_late = is_overdue(session, now);
        return session.host + (is_silent ? " (unreachable)" : "") + (is_late ? " (overdue)" : "");
    }
    if (session.status == SessionStatus::completed) return session.host;
    return "(" + why(session) + ")";
}

std::string cell_text(const Cell& cell) {
    return shown(cell.text);
}

}  // namespace

std::string paint(const std::string& text, Colour colour, bool colours) {
    if (!colours || colour == Colour::none) return text;
    const char* code = "";
    switch (colour) {
        case Colour::none:
            return text;
        case Colour::green:
            code = "32";
            break;
        case Colour::yellow:
            code = "33";
            break;
        case Colour::red:
            code = "31";
            break;
        case Colour::blue:
            code = "36";
            break;
        case Colour::dim:
            code = "2";
            break;
        case Colour::bold:
            code = "1";
            break;
    }
    return "\x1b[" + std::string(code) + "m" + text + "\x1b[0m";
}

std::string table(const std::vector<std::vector<Cell>>& rows, bool colours) {
    std::vector<std::size_t> widths;
    for (const std::vector<Cell>& row : rows) {
        widths.resize(std::max(widths.size(), row.size()), 0);
        for (std::size_t i = 0; i < row.size(); ++i) {
            widths[i] = std::max(widths[i], width(cell_text(row[i])));
        }
    }
    std::string text;
    for (const std::vector<Cell>& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) {
            const std::string plain = cell_text(row[i]);
            text += paint(plain, row[i].colour, colours);
            if (i + 1 < row.size()) text.append(widths[i] - width(plain) + 2, ' ');
        }
        text += '\n';
    }
    return text;
}

std::string session_table(const std::vector<SessionView>& sessions, WallTime now,
                          SessionTable how) {
    std::vector<std::vector<Cell>> rows;
    std::vector<Cell> header = {{"SESSION ID"}, {"AGENT"}, {"STATUS"}, {"STARTED"}, {"ELAPSED"}};
    if (how.place) header.push_back({"HOST (REASON)"});
    for (Cell& cell : header)
        cell.colour = Colour::bold;
    rows.push_back(std::move(header));
    for (const SessionView& session : sessions) {
        const std::optional<Duration> elapsed = elapsed_since_started(session, now);
        rows.push_back({{session.id.str()},
                        {session.agent.str()},
                        {std::string(name(session.status)), colour_of(session.status)},
                        {minute(session.started_at)},
                        {elapsed ? format_elapsed(*elapsed) : ""}});
        if (how.place) rows.back().push_back({place_of(session, now)});
    }
    return table(rows, how.colours);
}

std::string status_words(const SessionView& session) {
    const std::string status(name(session.status));
    const std::string detail(name(session.detail));
    // These details only repeat the word.
    const bool plain = session.detail == Detail::working || session.detail == Detail::done ||
                       session.detail == Detail::killed || session.detail == Detail::exited;
    return plain ? status : status + " (" + detail + ")";
}

std::string session_details(const SessionView& session, bool tmux_active, WallTime now) {
    std::string text;
    const auto line = [&](std::string_view label, const std::string& value) {
        if (value.empty()) return;
        text += std::string(label) + " " + printable(value, true) + "\n";
    };
    const auto time = [](const std::optional<WallTime>& at) {
        return at ? format_display(*at) : std::string();
    };
    line("Session:", session.id.str());
    line("Agent:", session.agent.str());
    line("Status:", status_words(session));
    line("Created:", format_display(session.created_at));
    line("Started:", time(session.started_at));
    line("Completed:", time(session.completed_at));
    line("Elapsed:", format_elapsed(elapsed_since_created(session, now)));
    line("Exit code:", session.exit_code ? std::to_string(*session.exit_code) : "");
    line("Reason:", session.kill_reason.empty() ? session.reason : session.kill_reason);
    line("Result:", session.result_status);
    line("Host:", session.host);
    line("Attempt:", session.attempt > 1 ? std::to_string(session.attempt) : "");
    line("Parent:", session.parent.str());
    line("Retry of:", session.retry_of.str());
    line("Tags:", join(session.tags, ", "));
    line("Tmux:", tmux_session_name(session.id) + (tmux_active ? " (active)" : " (inactive)"));
    line("Workspace:", workspace::workspace_of(session));
    return text;
}

std::string session_particulars(const SessionView& session, WallTime now) {
    std::string text;
    const auto line = [&](std::string_view label, const std::string& value) {
        text += std::string(label) + " " + printable(value, true) + "\n";
    };
    if (session.attempts_max > 1) {
        line("Attempts:", std::to_string(session.attempts_used) + " of " +
                              std::to_string(session.attempts_max) + " used");
    }
    if (session.estimate) {
        line("Estimate:",
             format_duration(*session.estimate) + (is_overdue(session, now) ? " (overdue)" : ""));
    }
    if (!is_final(session.status)) {
        if (session.timeout > Duration(0)) line("Timeout:", format_duration(session.timeout));
        if (session.not_before && *session.not_before > now)
            line("Not before:", format_display(*session.not_before));
        if (session.expires_at && session.attempt == 0)
            line("Expires:", format_display(*session.expires_at));
    }
    for (const Dependency& dependency : session.after)
        line("After:", dependency.id.str() + " (" + std::string(name(dependency.on)) + ")");
    return text;
}

std::string session_line(const SessionView& session) {
    std::string text = printable(session.id.str(), true) + "  " + status_words(session);
    if (session.status == SessionStatus::running && !session.host.empty()) {
        return text + "  on " + printable(session.host, true);
    }
    const std::string& reason = session.kill_reason.empty() ? session.reason : session.kill_reason;
    if (reason.empty()) return text;
    return text + "  " + shorten(printable(reason, true), kReasonShown);
}

std::string worker_table(const std::vector<WorkerView>& workers, WallTime now, bool colours) {
    std::vector<std::vector<Cell>> rows = {
        {{"WORKER"}, {"HOST"}, {"STATE"}, {"SLOTS"}, {"HEARD"}, {"PROJECT"}, {"AGENTS"}}};
    for (Cell& cell : rows.front())
        cell.colour = Colour::bold;
    for (const WorkerView& worker : workers) {
        const bool takes = worker.state == "up" && !worker.drain;
        rows.push_back({{worker.name.str()},
                        {worker.host},
                        {worker.state + (worker.drain ? ", drained" : ""),
                         takes ? Colour::green : Colour::red},
                        {std::to_string(worker.used) + "/" + std::to_string(worker.slots)},
                        {worker.heard_at ? format_elapsed(now - *worker.heard_at) + " ago" : ""},
                        {worker.project},
                        {join(worker.agents, " ")}});
    }
    return table(rows, colours);
}

bool is_overdue(const SessionView& session, WallTime now) {
    return session.status == SessionStatus::running && session.estimate && session.started_at &&
           now - *session.started_at > *session.estimate;
}

Duration elapsed_since_created(const SessionView& session, WallTime now) {
    return std::max(session.completed_at.value_or(now) - session.created_at, Duration(0));
}

std::optional<Duration> elapsed_since_started(const SessionView& session, WallTime now) {
    if (!session.started_at) return std::nullopt;
    return std::max(session.completed_at.value_or(now) - *session.started_at, Duration(0));
}

}  // namespace iw::ctl
