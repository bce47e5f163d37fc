"""Retries, dependencies and changed timeouts, as a user asks for them."""

import json
import unittest

from fleet import FleetCase, wait_until

FAILS_TWICE = """#!/bin/bash
cat >/dev/null
ls "$IW_WORKSPACE" >>"$IW_PROJECT_ROOT/seen-$IW_ATTEMPT"
echo "{\\"attempt\\": $IW_ATTEMPT}" >"$IW_RESULT_FILE"
echo "notes of attempt $IW_ATTEMPT" >"$IW_WORKSPACE/notes.md"
[ "$IW_ATTEMPT" -ge 3 ]
"""
# Runs until somebody makes the file that its prompt names; then ends as the file says.
GATED = """#!/bin/bash
gate=$(cat)
until [ -s "$gate" ]; do sleep 0.05; done
exit "$(cat "$gate")"
"""
NEVER_ENDS = "#!/bin/bash\ncat >/dev/null\nexec sleep 1000\n"


class BCase(FleetCase):
    def submit(self, agent, prompt, *options):
        return self.ictl("submit", agent, prompt, *options).stdout.strip()

    def details(self, session):
        return json.loads(self.ictl("status", session, "--json").stdout)

    def gate(self, name):
        """A prompt that names a gate, and the gate itself."""
        gate = self.folder / f"gate-{name}"
        return self.prompt(f"{gate}\n", name=f"{name}.md"), gate


class Retries(BCase):
    def test_a_session_that_fails_twice_succeeds_with_two_retries(self):
        self.agent("flaky", FAILS_TWICE)
        self.ictl("up")
        session = self.submit("flaky", self.prompt(), "--retries", 2, "--backoff", "200ms")
        self.assertEqual(self.wait(session), 0)
        workspace = self.workspace(session)
        self.assertEqual(json.loads((workspace / "result.json").read_text()), {"attempt": 3})
        for attempt in (1, 2):
            earlier = workspace / "attempts" / str(attempt)
            self.assertEqual(json.loads((earlier / "result.json").read_text()), {"attempt": attempt})
            self.assertEqual((earlier / "notes.md").read_text(), f"notes of attempt {attempt}\n")
            self.assertTrue((earlier / "output.log").exists())
        # Each attempt began without what the one before it had left.
        for attempt in (1, 2, 3):
            seen = (self.root / f"seen-{attempt}").read_text().split()
            self.assertNotIn("result.json", seen)
            self.assertNotIn("notes.md", seen)
        shown = self.details(session)
        self.assertEqual((shown["status"], shown["attempt"], shown["attempts_max"]), ("COMPLETED", 3, 3))
        log = (workspace / "session.log").read_text()
        self.assertEqual(log.count("CREATED → RUNNING"), 3, log)
        self.assertIn("RUNNING → CREATED", log)

    def test_the_last_failure_is_the_end(self):
        self.agent("broken", "#!/bin/bash\ncat >/dev/null\nexit 7\n")
        self.ictl("up")
        session = self.submit("broken", self.prompt(), "--retries", 1, "--backoff", "100ms")
        self.assertEqual(self.wait(session), 1)
        shown = self.details(session)
        self.assertEqual((shown["detail"], shown["exit_code"], shown["attempt"]), ("exited", 7, 2))

    def test_only_the_named_causes_are_retried(self):
        self.agent("broken", "#!/bin/bash\ncat >/dev/null\nexit 7\n")
        self.ictl("up")
        session = self.submit("broken", self.prompt(), "--retries", 5, "--retry-on", "signal,timeout")
        self.assertEqual(self.wait(session), 1)
        self.assertEqual(self.details(session)["attempt"], 1)

    def test_a_session_that_waits_for_its_retry_says_so_and_can_be_killed(self):
        self.agent("broken", "#!/bin/bash\ncat >/dev/null\nexit 7\n")
        self.ictl("up")
        session = self.submit("broken", self.prompt(), "--retries", 3, "--backoff", "1h", "--backoff-max", "2h")
        self.assertTrue(wait_until(lambda: self.details(session)["detail"] == "retrying"))
        self.assertIsNotNone(self.details(session)["not_before"])
        self.assertIn("starts no earlier than", self.ictl("explain", session).stdout)
        self.assertIn("1 of 4 used", self.ictl("status", session).stdout)
        self.ictl("kill", session, "--force")
        self.assertEqual(self.details(session)["status"], "KILLED")

    def test_wrong_options_name_themselves(self):
        for options, words in ((["--retry-on", "exited"], "--retries"),
                               (["--retries", "1", "--retry-on", "exitd"], "did you mean exited"),
                               (["--retries", "100"], "0 to 99"),
                               (["--retries", "1", "--backoff", "2h", "--backoff-max", "1h"], "--backoff-max")):
            done = self.ictl("submit", "x", self.prompt(), *options, check=False)
            self.assertEqual(done.returncode, 64, options)
            self.assertIn(words, done.stderr)


class After(BCase):
    def test_chains_on_success_failure_and_any_end(self):
        self.agent("gated", GATED)
        self.agent("quick", "#!/bin/bash\ncat >/dev/null\n")
        self.ictl("up")
        good_prompt, good_gate = self.gate("good")
        bad_prompt, bad_gate = self.gate("bad")
        good = self.submit("gated", good_prompt)
        bad = self.submit("gated", bad_prompt)
        task = self.prompt()
        on_success = self.submit("quick", task, "--after", good)
        on_failure = self.submit("quick", task, "--after", f"{bad}:failure")
        on_both = self.submit("quick", task, "--after", f"{good}:end", "--after", f"{bad}:end")
        unmet = self.submit("quick", task, "--after", bad)
        below = self.submit("quick", task, "--after", f"{unmet}:success")
        saved = self.submit("quick", task, "--after", f"{unmet}:failure")
        shown = self.details(on_success)
        self.assertEqual((shown["status"], shown["detail"]), ("CREATED", "blocked"))
        self.assertEqual(shown["after"], [{"session_id": good, "on": "success"}])
        self.assertIn(good, self.ictl("list").stdout.split(on_success, 1)[1].splitlines()[0])
        self.assertIn(f"comes after {good}", self.ictl("explain", on_success).stdout)
        good_gate.write_text("0")
        bad_gate.write_text("3")
        self.assertEqual(self.wait(on_success, on_failure, on_both, saved), 0)
        for session, cause in ((unmet, bad), (below, unmet)):
            self.assertEqual(self.wait(session), 1)
            ended = self.details(session)
            self.assertEqual((ended["status"], ended["detail"]), ("FAILED", "dependency-failed"))
            self.assertIn(cause, ended["reason"])
            self.assertEqual(self.state(session)["status"], "FAILED")

    def test_what_is_over_already_counts(self):
        self.agent("quick", "#!/bin/bash\ncat >/dev/null\n")
        self.agent("broken", "#!/bin/bash\ncat >/dev/null\nexit 7\n")
        self.ictl("up")
        good = self.submit("quick", self.prompt())
        bad = self.submit("broken", self.prompt())
        self.wait(good, bad)
        # The broker that is asked now has never had them in its memory.
        self.kill_half("broker")
        self.ictl("up")
        self.assertEqual(self.wait(self.submit("quick", self.prompt(), "--after", good)), 0)
        unmet = self.submit("quick", self.prompt(), "--after", bad)
        self.assertEqual(self.wait(unmet), 1)
        self.assertEqual(self.details(unmet)["detail"], "dependency-failed")

    def test_an_unknown_session_is_named(self):
        self.agent("quick", "#!/bin/bash\ncat >/dev/null\n")
        self.ictl("up")
        done = self.ictl("submit", "quick", self.prompt(), "--after", "20200101-000000-nobody", check=False)
        self.assertEqual(done.returncode, 4)
        self.assertIn("20200101-000000-nobody", done.stderr)
        done = self.ictl("submit", "quick", self.prompt(), "--after", "x:sometimes", check=False)
        self.assertEqual(done.returncode, 64)
        self.assertIn("ID:success", done.stderr)


class Extend(BCase):
    def test_a_shorter_time_ends_what_runs(self):
        self.agent("endless", NEVER_ENDS)
        self.ictl("up")
        session = self.submit("endless", self.prompt(), "--timeout", "1h")
        self.assertTrue(wait_until(lambda: self.details(session)["status"] == "RUNNING"))
        self.ictl("extend", session, "--add", "1h")
        self.assertEqual(self.details(session)["timeout_seconds"], 7200)
        self.ictl("extend", session, "--timeout", "1s")
        self.assertEqual(self.wait(session), 2)
        self.assertEqual(self.details(session)["detail"], "timeout")
        done = self.ictl("extend", session, "--add", "1h", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("has ended", done.stderr)

    def test_more_time_is_kept_over_a_restart_of_both_halves(self):
        self.agent("gated", GATED)
        self.ictl("up")
        prompt, gate = self.gate("longer")
        session = self.submit("gated", prompt, "--timeout", "1h")
        self.assertTrue(wait_until(lambda: self.details(session)["status"] == "RUNNING"))
        self.ictl("extend", session, "--timeout", "3h")
        self.kill_half("broker")
        self.kill_half("worker")
        self.ictl("up")
        self.assertEqual(self.details(session)["timeout_seconds"], 3 * 3600)
        gate.write_text("0")
        self.assertEqual(self.wait(session), 0)


if __name__ == "__main__":
    unittest.main()
