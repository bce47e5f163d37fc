#!/usr/bin/env python3
"""What `ictl wait --any` costs on many sessions: its wake-ups while nothing ends, and the time from the first end to its
return.

usage: scripts/bench wait [SESSIONS [SECONDS]]     (default 100 sessions, 20 quiet seconds)
"""

import pathlib
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "acceptance"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from fleet import FleetCase, wait_until  # noqa: E402
from idle import readings  # noqa: E402

AGENT = '#!/bin/bash\nmkfifo "$IW_WORKSPACE/gate.new"\nmv "$IW_WORKSPACE/gate.new" "$IW_WORKSPACE/gate"\nread -r _ <"$IW_WORKSPACE/gate"\n'


class Bench(FleetCase):
    def runTest(self):
        sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 100
        quiet = float(sys.argv[2]) if len(sys.argv) > 2 else 20
        self.agent("gate-agent", AGENT)
        task = self.prompt()
        self.ictl("up")
        ids = [self.ictl("submit", "gate-agent", task).stdout.strip() for _ in range(sessions)]
        gates = [self.workspace(session) / "gate" for session in ids]
        self.assertTrue(wait_until(lambda: sum(gate.exists() for gate in gates) == self.slots))
        waiting = subprocess.Popen(["ictl", "wait", "--any", *ids], cwd=self.root, env=self.environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        time.sleep(3)
        before = readings(waiting.pid)
        time.sleep(quiet)
        after = readings(waiting.pid)
        gate = next(gate for gate in gates if gate.exists())
        begun = time.monotonic()
        gate.write_text("\n")
        line = waiting.communicate()[0]
        took = time.monotonic() - begun
        self.assertIn(gate.parent.name, line)
        print(f"{sessions} sessions: {after[1] - before[1]} wake-ups and {after[0] - before[0]} ms of CPU in {quiet:g} quiet "
              f"seconds; {took * 1000:.0f} ms from the end of the first agent to the return of wait")
        self.ictl("kill", "--all", "--force")


if __name__ == "__main__":
    sys.exit(not unittest.TextTestRunner(verbosity=0).run(Bench()).wasSuccessful())
