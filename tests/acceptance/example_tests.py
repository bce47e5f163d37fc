"""The examples, by scripts of our own that behave as they do; each placement is a test file that mixes this in."""

import os
import re
import time

from examples import BACKEND, SCRIPTS, ExampleProject
from fleet import wait_until

PLAIN_FILES = {"prompt.md", "state.json", "session.log", "output.log"}
STAMP = r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\]"
DAY = 86_400


class Examples(ExampleProject):
    def files(self, folder):
        return {path.name for path in folder.iterdir()}

    def test_example_1_spawn_and_read(self):
        lines = self.script("spawn_and_read.sh")
        session = lines[0].split()[1]
        self.assertEqual(lines, [
            f"spawned: {session}", "ended: COMPLETED", "result: success", "service: running", "dashboard: true",
            "advice: Enable alerting for Prometheus connection failures", "advice: Consider upgrading Grafana to v10.x",
            f"archived: {session}"])
        archived = self.archived(session)
        self.assertEqual(self.files(archived), PLAIN_FILES | {"result.json", "seen.md"})
        task = (self.folder / "tasks/grafana-validation-task.md").read_bytes()
        self.assertEqual((archived / "prompt.md").read_bytes(), task)
        self.assertEqual((archived / "seen.md").read_bytes(), task)
        self.assertIn("grafana: running", (archived / "output.log").read_text())
        log = (archived / "session.log").read_text()
        self.assertRegex(log, rf"^{STAMP} \[INFO\] Session created: {session}\n")
        self.assertRegex(log, rf"{STAMP} \[INFO\] Status: RUNNING → COMPLETED\n$")
        self.assertEqual(list(self.folder.rglob("pwned")), [])
        # Nobody makes it again, and what became of it is still known.
        self.assertEqual(self.status(session)["status"], "COMPLETED")
        self.assertFalse(self.workspace(session).exists())
        self.assert_ran_once_each(1)

    def test_example_1_when_the_validation_fails(self):
        self.service("grafana", "stopped")
        lines = self.script("spawn_and_read.sh")
        self.assertEqual(lines[1:4], ["ended: COMPLETED", "result: failure", "error: grafana service is stopped"])

    def test_example_1_when_the_agent_crashes_without_a_result(self):
        self.agent("grafana-agent", "#!/bin/bash\ncat >/dev/null\nexit 9\n")
        lines = self.script("spawn_and_read.sh")
        self.assertEqual(lines[1:3], ["ended: FAILED", "no result"])
        self.assertRegex("\n".join(lines), rf"{STAMP} \[ERROR\] Exit code: 9\n{STAMP} \[INFO\] Status: RUNNING → FAILED\n")

    def test_example_2_three_side_by_side(self):
        self.run_side_by_side()
        # The same with one that is down: the script's own verdict.
        self.service("traefik", "stopped")
        done = self.run_program(["bash", SCRIPTS / "validate_stack.sh"], check=False)
        self.assertEqual((done.returncode, done.stdout.splitlines()[-1]), (1, "good: 2 of 3"))

    def test_example_3_recovery(self):
        self.service("grafana", "stopped")
        self.assertEqual(self.script("recover.sh"), [
            "first: COMPLETED failure stopped", "recovery: COMPLETED success", "second: COMPLETED success"])
        self.assert_ran_once_each(3)

    def test_example_4_attach_leave_and_come_back(self):
        gate = self.researcher()
        terminal = self.on_terminal("bash", SCRIPTS / "lifecycle.sh")
        self.assertTrue(terminal.read(b"reading about alerting"), terminal.output)
        session = re.search(rb"started: (\S+)", terminal.output)[1].decode()
        self.assertRegex(re.sub("\x1b\\[[0-9]*m", "", terminal.output.decode()), rf"SESSION ID .*\r\n{session}  +researcher-agent  +(CREATED|RUNNING) ")
        self.assertTrue(wait_until(terminal.leave), terminal.output)
        self.assertTrue(terminal.read(b"attach returned: 0"), terminal.output)
        self.assertEqual(self.status(session)["status"], "RUNNING")
        gate.open()
        self.wait_for_status(session, "COMPLETED")
        (self.folder / "awake").touch()
        self.assertEqual(terminal.finish(), 0)
        shown = terminal.output.decode()[terminal.output.decode().index("attach returned"):].replace("\r\n", "\n")
        moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
        for line in (f"Session: {session}", "Agent: researcher-agent", "Status: COMPLETED", f"Created: {moment}",
                     f"Started: {moment}", f"Completed: {moment}", r"Elapsed: (\d+m )?\d+s",
                     rf"Tmux: iw-{session} \(inactive\)", "# Findings", f"archived: {session}"):
            self.assertRegex(shown, rf"(?m)^{line}$")
        self.assertEqual(self.files(self.archived(session)), PLAIN_FILES | {"research-findings.md"})
        self.assert_ran_once_each(1)

    def test_example_5_twice_and_nothing_is_lost(self):
        gate = self.researcher()
        done = [self.create("grafana-agent") for _ in range(2)]
        self.service("prometheus", "missing")
        failed = self.create("prometheus-agent")
        running = self.create("researcher-agent")
        self.wait(*done, failed)
        self.assertEqual(self.state(failed)["status"], "FAILED")
        # An archive that nobody has touched for long, with an old session in it.
        old = self.create("grafana-agent")
        self.wait(old)
        self.workspace(old).rename(self.archived(old))
        kept = {path.name: path.read_bytes() for path in self.archived(old).iterdir()}
        for path in (self.archived(old), self.archived(old).parent):
            os.utime(path, (time.time() - 40 * DAY,) * 2)
        for _ in range(2):
            lines = self.script("bulk.sh", check=False)
            self.assertRegex(lines[0], "^SESSION ID  +AGENT  +STATUS  +STARTED  +ELAPSED$")
            self.assertIn("already terminated (status: FAILED)", lines)
        # "sessions" is what keeps `mv sessions/$EMPTY archive/sessions/` from moving everything.
        kept_there = {name for name in self.files(self.archived(old).parent) if not name.startswith(".")}
        self.assertEqual(kept_there, {*done, f"{old}.tar.gz", "sessions"})
        for session in done:
            self.assertEqual(self.files(self.archived(session)), PLAIN_FILES | {"result.json", "seen.md"})
        self.run_program(["tar", "xzf", self.archived(f"{old}.tar.gz")], cwd=self.folder)
        unpacked = self.folder / "docs/.scratch/archive/sessions" / old
        self.assertEqual({path.name: path.read_bytes() for path in unpacked.iterdir()}, kept)
        self.assertEqual(self.status(old)["status"], "COMPLETED")
        self.assertEqual({self.workspace(failed), self.workspace(running)},
                         set((self.root / "docs/.scratch/sessions").iterdir()))
        gate.open()
        self.assertEqual(self.wait(running), 0)

    def test_example_6_look_at_a_failure_and_watch_it_again(self):
        self.service("prometheus", "missing")
        failed = self.create("prometheus-agent", self.prompt("# Task: find Prometheus\n"))
        self.wait(failed)
        terminal = self.on_terminal("bash", SCRIPTS / "debug.sh", failed)
        self.assertEqual(terminal.finish(), 0)
        shown = terminal.output.decode().replace("\r\n", "\n")
        for words in ('"status": "FAILED"', '"exit_code": 1', '"tmux_active": false',
                      f"[INFO] Session created: {failed}", "[INFO] tmux session started", "[ERROR] Exit code: 1",
                      "[INFO] Status: RUNNING → FAILED", '"prometheus service is missing"', "prometheus: missing",
                      "attach returned: 0"):
            self.assertIn(words, shown)
        again = re.search(r"again: (\S+)", shown)[1]
        self.assertNotEqual(again, failed)
        self.assertIn("Status: FAILED", shown[shown.index("again: "):])
        self.assertEqual((self.workspace(again) / "prompt.md").read_text(), "# Task: find Prometheus\n")
        self.assertEqual(self.state(failed)["status"], "FAILED")

    def test_example_7_a_watchdog_as_the_example_has_it(self):
        gate = self.researcher()
        session = self.create("researcher-agent")
        self.wait_for_status(session, "RUNNING")
        self.configure(MAX_SESSION_LIFETIME_SECONDS=0)
        watchdog = self.root / "scripts/ops/session-watchdog.sh"
        watchdog.write_text((SCRIPTS / "watchdog.sh").read_text())
        watchdog.chmod(0o755)
        self.start_in_background("scripts/ops/session-watchdog.sh")
        self.wait_for_status(session, "KILLED")
        self.assertRegex(self.status(session)["kill_reason"], r"^Timeout \(\d+s\)$")
        self.bash("tail -f logs/orchestrator.log; pkill -f session-watchdog.sh")
        log = (self.root / "logs/orchestrator.log").read_text()
        self.assertRegex(log, rf"\[WARN\] Session timeout: {session} \(\d+s > 0s\)\n")
        # The limit raised and the watchdog started again as the example does it: the next one ends by itself.
        self.configure(MAX_SESSION_LIFETIME_SECONDS=3600)
        self.bash("nohup scripts/ops/session-watchdog.sh > /dev/null 2>&1 &")
        longer = self.create("researcher-agent")
        gate.open()
        self.assertEqual(self.wait(longer), 0)
        self.assertEqual(self.state(longer)["status"], "COMPLETED")
        self.bash("pkill -f session-watchdog.sh")

    def test_a_failed_create_harms_nothing(self):
        """The rest of Examples 1, 4 and 6 with the empty id that a failed create leaves."""
        self.researcher()
        running = self.create("researcher-agent")
        finished = self.create("grafana-agent")
        self.wait(finished)
        self.wait_for_status(running, "RUNNING")
        before = {path: self.files(path) for path in (self.root / "docs/.scratch/sessions").iterdir()}
        rest = r"""
        SESSION_ID=$(scripts/ops/session-manager.sh create no-such-agent "$TASKS/../task.md" 2>&1 | grep "Session created:" | awk '{print $3}')
        echo "id: [$SESSION_ID]"
        scripts/ops/session-manager.sh attach "$SESSION_ID"; echo "attach: $?"
        scripts/ops/session-manager.sh status "$SESSION_ID" --json; echo "status: $?"
        scripts/ops/session-manager.sh kill "$SESSION_ID" --force; echo "kill: $?"
        cat "docs/.scratch/sessions/$SESSION_ID/result.json" "docs/.scratch/sessions/$SESSION_ID/session.log"
        scripts/ops/session-manager.sh create grafana-agent "docs/.scratch/sessions/$SESSION_ID/prompt.md"; echo "create: $?"
        mkdir -p docs/.scratch/archive/sessions/
        mv "docs/.scratch/sessions/$SESSION_ID" "docs/.scratch/archive/sessions/"; echo "mv: $?"
        """
        done = self.run_program(["bash", "-c", rest], check=False)
        self.assertEqual(done.stdout.splitlines(),
                         ["id: []", "attach: 1", "status: 1", "kill: 1", "create: 1", "mv: 1"], done.stderr)
        self.assertEqual({path: self.files(path) for path in (self.root / "docs/.scratch/sessions").iterdir()}, before)
        self.assertEqual(self.state(running)["status"], "RUNNING")
        self.assertIn("no session id given", done.stderr)
        self.assertIn("no-such-agent", (self.root / "logs/orchestrator.log").read_text())


class OneSlotExamples(ExampleProject):
    """Example 8 where one slot has to do for parent and child."""

    slots = 1

    def hand_off(self, backend):
        self.example_agent("backend-agent", BACKEND, backend=backend)
        session = self.create("backend-agent", self.prompt("# Task: Implement API Endpoint\n"))
        self.assertEqual(self.wait(session), 0)
        self.assertEqual(self.result(session)["used"], "component: export const UserList = () => <table/>")
        ran = self.roots_that_ran()
        self.assertEqual(len(ran), 2, ran)
        child = next(each for each in ran if each != session)
        self.assertEqual(self.status(child)["parent_session"], session)
        return session, child

    def test_example_8_as_the_agent_writes_its_own_id(self):
        self.hand_off("$IW_SESSION_ID")

    def test_example_8_as_the_example_has_it_with_an_unset_variable(self):
        self.hand_off("")
