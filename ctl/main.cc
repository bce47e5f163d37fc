#include "ctl/command_line.h"

int main(int argc, char** argv) {
    iw::ctl::catch_interrupts();
    const iw::ctl::Terminal terminal = iw::ctl::system_terminal();
    return iw::ctl::run_command_line(std::vector<std::string>(argv + 1, argv + argc), terminal);
}
