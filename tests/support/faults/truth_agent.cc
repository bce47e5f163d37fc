// The agent of the chaos tests. It notes its own start and end in a file that no fault touches, so
// that a checker need not believe the fleet.
//
//   truth_agent TRUTH_FILE <PROMPT
//
// The prompt's words: key=TEXT, run=SECONDS, exit=CODE, good=N (ends well from attempt N on),
// result=1 (writes result.json), deaf=1 (ignores SIGTERM and SIGHUP), gate=PATH (ends once that
// file is there), child=SECONDS (hands on that much work under the key child.KEY and waits for it).
// Each note is one line, appended by one write and synced:
//   start SESSION ATTEMPT PID KEY BOOTTIME_MS
//   end SESSION ATTEMPT PID KEY BOOTTIME_MS EXIT_CODE

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <sstream>
#include <string>

namespace {

constexpr int kCannotNote = 90;
constexpr int kNoChild = 91;
constexpr int kLookMs = 20;
constexpr double kGateMax = 300;

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr || *value == '\0' ? "-" : value;
}

long long boottime_ms() {
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1'000'000;
}

void note(const char* file, const std::string& line) {
    const int fd = ::open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const ssize_t put = fd < 0 ? -1 : ::write(fd, line.data(), line.size());
    if (put != static_cast<ssize_t>(line.size()) || ::fdatasync(fd) != 0) std::exit(kCannotNote);
    ::close(fd);
}

std::map<std::string, std::string> read_prompt() {
    std::string text;
    std::array<char, 4096> buffer{};
    ssize_t size = 0;
    while ((size = ::read(STDIN_FILENO, buffer.data(), buffer.size())) > 0)
        text.append(buffer.data(), static_cast<std::size_t>(size));
    std::map<std::string, std::string> words;
    std::istringstream stream(text);
    for (std::string word; stream >> word;) {
        const auto equals = word.find('=');
        if (equals != std::string::npos) words[word.substr(0, equals)] = word.substr(equals + 1);
    }
    return words;
}

double number(const std::map<std::string, std::string>& words, const char* name) {
    const auto found = words.find(name);
    return found == words.end() ? 0 : std::strtod(found->second.c_str(), nullptr);
}

void work(const std::map<std::string, std::string>& words) {
    const auto gate = words.find("gate");
    const double seconds = gate == words.end() ? number(words, "run") : kGateMax;
    const long long until = boottime_ms() + static_cast<long long>(seconds * 1000);
    while (boottime_ms() < until) {
        if (gate != words.end() && ::access(gate->second.c_str(), F_OK) == 0) return;
        ::poll(nullptr, 0, kLookMs);
    }
}

bool write_result(const std::string& key) {
    const std::string text = "{\"status\": \"success\", \"key\": \"" + key + "\"}\n";
    std::FILE* file = std::fopen(variable("IW_RESULT_FILE").c_str(), "w");
    if (file == nullptr) return false;
    const bool wrote = std::fputs(text.c_str(), file) >= 0;
    return std::fclose(file) == 0 && wrote;
}

// Where nobody can be reached the agent fails, as a script would.
bool hand_on(const std::string& key, const std::string& seconds) {
    const std::string file = variable("IW_WORKSPACE") + "/child.md";
    const std::string child = "child." + key;
    std::FILE* prompt = std::fopen(file.c_str(), "w");
    if (prompt == nullptr) return false;
    std::fputs(("key=" + child + " run=" + seconds + "\n").c_str(), prompt);
    if (std::fclose(prompt) != 0) return false;
    const std::string command = "id=$(ictl submit truth-agent '" + file + "' --key " + child +
                                " --tag " + child + ") && ictl wait \"${id%% *}\" >&2";
    return std::system(command.c_str()) == 0;
}

int exit_code(const std::map<std::string, std::string>& words) {
    const double good = number(words, "good");
    if (good > 0 && std::strtod(variable("IW_ATTEMPT").c_str(), nullptr) >= good) return 0;
    return static_cast<int>(number(words, "exit"));
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 64;
    const std::map<std::string, std::string> words = read_prompt();
    const auto key = words.find("key");
    const std::string name = key == words.end() ? "-" : key->second;
    const std::string who = " " + variable("IW_SESSION_ID") + " " + variable("IW_ATTEMPT") + " " +
                            std::to_string(::getpid()) + " " + name + " ";
    note(argv[1], "start" + who + std::to_string(boottime_ms()) + "\n");
    if (number(words, "deaf") != 0) {
        ::signal(SIGTERM, SIG_IGN);
        ::signal(SIGHUP, SIG_IGN);
    }
    work(words);
    int code = exit_code(words);
    const auto child = words.find("child");
    if (child != words.end() && !hand_on(name, child->second)) code = kNoChild;
    if (number(words, "result") != 0 && !write_result(name)) code = kCannotNote;
    note(argv[1], "end" + who + std::to_string(boottime_ms()) + " " + std::to_string(code) + "\n");
    return code;
}
