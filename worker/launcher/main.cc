// iexec <attempt>: see launcher.h. tmux starts it; the worker's state folder is in IW_WORKER_STATE.

#include <cstdio>
#include <exception>
#include <string>

#include "common/io/files.h"
#include "worker/launcher/launcher.h"

int main(int argc, char** argv) {
    const std::string state_folder = iw::io::environment("IW_WORKER_STATE");
    if (argc != 2 || state_folder.empty()) {
        std::fputs(
            "usage: IW_WORKER_STATE=<folder> iexec <attempt>\n"
            "The worker starts this program; use ictl to run an agent.\n",
            stderr);
        return iw::worker::kExitUsage;
    }
    try {
        return iw::worker::launch(state_folder, argv[1]);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "iexec: %s\n", error.what());
        return iw::worker::kExitIo;
    }
}
