"""ictl on a terminal: attach shows the agent, leaves it running, and tells of what has ended."""

import os
import signal
import unittest

from fleet import FleetCase, wait_until
from on_terminal import CTRL_C, OnTerminal

TALKER = """#!/bin/bash
echo "hello from the agent"
mkfifo "$IW_WORKSPACE/gate"
read -r _ <"$IW_WORKSPACE/gate"
"""


class Terminal(FleetCase):
    def on_terminal(self, *arguments):
        program = OnTerminal(["ictl", *arguments], self.root, self.environment)
        self.addCleanup(program.close)
        return program

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
        self.assertTrue(wait_until(attached.leave), attached.output)
        self.assertEqual(attached.finish(), 0, attached.output)
        self.assertIn(b"left running", attached.output)
        self.assertEqual(self.status(session)["status"], "RUNNING")

    def test_logs_are_followed_until_ctrl_c(self):
        session = self.talker()
        followed = self.on_terminal("logs", "-f", session)
        self.assertTrue(followed.read(b"hello from the agent"), followed.output)
        followed.write(CTRL_C)
        self.assertEqual(followed.finish(), 130, followed.output)
        self.assertEqual(self.status(session)["status"], "RUNNING")

    def test_attach_to_a_session_that_has_ended(self):
        session = self.talker()
        self.manager("kill", session, "--force")
        attached = self.on_terminal("attach", session)
        self.assertEqual(attached.finish(), 0, attached.output)
        self.assertIn(b"KILLED", attached.output)
        self.assertIn(b"hello from the agent", attached.output)

    def test_attach_in_the_moment_in_which_the_agent_ends(self):
        session = self.talker()
        worker = self.pid_of("worker")
        os.kill(worker, signal.SIGSTOP)
        self.addCleanup(os.kill, worker, signal.SIGCONT)
        (self.workspace(session) / "gate").write_text("\n")
        tmux = ["tmux", "-S", self.fleet_folder() / "worker/tmux.sock", "has-session", "-t", f"=iw-{session}"]
        self.assertTrue(wait_until(lambda: self.run_program(tmux, check=False).returncode != 0))
        attached = self.on_terminal("attach", session)
        self.assertTrue(attached.read(b"has closed; waiting for its end"), attached.output)
        os.kill(worker, signal.SIGCONT)
        self.assertEqual(attached.finish(), 0, attached.output)
        self.assertIn(b"Status: COMPLETED", attached.output)

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
        self.assertEqual(attached.finish(), 0, attached.output)
        self.assertIn(b"hello from the agent", attached.output)


if __name__ == "__main__":
    unittest.main(verbosity=2)
