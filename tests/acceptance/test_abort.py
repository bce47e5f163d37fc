"""A test that is killed leaves no process behind: else a broken run would disturb all that follow on the machine."""

import os
import pathlib
import subprocess
import sys
import unittest

from fleet import alive, wait_until

HERE = pathlib.Path(__file__).resolve().parent
# Ignores what can be ignored, and leaves a process in which nothing of the session shows.
AGENT = """#!/bin/bash
trap '' TERM HUP INT
setsid env -i /bin/sleep 1000 </dev/null >/dev/null 2>&1 &
echo $! >"$IW_PROJECT_ROOT/stray"
while :; do sleep 1; done
"""
START = f"""
import os, signal
from fleet import FleetCase, wait_until
class Killed(FleetCase):
    def runTest(self):
        self.agent("stubborn", '''{AGENT}''')
        self.create("stubborn")
        stray = self.root / "stray"
        self.assertTrue(wait_until(lambda: stray.exists() and stray.read_text().endswith("\\n")))
        print(self.folder, stray.read_text(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
Killed().debug()
"""


def running(folder):
    """Pids of all who name the folder or run in it."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            named = str(folder) in (entry / "environ").read_text(errors="replace") + (entry / "cmdline").read_text(errors="replace")
            if entry.name.isdigit() and alive(entry.name) and (named or os.readlink(entry / "cwd").startswith(str(folder))):
                found.append((int(entry.name), (entry / "cmdline").read_text()))
        except OSError:
            continue
    return found


class Abort(unittest.TestCase):
    def test_nothing_is_left_of_a_killed_test(self):
        done = subprocess.run([sys.executable, "-c", START], cwd=HERE, env={**os.environ, "PYTHONPATH": str(HERE)}, check=False,
                              capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, -9, done.stderr)
        folder, stray = done.stdout.split()
        self.assertTrue(wait_until(lambda: not running(folder) and not alive(stray)), running(folder))
        self.assertTrue(wait_until(lambda: not os.path.exists(folder)))


if __name__ == "__main__":
    unittest.main()
