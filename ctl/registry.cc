#include "ctl/command.h"

namespace iw::ctl {

// Each is defined in ctl/commands/<name>.cc where nothing else is said.
Command submit_command();
Command status_command();
Command list_command();
Command wait_command();
Command result_command();
Command logs_command();
Command fetch_command();
Command attach_command();
Command kill_command();
Command retry_command();
Command extend_command();
Command archive_command();
Command explain_command();
Command fence_check_command();
Command workers_command();
Command fleet_command();
Command watch_command();
Command drain_command();    // drain.cc
Command undrain_command();  // drain.cc
Command pause_command();
Command resume_command();
Command confirm_dead_command();
Command backup_command();
Command restore_command();
Command up_command();
Command down_command();
Command init_command();
Command manager_command();
Command limits_command();
Command config_command();
Command doctor_command();
Command completion_command();
Command version_command();

std::vector<Command> all_commands() {
    return {submit_command(),    status_command(),       list_command(),    wait_command(),
            result_command(),    logs_command(),         fetch_command(),   attach_command(),
            kill_command(),      retry_command(),        extend_command(),  archive_command(),
            explain_command(),   fence_check_command(),  workers_command(), fleet_command(),
            watch_command(),     drain_command(),        undrain_command(), pause_command(),
            resume_command(),    confirm_dead_command(), backup_command(),  restore_command(),
            up_command(),        down_command(),         init_command(),    manager_command(),
            limits_command(),    config_command(),       doctor_command(),  version_command(),
            completion_command()};
}

}  // namespace iw::ctl
