"""The session contract, config.sh and "Limits": one test a rule."""

import json
import re
import unittest

from contract import ContractCase
from fleet import SOURCE, wait_until

# More than five times MAX_DISK_PER_SESSION_MB, in one go; then stays.
HOARDER = """#!/bin/bash
cat >/dev/null
fallocate -l 16M "$IW_WORKSPACE/hoard" 2>/dev/null || head -c 16000000 /dev/zero >"$IW_WORKSPACE/hoard"
exec /bin/sleep 1000
"""


class ConfigScript(ContractCase):
    def sourced(self, *names, cwd="/"):
        script = f'set -eu; source "{self.root}/scripts/ops/config.sh"; printf "%s\\n" ' + " ".join(f'"${name}"' for name in names)
        return self.run_program(["bash", "-c", script], cwd=cwd).stdout.splitlines()

    def test_its_variables_and_their_defaults(self):
        values = {"MAX_SESSION_LIFETIME_SECONDS": "1800", "MAX_CONCURRENT_SESSIONS": "5", "MAX_DISK_PER_SESSION_MB": "100",
                  "TOTAL_DISK_WARNING_MB": "1000", "STATUS_POLL_INTERVAL_SECONDS": "5", "TMUX_SESSION_PREFIX": "iw",
                  "LOG_RETENTION_DAYS": "30", "LOG_LEVEL": "INFO"}
        self.assertEqual(self.sourced(*values), list(values.values()))
        text = (self.root / "scripts/ops/config.sh").read_text()
        for name, value in values.items():
            self.assertIn(f"\n{name}={value}\n", text)

    def test_sourced_from_anywhere_its_paths_are_absolute(self):
        names = ("PROJECT_ROOT", "AGENTS_DIR", "SESSIONS_DIR", "ARCHIVE_DIR", "GLOBAL_LOG")
        expected = [str(self.root / path) for path in
                    ("", "agents", "docs/.scratch/sessions", "docs/.scratch/archive/sessions", "logs/orchestrator.log")]
        for cwd in ("/", self.folder, self.root / "agents"):
            self.assertEqual(self.sourced(*names, cwd=cwd), expected)

    def test_sourcing_it_changes_nothing_else(self):
        script = (f'cd /tmp; before=$(shopt; set -o; pwd); source "{self.root}/scripts/ops/config.sh"; '
                  'after=$(shopt; set -o; pwd); [[ $before == "$after" ]] && echo same')
        self.assertEqual(self.bash(script).stdout, "same\n")

    def test_a_page_says_what_each_variable_does(self):
        names = re.findall(r"^([A-Z_]+)=", (self.root / "scripts/ops/config.sh").read_text(), re.M)
        page = (SOURCE / "docs/config.md").read_text()
        self.assertEqual([name for name in names if f"`{name}`" not in page], [])

    def test_create_sends_its_limits_and_a_plain_submit_runs_for_a_day(self):
        def timeout(session):
            self.addCleanup(self.end, session)
            return json.loads(self.ictl("status", session, "--json").stdout)["timeout_seconds"]

        self.agent("wait-agent", "#!/bin/bash\ncat >/dev/null\nexec /bin/sleep 1000\n")
        self.assertEqual(timeout(self.create("wait-agent")), 1800)
        self.assertEqual(timeout(self.ictl("submit", "wait-agent", self.prompt()).stdout.strip()), 86_400)

    def test_the_embedded_worker_takes_its_slots_from_it(self):
        def slots():
            return json.loads(self.ictl("workers", "--json").stdout)["workers"][0]["slots"]

        self.assertEqual(slots(), 5)
        self.configure(MAX_CONCURRENT_SESSIONS=3)
        self.assertTrue(wait_until(lambda: slots() == 3))
        self.configure(MAX_CONCURRENT_SESSIONS=5)
        self.assertTrue(wait_until(lambda: slots() == 5))


class Limits(ContractCase):
    slots = 2

    @classmethod
    def prepare(cls, fleet):
        super().prepare(fleet)
        # It is measured every 30 s, so this one runs beside the other tests.
        fleet.agent("hoarder-agent", HOARDER)
        fleet.configure(MAX_DISK_PER_SESSION_MB=3)
        cls.hoarder = fleet.create("hoarder-agent")
        fleet.configure(MAX_DISK_PER_SESSION_MB=100)

    def test_more_than_the_slots_wait_and_are_not_refused(self):
        first, gate = self.gated()
        others = [self.gated(running=False) for _ in range(2)]
        for session, _ in others:
            self.assertEqual(self.status(session)["detail"], "queued")
        gate.open()
        self.wait_for(others[0][0], "RUNNING")
        others[0][1].open()
        others[1][1].open()
        self.assertEqual(self.wait(first, *(session for session, _ in others)), 0)

    def test_past_its_lifetime_a_session_is_killed_with_the_words_of_the_contract(self):
        self.configure(MAX_SESSION_LIFETIME_SECONDS=1)
        session, _ = self.gated(running=False)
        self.configure(MAX_SESSION_LIFETIME_SECONDS=1800)
        self.wait(session)
        shown = self.status(session)
        self.assertEqual((shown["status"], shown["detail"]), ("KILLED", "timeout"))
        self.assertRegex(shown["kill_reason"], r"^Timeout \(\d+s\)$")
        self.assertRegex(self.global_log(), rf"\[WARN\] Session timeout: {session} \(\d+s > 1s\)\n")

    def test_too_much_disk_fails_it(self):
        self.wait(self.hoarder)
        shown = self.status(self.hoarder)
        self.assertEqual((shown["status"], shown["detail"]), ("FAILED", "disk-limit"))
        self.assertRegex(shown["reason"], r"\d+ MB > 15 MB")


if __name__ == "__main__":
    unittest.main()
