#pragma once

// Log of the daemons through spdlog: key=value lines on a terminal or in a file, JSON lines with
// --log-format json. Levels: error = someone must act; warn = recovered; info = transitions; debug
// = messages. Never payloads or secrets. Values from outside go through `printable`.

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace iw::io {

enum class LogLevel { debug, info, warn, error };
struct LogOptions {
    std::string program;
    std::string level = "info";   // debug, info, warn, error
    std::string format = "text";  // text, json
};
// Once, from main, before any thread.
void start_logging(const LogOptions& options);
void set_log_level(std::string_view level);

using LogField = std::pair<std::string_view, std::string>;
// log(LogLevel::info, "listening", {{"endpoint", endpoint}});
void log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields = {});

}  // namespace iw::io
