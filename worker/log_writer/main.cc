// ilogd <attempt>: see log_writer.h. tmux's pipe-pane starts it; the worker's state folder is in
// IW_WORKER_STATE.

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <string>

#include "common/io/files.h"
#include "worker/log_writer/log_writer.h"

int main(int argc, char** argv) {
    const std::string state_folder = iw::io::environment("IW_WORKER_STATE");
    if (argc != 2 || state_folder.empty()) {
        std::fputs(
            "usage: IW_WORKER_STATE=<folder> ilogd <attempt>\nThe worker starts this program.\n",
            stderr);
        return 64;
    }
    // Only the end of the output ends it: a signal to the whole group must not cost the log's last
    // lines.
    for (const int signal : {SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGPIPE})
        ::signal(signal, SIG_IGN);
    try {
        return iw::worker::write_log(state_folder, argv[1], STDIN_FILENO);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "ilogd: %s\n", error.what());
        return 74;
    }
}
