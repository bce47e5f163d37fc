#include "common/io/logging.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cstdio>
#include <memory>

#include "common/base/text.h"

namespace iw::io {
namespace {

enum class Format { text, json };

// The process's log. spdlog serialises the lines of several threads; the rest is set once, before
// any.
struct Log {
    Log() {
        logger = std::make_unique<spdlog::logger>(
            "log", std::make_shared<spdlog::sinks::stderr_sink_mt>());
        set_format(Format::text);
    }

    // spdlog writes only the time; the rest of a line is ours.
    void set_format(Format wanted) {
        format = wanted;
        const char* pattern = wanted == Format::json ? "{\"time\":\"%Y-%m-%dT%H:%M:%S.%eZ\",%v}"
                                                     : "%Y-%m-%dT%H:%M:%S.%eZ %v";
        logger->set_pattern(pattern, spdlog::pattern_time_type::utc);
    }

    std::unique_ptr<spdlog::logger> logger;
    Format format = Format::text;
    std::string program;
};

Log& process_log() {
    static Log log;
    return log;
}

spdlog::level::level_enum level_of(LogLevel level) {
    switch (level) {
        case LogLevel::debug:
            return spdlog::level::debug;
        case LogLevel::info:
            return spdlog::level::info;
        case LogLevel::warn:
            return spdlog::level::warn;
        case LogLevel::error:
            return spdlog::level::err;
    }
    return spdlog::level::info;
}

std::string_view name(LogLevel level) {
    switch (level) {
        case LogLevel::debug:
            return "debug";
        case LogLevel::info:
            return "info";
        case LogLevel::warn:
            return "warn";
        case LogLevel::error:
            return "error";
    }
    return "info";
}

// After printable() only these two can end or break a quoted text; both formats escape them alike.
std::string quoted(std::string_view text) {
    std::string result = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') result += '\\';
        result += c;
    }
    return result + "\"";
}

std::string text_value(std::string_view value) {
    const bool plain = !value.empty() && value.find_first_of(" \"=\\") == std::string_view::npos;
    return plain ? std::string(value) : quoted(value);
}

std::string text_line(LogLevel level, std::string_view message,
                      std::initializer_list<LogField> fields) {
    std::string line(name(level));
    line += ' ';
    line += printable(message, true);
    for (const auto& [key, value] : fields) {
        line += ' ';
        line += key;
        line += '=';
        line += text_value(printable(value, true));
    }
    return line;
}

std::string json_line(LogLevel level, std::string_view message,
                      std::initializer_list<LogField> fields) {
    std::string line = "\"level\":" + quoted(name(level));
    line += ",\"program\":" + quoted(process_log().program);
    line += ",\"message\":" + quoted(printable(message, true));
    for (const auto& [key, value] : fields) {
        line += "," + quoted(key) + ":" + quoted(printable(value, true));
    }
    return line;
}

}  // namespace

void start_logging(const LogOptions& options) {
    Log& target = process_log();
    target.program = printable(options.program, true);
    target.set_format(options.format == "json" ? Format::json : Format::text);
    set_log_level(options.level);
}

void set_log_level(std::string_view level) {
    constexpr std::array kLevels = {LogLevel::debug, LogLevel::info, LogLevel::warn,
                                    LogLevel::error};
    for (const LogLevel candidate : kLevels) {
        if (name(candidate) == level) process_log().logger->set_level(level_of(candidate));
    }
}

void log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
    Log& target = process_log();
    const spdlog::level::level_enum wanted = level_of(level);
    if (!target.logger->should_log(wanted)) return;
    const std::string line = target.format == Format::json ? json_line(level, message, fields)
                                                           : text_line(level, message, fields);
    target.logger->log(wanted, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace iw::io
