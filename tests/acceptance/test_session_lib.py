"""The five common patterns with scripts/ops/session-lib.sh, and as one-liners of ictl."""

import json
import os
import subprocess
import unittest

from fleet import SOURCE, FleetCase, wait_until

GOOD = """#!/bin/bash
cat >/dev/null
echo '{"status": "success", "exact": 12345678901234567890123}' >"$IW_RESULT_FILE"
"""
BAD = """#!/bin/bash
cat >/dev/null
echo "cannot find the service"
echo '{"status": "failure", "errors": ["no service"]}' >"$IW_RESULT_FILE"
exit 1
"""
WAITS = "#!/bin/bash\nuntil [[ -e $IW_WORKSPACE/go ]]; do sleep 0.1; done\n"


class Patterns(FleetCase):
    def setUp(self):
        super().setUp()
        for name, body in {"agent1": GOOD, "agent2": GOOD, "bad-agent": BAD, "recovery-agent": GOOD,
                           "wait-agent": WAITS}.items():
            self.agent(name, body)
        self.task = self.prompt()

    def lib(self, script, **options):
        """As a script of a user: nothing unset is used, and it stands elsewhere."""
        text = f'set -u\n. "{self.root}/scripts/ops/session-lib.sh"\nTASK={self.task}\n{script}'
        return self.bash(text, cwd="/", **options)

    def test_sourcing_it_does_nothing_and_changes_no_option(self):
        library = self.root / "scripts/ops/session-lib.sh"
        script = f'before=$(shopt; set -o; pwd); . {library}; [[ $before == "$(shopt; set -o; pwd)" ]] && echo same'
        done = self.bash(f"set -eu; {script}")
        self.assertEqual((done.stdout, done.stderr), ("same\n", ""))
        self.assertIsNone(self.pid_of("broker"))

    def test_pattern_1_spawn_and_wait(self):
        done = self.lib("SESSION=$(create_session agent1 $TASK)\nwait_for_completion $SESSION\nread_result $SESSION")
        self.assertEqual(done.stdout, '{"status": "success", "exact": 12345678901234567890123}\n')
        self.assertIn("COMPLETED", done.stderr)
        one_liner = self.bash(f"ictl result $(ictl submit agent1 {self.task} --wait)")
        self.assertEqual(one_liner.stdout, done.stdout)

    def test_pattern_2_parallel_execution(self):
        done = self.lib("S1=$(create_session agent1 $TASK)\nS2=$(create_session agent2 $TASK)\n"
                        "S3=$(create_session bad-agent $TASK)\nwait_all $S1 $S2 $S3; echo \"code $?\" >&2\n"
                        "aggregate_results $S1 $S2 $S3")
        self.assertIn("code 1\n", done.stderr)
        self.assertIn('"result": {"status": "success", "exact": 12345678901234567890123},', done.stdout)
        rows = json.loads(done.stdout)
        self.assertEqual([row["result_status"] for row in rows.values()], ["success", "success", "failure"])
        self.assertEqual([row["status"] for row in rows.values()], ["COMPLETED", "COMPLETED", "FAILED"])
        for session, row in rows.items():
            self.assertEqual(row["file"], str(self.workspace(session) / "result.json"))
        one = self.lib(f"aggregate_results {next(iter(rows))}")
        self.assertEqual(list(json.loads(one.stdout)), [next(iter(rows))])

    def test_pattern_3_error_recovery(self):
        done = self.lib("SESSION=$(create_session bad-agent $TASK)\nif result_failed $SESSION; then\n"
                        "  diagnose_error $SESSION\n  RECOVERY=$(create_session recovery-agent $TASK)\n"
                        "  wait_for_completion $RECOVERY\n  RETRY=$(create_session agent1 $TASK)\nfi\n"
                        "result_failed $RETRY; echo \"retry $?\"\nresult_failed 20990101-000000-none; echo \"unknown $?\"")
        for text in ("Status: FAILED", "Exit code: 1", "cannot find the service", '"errors": ["no service"]',
                     "[INFO] Status: RUNNING → FAILED", "retry 1\n", "unknown 2\n"):
            self.assertIn(text, done.stdout)

    def test_pattern_4_without_a_terminal_prints_status_and_output(self):
        done = self.lib("SESSION=$(create_session bad-agent $TASK)\nwait_for_completion $SESSION\n"
                        "attach_and_inspect $SESSION")
        self.assertIn("Status: FAILED", done.stdout)
        self.assertIn("cannot find the service", done.stdout)

    def test_pattern_5_bulk_operations(self):
        done = self.lib("A=$(create_session agent1 $TASK)\nB=$(create_session bad-agent $TASK)\n"
                        "C=$(create_session wait-agent $TASK)\nwait_all $A $B\n"
                        "list_sessions --status=FAILED | kill_all\nlist_sessions --status=COMPLETED | archive_all\n"
                        "echo \"left $(list_sessions | sort | tr '\\n' ' ')\"\necho \"$A $B $C\"")
        good, bad, waits = done.stdout.splitlines()[-1].split()
        self.assertIn(f"left {' '.join(sorted([bad, waits]))}", done.stdout)
        self.assertIn("already terminated (status: FAILED)", done.stdout)
        self.assertTrue((self.root / "docs/.scratch/archive/sessions" / good / "result.json").exists())
        self.assertEqual(self.state(waits)["status"], "RUNNING")
        self.assertEqual(json.loads(self.lib(f"read_result {good}").stdout)["status"], "success")
        again = self.lib("list_sessions --status=COMPLETED | archive_all; echo | kill_all; echo \"code $?\"")
        self.assertEqual(again.stdout, "code 0\n")
        self.lib(f"kill_all {waits} {bad}")
        self.assertEqual(self.state(waits)["status"], "KILLED")
        self.ictl("archive", "--status", "FAILED,KILLED")
        self.assertEqual(list((self.root / "docs/.scratch/sessions").iterdir()), [])

    def test_wait_any_prints_the_first_end(self):
        done = self.lib("A=$(create_session wait-agent $TASK)\nB=$(create_session agent1 $TASK)\n"
                        "[[ $(wait_any $A $B) == $B ]] && echo first\nkill_all $A")
        self.assertIn("first\n", done.stdout)

    def test_a_failed_create_leads_nowhere(self):
        done = self.lib("SESSION=$(create_session no-such-agent $TASK); echo \"create $?\"\n"
                        "wait_for_completion $SESSION; echo \"wait $?\"\nresult_failed $SESSION; echo \"failed $?\"\n"
                        "read_result \"$SESSION\"; echo \"read $?\"", check=False)
        self.assertEqual(done.stdout, "create 1\nwait 64\nfailed 2\nread 64\n")
        self.assertIn("no session id given", done.stderr)


class Watchdog(FleetCase):
    def setUp(self):
        super().setUp()
        self.agent("wait-agent", WAITS)

    def limit(self, seconds):
        config = self.root / "scripts/ops/config.sh"
        lines = [f"MAX_SESSION_LIFETIME_SECONDS={seconds}" if line.startswith("MAX_SESSION_LIFETIME") else line
                 for line in config.read_text().splitlines()]
        config.write_text("\n".join(lines) + "\n")

    def timeout_of(self, session):
        return json.loads(self.ictl("status", session, "--json").stdout)["timeout_seconds"]

    def watchdogs(self):
        name = f"{self.root}/scripts/ops/session-watchdog.sh"
        found = self.run_program(["pgrep", "-f", name], check=False).stdout.split()
        return [int(pid) for pid in found]

    def start_watchdog(self):
        self.bash("nohup scripts/ops/session-watchdog.sh >/dev/null 2>&1 &")
        self.assertTrue(wait_until(lambda: len(self.watchdogs()) == 1))

    def tearDown(self):
        for pid in self.watchdogs():
            os.kill(pid, 9)
        super().tearDown()

    def test_an_edited_limit_reaches_what_session_manager_made_and_nothing_else(self):
        made = self.create("wait-agent")
        by_hand = self.create("wait-agent")
        self.ictl("extend", by_hand, "--timeout", "7h")
        plain = self.ictl("submit", "wait-agent", self.prompt()).stdout.strip()
        self.start_watchdog()
        self.limit(3600)
        self.assertTrue(wait_until(lambda: self.timeout_of(made) == 3600))
        self.limit("")
        self.limit(5400)
        self.assertTrue(wait_until(lambda: self.timeout_of(made) == 5400))
        self.assertEqual([self.timeout_of(by_hand), self.timeout_of(plain)], [25200, 86400])
        self.assertIn(f"Session lifetime: {made}: 30m -> 1h", (self.root / "logs/orchestrator.log").read_text())
        self.limit(1)
        self.assertEqual(self.wait(made), 2)
        self.assertRegex(self.state(made)["kill_reason"], r"^Timeout \(\d+s\)$")
        self.manager("kill", by_hand, "--force")
        self.manager("kill", plain, "--force")

    def test_an_edit_made_while_it_did_not_run_is_applied_at_its_start(self):
        made = self.create("wait-agent")
        self.limit(3600)
        self.start_watchdog()
        self.assertTrue(wait_until(lambda: self.timeout_of(made) == 3600))
        # As the document ends it: by its name, and at once; nothing of it is left.
        os.kill(self.watchdogs()[0], 15)
        self.assertTrue(wait_until(lambda: not self.watchdogs(), cap=5))
        self.manager("kill", made, "--force")

    def test_it_does_without_a_broker_and_starts_none(self):
        self.start_watchdog()
        self.limit(3600)
        self.assertIsNone(self.pid_of("broker"))
        self.assertEqual(len(self.watchdogs()), 1)

    def test_a_prompt_may_ask_for_less_than_the_limit_and_never_for_more(self):
        short = self.create("wait-agent", self.prompt("**Max Duration**: 10 minutes\n"))
        long = self.create("wait-agent", self.prompt("**Max Duration**: 2 hours\n**Priority**: HIGH\n"))
        self.assertEqual([self.timeout_of(short), self.timeout_of(long)], [600, 1800])
        self.limit(3600)
        self.ictl("limits", "--apply")
        self.assertEqual([self.timeout_of(short), self.timeout_of(long)], [600, 3600])
        self.manager("kill", short, "--force")
        self.manager("kill", long, "--force")


class Scripts(unittest.TestCase):
    def test_they_pass_shellcheck(self):
        scripts = sorted(str(path) for path in (SOURCE / "scripts/ops").glob("*.sh"))
        done = subprocess.run(["shellcheck", "-x", *scripts], capture_output=True, text=True, check=False)
        self.assertEqual(done.stdout + done.stderr, "")


if __name__ == "__main__":
    unittest.main()
