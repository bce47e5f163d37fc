"""ictl on a terminal: attach shows the agent, leaves it running, and tells of what has ended."""

import os
import pty
import select
import signal
import time
import unittest

from fleet import FleetCase, wait_until

TALKER = """#!/bin/bash
echo "hello from the agent"
mkfifo "$IW_WORKSPACE/gate"
read -r _ <"$IW_WORKSPACE/gate"
"""
CTRL_B = b"\x02"
CTRL_C = b"\x03"


class OnTerminal:
    """One program on a pseudo terminal of its own."""

    def __init__(self, argv, folder, environment):
        self.output = b""
        self.code = None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(folder)
                os.execvpe(argv[0], argv, environment)
            finally:
                os._exit(127)

    def read(self, until, cap=60.0):
        """Reads until `until` shows (None: until the program closes its terminal)."""
        end = time.monotonic() + cap
        while until is None or until not in self.output:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return False
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # how Linux tells that the other side is closed
                data = b""
            if not data:
                return until is None
            self.output += data
        return True

    def write(self, keys):
        os.write(self.fd, keys)

    def ended(self):
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def close(self):
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


class Terminal(FleetCase):
    def on_terminal(self, *arguments):
        program = OnTerminal(["ictl", *arguments], self.root, self.environment)
        self.addCleanup(program.close)
        return program

    def finish(self, program):
        self.assertTrue(program.read(None), program.output)
        self.assertTrue(wait_until(program.ended))
        return program.code

    @staticmethod
    def leave(attached):
        """Ctrl+B D as a person types it: tmux takes keys that come within a millisecond for pasted text."""
        attached.write(CTRL_B)
        select.select([], [], [], 0.05)
        attached.write(b"d")
        return attached.read(b"left running", cap=2.0)

    def talker(self):
        self.agent("talker-agent", TALKER)
        session = self.create("talker-agent")
        self.assertTrue(wait_until(lambda: self.state(session)["status"] == "RUNNING"))
        self.assertTrue(wait_until(lambda: (self.workspace(session) / "gate").exists()))
        return session

    def test_attach_shows_the_agent_and_leaves_it_running(self):
        session = self.talker()
        attached = self.on_terminal("attach", session)
        self.assertTrue(attached.read(b"hello from the agent"), attached.output)
        self.assertTrue(wait_until(lambda: self.leave(attached)), attached.output)
        self.assertEqual(self.finish(attached), 0, attached.output)
        self.assertIn(b"left running", attached.output)
        self.assertEqual(self.status(session)["status"], "RUNNING")

    def test_logs_are_followed_until_ctrl_c(self):
        session = self.talker()
        followed = self.on_terminal("logs", "-f", session)
        self.assertTrue(followed.read(b"hello from the agent"), followed.output)
        followed.write(CTRL_C)
        self.assertEqual(self.finish(followed), 130, followed.output)
        self.assertEqual(self.status(session)["status"], "RUNNING")

    def test_attach_to_a_session_that_has_ended(self):
        session = self.talker()
        self.manager("kill", session, "--force")
        attached = self.on_terminal("attach", session)
        self.assertEqual(self.finish(attached), 0, attached.output)
        self.assertIn(b"KILLED", attached.output)
        self.assertIn(b"hello from the agent", attached.output)

    def test_attach_without_a_terminal(self):
        session = self.talker()
        refused = self.ictl("attach", session, check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("needs a terminal", refused.stderr)

    def test_a_session_that_the_broker_has_forgotten(self):
        session = self.talker()
        self.manager("kill", session, "--force")
        self.ictl("down")
        (self.fleet_folder() / "broker").rename(self.folder / "old-broker")
        killed = self.manager("kill", session, "--force")
        self.assertEqual(killed.stdout, "already terminated (status: KILLED)\n")
        attached = self.on_terminal("attach", session)
        self.assertEqual(self.finish(attached), 0, attached.output)
        self.assertIn(b"hello from the agent", attached.output)


if __name__ == "__main__":
    unittest.main(verbosity=2)
