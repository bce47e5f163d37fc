#!/usr/bin/env python3
"""What an idle fleet costs: CPU time and wake-ups of each of its processes, from /proc, over some time.

usage: scripts/bench idle [SECONDS [SESSIONS]]     (default 60 s, 5 sleeping sessions)
"""

import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "acceptance"))
from fleet import FleetCase, wait_until  # noqa: E402


def readings(pid):
    """(CPU milliseconds, wake-ups) of all threads so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    cpu = wakes = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
        cpu += (int(fields[11]) + int(fields[12])) * 1000 // ticks
        for line in (task / "status").read_text().splitlines():
            if "voluntary_ctxt_switches" in line and not line.startswith("non"):
                wakes += int(line.split()[1])
    return cpu, wakes


def fleet_processes(folder):
    """(name, pid) of everything that belongs to the fleet in the folder."""
    for entry in sorted(pathlib.Path("/proc").iterdir(), key=lambda path: path.name):
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        name = pathlib.Path(command.split(" ")[0]).name
        if name in ("ibroker", "iworker", "iexec", "ilogd", "tmux") and (folder in command or folder in environment):
            yield name, int(entry.name)


class Idle(FleetCase):
    seconds = 60
    sessions = 5

    def runTest(self):
        self.agent("sleep-agent", "#!/bin/bash\nexec sleep 100000\n")
        ids = [self.create("sleep-agent") for _ in range(self.sessions)]
        wait_until(lambda: all(self.state(session)["status"] == "RUNNING" for session in ids))
        time.sleep(2)  # what the start left to do
        processes = list(fleet_processes(str(self.folder)))
        before = {pid: readings(pid) for _, pid in processes}
        time.sleep(self.seconds)
        print(f"{'PROCESS':<10} {'PID':>8} {'CPU ms':>8} {'WAKE-UPS':>9}   in {self.seconds} s, {self.sessions} sessions")
        for name, pid in processes:
            cpu, wakes = readings(pid)
            print(f"{name:<10} {pid:>8} {cpu - before[pid][0]:>8} {wakes - before[pid][1]:>9}")


def main():
    Idle.seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    Idle.sessions = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    case = Idle()
    case.setUp()
    try:
        case.runTest()
    finally:
        case._outcome = None
        case.tearDown()


if __name__ == "__main__":
    main()
