#include "common/io/find_program.h"

#include <sys/stat.h>
#include <unistd.h>

#include "common/base/text.h"

namespace iw::io {
namespace {

enum class Kind { missing, refused, executable };

Kind kind_of(const std::string& file) {
    struct stat info {};
    if (::stat(file.c_str(), &info) != 0) return Kind::missing;
    // eaccess says yes to root only when somebody may execute, and says no on noexec mounts.
    if (!S_ISREG(info.st_mode) || ::eaccess(file.c_str(), X_OK) != 0) return Kind::refused;
    return Kind::executable;
}

Error refused(const std::string& file) {
    return make_error(ErrorCode::io, file + " is not executable; chmod +x it");
}

}  // namespace

Result<std::string> find_program(const std::string& word, std::string_view path) {
    if (word.empty()) return make_error(ErrorCode::not_found, "the command is empty");
    if (word.find('/') != std::string::npos) {
        switch (kind_of(word)) {
            case Kind::missing:
                return make_error(ErrorCode::not_found, "there is no " + word);
            case Kind::refused:
                return refused(word);
            case Kind::executable:
                return word;
        }
    }
    std::string not_runnable;
    for (const std::string& folder : split(path, ':')) {
        if (folder.empty()) continue;  // it would mean the current directory, which nobody means
        const std::string file = folder + "/" + word;
        const Kind kind = kind_of(file);
        if (kind == Kind::executable) return file;
        if (kind == Kind::refused && not_runnable.empty()) not_runnable = file;
    }
    if (!not_runnable.empty()) return refused(not_runnable);
    return make_error(ErrorCode::not_found, "there is no command " + word + " in PATH");
}

}  // namespace iw::io
