"""scripts/ops/session-watchdog.sh, and Example 7 as its user lives it."""

import json
import pathlib
import unittest

from examples import SCRIPTS, ExampleProject
from fleet import FleetCase, wait_until

RESTART = "pkill -f session-watchdog.sh\nnohup scripts/ops/session-watchdog.sh > /dev/null 2>&1 &\n"


class Watchdog(ExampleProject, FleetCase):
    def tearDown(self):
        self.bash("pkill -f session-watchdog.sh", check=False)
        super().tearDown()

    def watchdogs(self):
        """Pids of what carries the script's name and runs in this project."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                here = entry.name.isdigit() and (entry / "cwd").resolve() == self.root
                if here and b"session-watchdog.sh" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def timeout(self, session):
        return json.loads(self.ictl("status", session, "--json").stdout)["timeout_seconds"]

    def test_example_7_a_timeout_and_a_raised_limit(self):
        self.live_through_example_7()

    def test_example_7_with_a_watchdog_as_the_example_has_it(self):
        watchdog = self.root / "scripts/ops/session-watchdog.sh"
        watchdog.write_text((SCRIPTS / "watchdog.sh").read_text())
        watchdog.chmod(0o755)
        self.live_through_example_7()

    def live_through_example_7(self):
        self.configure(MAX_SESSION_LIFETIME_SECONDS=5)
        self.start_in_background("scripts/ops/session-watchdog.sh")
        gate = self.researcher()
        session = self.create("researcher-agent")
        self.assertEqual(self.wait(session), 2)
        self.assertRegex(self.status(session)["kill_reason"], r"^Timeout \(\d+s\)$")
        self.assertRegex(self.bash("tail -f logs/orchestrator.log").stdout,
                         rf"^\[[0-9TZ:-]+\] \[WARN\] Session timeout: {session} \(\d+s > 5s\)\n$")
        self.assertIn("Session created", self.bash(f"cat docs/.scratch/sessions/{session}/session.log").stdout)
        self.configure(MAX_SESSION_LIFETIME_SECONDS=3600)
        restart = self.folder / "restart.sh"
        restart.write_text(RESTART)
        self.run_program(["bash", restart])
        longer = self.create("researcher-agent")
        self.assertTrue(wait_until(lambda: self.status(longer)["elapsed_seconds"] > 6))
        gate.open()
        self.assertEqual(self.wait(longer), 0)
        self.assertEqual(len(self.watchdogs()), 1)

    def test_an_edited_limit_holds_for_what_runs(self):
        self.researcher()
        session = self.create("researcher-agent")
        self.wait_for_status(session, "RUNNING")
        self.assertEqual(self.timeout(session), 1800)
        self.start_in_background("scripts/ops/session-watchdog.sh")
        self.configure(MAX_SESSION_LIFETIME_SECONDS=3600)
        self.assertTrue(wait_until(lambda: self.timeout(session) == 3600))
        self.configure(MAX_SESSION_LIFETIME_SECONDS=1)
        self.assertEqual(self.wait(session), 2)
        self.assertEqual(self.status(session)["detail"], "timeout")

    def test_it_leaves_alone_what_session_manager_did_not_make(self):
        self.researcher()
        made = self.create("researcher-agent")
        plain = self.ictl("submit", "researcher-agent", self.prompt()).stdout.strip()
        self.start_in_background("scripts/ops/session-watchdog.sh")
        self.configure(MAX_SESSION_LIFETIME_SECONDS=3600)
        self.assertTrue(wait_until(lambda: self.timeout(made) == 3600))
        self.assertEqual(self.timeout(plain), 86_400)
        self.ictl("kill", plain, made, "--force")

    def test_it_keeps_its_name_and_ends_at_once_on_term(self):
        watchdog = self.start_in_background("scripts/ops/session-watchdog.sh")
        self.assertTrue(wait_until(lambda: self.watchdogs() == [watchdog.pid]))
        self.bash("pkill -f session-watchdog.sh")
        self.assertTrue(wait_until(lambda: watchdog.poll() is not None))
        self.assertEqual(self.watchdogs(), [])


if __name__ == "__main__":
    unittest.main()
