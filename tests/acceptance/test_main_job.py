"""The main job, as a user's scripts drive it: Example 1's behaviour, and what every agent can do to a fleet."""

import pathlib
import re
import subprocess
import unittest

from fleet import FleetCase, alive, wait_until

GRAFANA = """#!/bin/bash
cat >/dev/null
cat >"$IW_RESULT_FILE" <<'JSON'
{"task": "validate-grafana-deployment", "status": "success",
 "findings": {"service_status": "running", "dashboard_accessible": true, "prometheus_connected": true},
 "errors": [], "recommendations": ["Enable alerting for Prometheus connection failures"]}
JSON
"""

SPAWN_WAIT_ARCHIVE = r"""
id=$(scripts/ops/session-manager.sh create grafana-agent "$TASK" 2>&1 | grep "Session created:" | awk '{print $3}')
echo "spawned $id"
until [[ $status == COMPLETED || $status == FAILED || $status == KILLED ]]; do
  status=$(scripts/ops/session-manager.sh status "$id" --json | jq -r .status)
  sleep 0.2
done
echo "complete $status"
jq -r .status "docs/.scratch/sessions/$id/result.json"
mv "docs/.scratch/sessions/$id" docs/.scratch/archive/sessions/
"""


class MainJob(FleetCase):
    def test_spawn_poll_read_archive(self):
        self.agent("grafana-agent", GRAFANA)
        environment = dict(self.environment, TASK=str(self.prompt()))
        lines = self.bash(SPAWN_WAIT_ARCHIVE, env=environment).stdout.split("\n")
        session = lines[0].split()[1]
        self.assertRegex(session, r"^\d{8}-\d{6}-grafana-agent$")
        self.assertEqual(lines[1:3], ["complete COMPLETED", "success"])
        archived = self.root / "docs/.scratch/archive/sessions" / session
        self.assertEqual({p.name for p in archived.iterdir()},
                         {"prompt.md", "state.json", "session.log", "output.log", "result.json"})
        self.assertFalse(self.workspace(session).exists())
        # Nobody makes it again, and its status is still known.
        self.assertEqual(self.status(session)["status"], "COMPLETED")
        self.assertFalse(self.workspace(session).exists())

    def test_create_into_a_pipe_ends_although_it_started_the_fleet(self):
        self.agent("grafana-agent", GRAFANA)
        command = f"scripts/ops/session-manager.sh create grafana-agent {self.prompt()} 2>&1 | cat"
        self.assertIn("Session created: ", self.bash(command, cap=30).stdout)
        self.assertIsNotNone(self.pid_of("broker"))
        self.assertIsNotNone(self.pid_of("worker"))

    def test_files_are_there_when_create_returns(self):
        self.agent("slow-agent", "#!/bin/bash\nmkfifo \"$IW_WORKSPACE/gate\"\nread -r _ <\"$IW_WORKSPACE/gate\"\n")
        session = self.create("slow-agent")
        folder = self.workspace(session)
        for name in ("prompt.md", "state.json", "session.log"):
            self.assertTrue((folder / name).exists(), name)
        self.assertIn(f"[INFO] Session created: {session}", (folder / "session.log").read_text())
        self.manager("kill", session, "--force")
        self.assertEqual(self.state(session)["status"], "KILLED")

    def test_nasty_prompt_arrives_byte_for_byte_and_nothing_in_it_runs(self):
        self.agent("echo-agent", "#!/bin/bash\ncat >\"$IW_WORKSPACE/seen\"\n")
        unit = "it's \"q\" `touch pwned` $(touch pwned) #{pane_pid} ;\r\nend;\n\U0001F600 \\ %d %Y\n"
        text = (unit * (1 + (1 << 20) // len(unit.encode()))).encode()[:1 << 20]
        text = text.decode(errors="ignore").encode()
        session = self.create("echo-agent", self.prompt(text))
        self.assertEqual(self.wait(session), 0)
        self.assertEqual((self.workspace(session) / "prompt.md").read_bytes(), text)
        self.assertEqual((self.workspace(session) / "seen").read_bytes(), text)
        self.assertEqual(list(self.folder.rglob("pwned")), [])

    def test_many_submitters_few_slots_each_agent_once(self):
        self.run_many(sessions=60, submitters=4, kills=())

    def test_many_sessions_while_broker_and_worker_are_killed(self):
        self.run_many(sessions=60, submitters=4, kills=("broker", "worker", "broker", "worker"))

    def run_many(self, sessions, submitters, kills):
        record = self.folder / "record"
        self.agent("count-agent",
                   f"#!/bin/bash\necho \"start $IW_SESSION_ID\" >>{record}\nsleep 0.1\necho \"end $IW_SESSION_ID\" >>{record}\n")
        task = self.prompt()
        self.ictl("up")
        script = f"for i in $(seq {sessions // submitters}); do scripts/ops/session-manager.sh create count-agent {task}; done"
        shells = [subprocess.Popen(["bash", "-c", script], cwd=self.root, env=self.environment, text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                  for _ in range(submitters)]
        for number, half in enumerate(kills):
            ended = lambda: record.exists() and record.read_text().count("end ") >= (number + 1) * sessions // (len(kills) + 2)
            wait_until(ended)
            self.kill_half(half)
            self.ictl("up")
        ids = []
        for shell in shells:
            out, err = shell.communicate(timeout=120)
            self.assertEqual(shell.returncode, 0, err)
            ids += re.findall(r"^Session created: (\S+)", out, re.M)
        self.assertEqual(len(set(ids)), sessions)
        self.assertEqual(self.wait(*ids), 0)
        lines = record.read_text().split("\n")[:-1]
        for word in ("start", "end"):
            self.assertEqual(sorted(line.split()[1] for line in lines if line.startswith(word + " ")), sorted(ids))
        running = most = 0
        for line in lines:
            running += 1 if line.startswith("start") else -1
            most = max(most, running)
        self.assertLessEqual(most, self.slots)


class Endings(FleetCase):
    """Each way in which an agent can end, its status, its reason, and what it leaves: nothing."""

    def run_agent(self, body, **options):
        self.agent("a-agent", body, **options)
        session = self.create("a-agent")
        self.wait(session)
        return session, self.status(session)

    def assert_nothing_left(self, session):
        needle = f"IW_SESSION_ID={session}".encode()
        left = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and needle in (entry / "environ").read_bytes() and alive(entry.name):
                    left.append((entry / "cmdline").read_bytes())
            except OSError:
                continue
        self.assertEqual(left, [])

    def test_exit_code(self):
        session, status = self.run_agent("#!/bin/bash\nexit 3\n")
        self.assertEqual((status["status"], status["detail"], status["exit_code"]), ("FAILED", "exited", 3))
        log = (self.workspace(session) / "session.log").read_text()
        self.assertIn("[ERROR] Exit code: 3\n", log)
        self.assertIn("[INFO] Status: RUNNING → FAILED\n", log)

    def test_signal(self):
        _, status = self.run_agent("#!/bin/bash\nkill -SEGV $$\n")
        self.assertEqual((status["status"], status["detail"], status["exit_code"]), ("FAILED", "signal", 139))

    def test_no_command(self):
        _, status = self.run_agent("#!/no/such/interpreter\n")
        self.assertEqual((status["status"], status["detail"]), ("FAILED", "start-failed"))
        self.assertIn("run", status["reason"])

    def test_not_executable(self):
        _, status = self.run_agent("#!/bin/bash\n", mode=0o644)
        self.assertEqual((status["status"], status["detail"]), ("FAILED", "start-failed"))

    def test_grandchild_on_the_terminal_and_one_that_left_it(self):
        session, status = self.run_agent("#!/bin/bash\n(trap '' HUP TERM; sleep 300) &\nsetsid nohup sleep 300 >/dev/null 2>&1 &\nexit 0\n")
        self.assertEqual(status["status"], "COMPLETED")
        self.assert_nothing_left(session)

    def test_closed_terminal_descriptors(self):
        session, status = self.run_agent("#!/bin/bash\nexec <&- >&- 2>&-\n/bin/true\nexit 0\n")
        self.assertEqual(status["status"], "COMPLETED")
        self.assert_nothing_left(session)

    def test_output_is_bounded_and_its_end_is_kept(self):
        session, status = self.run_agent("#!/bin/bash\nyes 0123456789012345678901234567890123456789 | head -c 100000000\necho; echo the very end\n")
        self.assertEqual(status["status"], "COMPLETED")
        logs = [path for path in self.workspace(session).iterdir() if path.name.startswith("output.log")]
        self.assertLess(sum(path.stat().st_size for path in logs), 40 << 20)
        self.assertIn("the very end", (self.workspace(session) / "output.log").read_text()[-200:])

    def test_kill_of_the_tmux_server_reaches_no_other_session(self):
        self.agent("other-agent", "#!/bin/bash\nuntil [[ -e $IW_WORKSPACE/go ]]; do sleep 0.1; done\n")
        other = self.create("other-agent")
        self.assertTrue(wait_until(lambda: self.state(other)["status"] == "RUNNING"))
        _, status = self.run_agent("#!/bin/bash\ntmux kill-server\nexit 0\n")
        self.assertEqual(status["status"], "COMPLETED")
        (self.workspace(other) / "go").touch()
        self.assertEqual(self.wait(other), 0)

    def test_ignoring_term(self):
        self.agent("a-agent", "#!/bin/bash\ntrap '' TERM\nwhile :; do sleep 0.2; done\n")
        session = self.create("a-agent")
        self.assertTrue(wait_until(lambda: self.state(session)["status"] == "RUNNING"))
        self.manager("kill", session, "--force", "--reason=enough")
        status = self.status(session)
        self.assertEqual((status["status"], status["detail"], status["kill_reason"]), ("KILLED", "killed", "enough"))
        self.assert_nothing_left(session)
        again = self.manager("kill", session, "--force")
        self.assertIn("already terminated (status: KILLED)", again.stdout + again.stderr)

    def test_lifetime(self):
        config = self.root / "scripts/ops/config.sh"
        config.write_text(config.read_text().replace("=1800", "=1"))
        session, status = self.run_agent("#!/bin/bash\nsleep 300\n")
        self.assertEqual((status["status"], status["detail"]), ("KILLED", "timeout"))
        self.assertRegex(status["kill_reason"], r"^Timeout \(\d+s\)$")
        log = (self.root / "logs/orchestrator.log").read_text()
        self.assertRegex(log, rf"\[WARN\] Session timeout: {session} \(\d+s > 1s\)")
        self.assert_nothing_left(session)


class Restarts(FleetCase):
    def test_worker_adopts_what_runs_and_reports_what_ended(self):
        self.agent("gate-agent", "#!/bin/bash\necho run >>\"$IW_WORKSPACE/runs\"\nuntil [[ -e $IW_WORKSPACE/go ]]; do sleep 0.1; done\n")
        ids = [self.create("gate-agent") for _ in range(4)]
        for session in ids:
            self.assertTrue(wait_until(lambda: (self.workspace(session) / "runs").exists()))
        self.kill_half("worker")
        (self.workspace(ids[0]) / "go").touch()
        self.ictl("up")
        self.assertEqual(self.wait(ids[0]), 0)
        for session in ids[1:]:
            self.assertEqual(self.state(session)["status"], "RUNNING")
            (self.workspace(session) / "go").touch()
        self.assertEqual(self.wait(*ids), 0)
        for session in ids:
            self.assertEqual((self.workspace(session) / "runs").read_text(), "run\n")

    def test_down_leaves_agents_running_and_up_adopts_them(self):
        self.agent("gate-agent", "#!/bin/bash\nuntil [[ -e $IW_WORKSPACE/go ]]; do sleep 0.1; done\n")
        session = self.create("gate-agent")
        self.assertTrue(wait_until(lambda: self.state(session)["status"] == "RUNNING"))
        self.ictl("down")
        self.assertIsNone(self.pid_of("worker"))
        (self.workspace(session) / "go").touch()
        # The session manager starts what is missing by itself.
        self.assertIn(self.status(session)["status"], ("RUNNING", "COMPLETED"))
        self.assertEqual(self.wait(session), 0)


class Refusals(FleetCase):
    """Bad input: one line on stderr that names the thing, the documented code, nothing changed."""

    def refused(self, code, word, *arguments):
        done = self.manager(*arguments, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(len(done.stderr.strip().split("\n")), 1, done.stderr)
        self.assertIn(word, done.stderr)

    def test_table(self):
        self.agent("grafana-agent", GRAFANA)
        task = self.prompt()
        self.create("grafana-agent")
        before = self.ictl("list", "--json").stdout.count("session_id")
        unreadable = self.folder / "none.md"
        cases = [
            (1, "no session id given", "status", ""),
            (1, "no session id given", "kill", "", "--force"),
            (1, "grafana-agent", "create", "grafana-agnt", task),
            (1, "none.md", "create", "grafana-agent", unreadable),
            (1, "empty", "create", "grafana-agent", self.prompt("", "empty.md")),
            (1, "2 MiB", "create", "grafana-agent", self.prompt("x" * ((2 << 20) + 1), "long.md")),
            (1, "20990101-000000-x", "status", "20990101-000000-x"),
            (1, "DONE", "list", "--status=DONE"),
            (1, "create", "crate", "grafana-agent", task),
        ]
        for code, word, *arguments in cases:
            with self.subTest(arguments=[str(a)[-40:] for a in arguments]):
                self.refused(code, word, *arguments)
        self.assertEqual(self.ictl("list", "--json").stdout.count("session_id"), before)
        self.assertIn("grafana-agnt", (self.root / "logs/orchestrator.log").read_text())


if __name__ == "__main__":
    unittest.main(verbosity=2)
