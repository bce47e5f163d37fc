"""The session contract, "session-manager.sh": one test a rule."""

import json
import os
import pathlib
import re
import signal
import subprocess
import unittest

from contract import DONE, MOMENT, ContractCase
from fleet import Fleet, FleetCase, SharedFleetCase, alive, wait_until
from on_terminal import CTRL_C, OnTerminal
from placement import Workers


class Commands(ContractCase):
    def test_create_prints_one_line_that_begins_with_session_created(self):
        output = self.manager("create", "done-agent", self.prompt()).stdout
        self.assertEqual(output.count("Session created:"), 1)
        first, *others = output.splitlines()
        session = first.split()[2]
        self.assertTrue(first.startswith(f"Session created: {session}"))
        self.assertEqual([line.split(":")[0] for line in others], ["Workspace", "Tmux", "Attach"])
        for words in (f"docs/.scratch/sessions/{session}", f"iw-{session}", f"attach {session}"):
            self.assertIn(words, output)

    def test_create_status_list_and_kill_force_never_read_stdin(self):
        session, _ = self.gated()
        for arguments in (["create", "done-agent", self.prompt()], ["status", session], ["list"], ["kill", session, "--force"]):
            script = 'printf "one\\ntwo\\n" | { scripts/ops/session-manager.sh "$@" >/dev/null; cat; }'
            left = self.run_program(["bash", "-c", script, "-", *map(str, arguments)]).stdout
            self.assertEqual(left, "one\ntwo\n", arguments)

    def test_status_has_its_lines(self):
        session = self.ended("fail-agent")
        lines = self.manager("status", session).stdout.splitlines()
        expected = (f"Session: {session}", "Agent: fail-agent", "Status: FAILED", f"Created: {MOMENT}", f"Started: {MOMENT}",
                    f"Completed: {MOMENT}", r"Elapsed: \d+s", "Exit code: 3", None, rf"Tmux: iw-{session} \(inactive\)",
                    f"Workspace: {self.workspace(session)}")
        patterns = [pattern for pattern in expected if pattern]
        shown = [line for line in lines if any(re.fullmatch(pattern, line) for pattern in patterns)]
        self.assertEqual(len(shown), len(patterns), lines)
        for line, pattern in zip(shown, patterns):
            self.assertRegex(line, f"^{pattern}$")
        # The moments are those of state.json, in UTC.
        state = self.state(session)
        self.assertIn(f"Created: {state['created_at'].replace('T', ' ').rstrip('Z')}", lines)

    def test_status_of_a_running_one(self):
        session, _ = self.gated()
        shown = self.manager("status", session).stdout
        self.assertIn(f"Tmux: iw-{session} (active)\n", shown)
        self.assertNotIn("Completed:", shown)

    def test_list_is_sorted_aligned_and_plain(self):
        ids = [self.ended(), self.ended("fail-agent")]
        waiting = self.ictl("submit", "done-agent", self.prompt(), "--delay", "1h").stdout.strip()
        self.addCleanup(self.end, waiting)
        lines = self.manager("list").stdout.splitlines()
        header = lines[0]
        self.assertEqual(header.split("  ")[0], "SESSION ID")
        columns = [header.index(name) for name in ("AGENT", "STATUS", "STARTED", "ELAPSED")]
        for line in lines[1:]:
            for column in columns:
                self.assertEqual(line[column - 2:column], "  ", line)
                self.assertNotEqual(line[column], " ", line)
        rows = {row[0]: row for row in self.rows()}
        self.assertEqual(rows[waiting], [waiting, "done-agent", "CREATED", "-", "-"])
        self.assertRegex(rows[ids[1]][3], r"^\d{4}-\d\d-\d\d \d\d:\d\d$")
        self.assertRegex(rows[ids[1]][4], r"^\d+s$")
        order = [row[0] for row in self.rows() if row[0] in (*ids, waiting)]
        self.assertEqual(order, [*ids, waiting])
        # As scripts read it.
        names = self.bash("scripts/ops/session-manager.sh list --status=FAILED | tail -n +2 | awk '{print $1}'").stdout.split()
        self.assertIn(ids[1], names)
        self.assertNotIn(ids[0], names)

    def test_list_shows_the_header_alone_when_there_is_nothing(self):
        other = self.folder / "empty"
        self.ictl("init", other)
        self.addCleanup(self.ictl, "down", "--kill", cwd=other)
        listed = self.run_program(["scripts/ops/session-manager.sh", "list"], cwd=other).stdout
        self.assertEqual(re.split("  +", listed.strip()), ["SESSION ID", "AGENT", "STATUS", "STARTED", "ELAPSED"])

    def test_list_leaves_out_what_is_archived_unless_all_is_asked_for(self):
        session = self.ended()
        self.run_program(["mv", self.workspace(session), self.root / "docs/.scratch/archive/sessions/"])
        self.assertNotIn(session, [row[0] for row in self.rows()])
        self.assertIn(session, [row[0] for row in self.rows("--all")])

    def test_status_and_list_never_lag_behind_what_was_told(self):
        for _ in range(5):
            session, _ = self.gated(running=False)
            self.assertIn(self.status(session)["status"], ("CREATED", "RUNNING"))
            self.assertIn(session, [row[0] for row in self.rows()])
            self.manager("kill", session, "--force")
            self.assertEqual(self.state(session)["status"], "KILLED")
            self.assertEqual(self.status(session)["status"], "KILLED")
            self.assertIn([session, "KILLED"], [[row[0], row[2]] for row in self.rows("--status=KILLED")])

    def test_kill_asks_first_without_force(self):
        session, _ = self.gated()
        self.refused(1, "--force", "kill", session)
        asked = self.on_terminal("scripts/ops/session-manager.sh", "kill", session)
        self.assertTrue(asked.read(b"?"), asked.output)
        asked.write(b"n\n")
        self.assertEqual(asked.finish(), 1)
        self.assertEqual(self.status(session)["status"], "RUNNING")
        asked = self.on_terminal("scripts/ops/session-manager.sh", "kill", session, "--reason=asked twice")
        self.assertTrue(asked.read(b"?"), asked.output)
        asked.write(b"y\n")
        self.assertEqual(asked.finish(), 0, asked.output)
        self.assertEqual(self.status(session)["kill_reason"], "asked twice")

    def test_attach_without_a_terminal_is_refused(self):
        session, _ = self.gated()
        self.refused(1, "terminal", "attach", session)
        on_one_side = self.on_terminal("bash", "-c", f"scripts/ops/session-manager.sh attach {session} >/dev/null")
        self.assertEqual(on_one_side.finish(), 1)
        self.assertIn(b"terminal", on_one_side.output)

    def test_attach_waits_for_the_start_and_ctrl_c_leaves_it_queued(self):
        session = self.ictl("submit", "done-agent", self.prompt(), "--delay", "1h").stdout.strip()
        self.addCleanup(self.end, session)
        attached = self.on_terminal("scripts/ops/session-manager.sh", "attach", session)
        self.assertTrue(attached.read(b"delayed"), attached.output)
        attached.write(CTRL_C)
        self.assertEqual(attached.finish(), 130)
        self.assertEqual(self.status(session)["status"], "CREATED")

    def test_attach_returns_with_the_status_when_the_agent_ends(self):
        session, gate = self.gated(code=4)
        attached = self.on_terminal("scripts/ops/session-manager.sh", "attach", session)
        self.assertTrue(attached.read(b"waiting"), attached.output)
        gate.open()
        self.assertEqual(attached.finish(), 0, attached.output)
        self.assertIn(b"Status: FAILED", attached.output)

    def test_errors_go_to_stderr_and_codes_are_0_1_2_130(self):
        for arguments in ([], ["frobnicate"], ["status"], ["status", "a", "b"], ["list", "--status=DONE"], ["list", "--colour"],
                          ["create", "done-agent"], ["status", "20990101-000000-x"]):
            done = self.manager(*arguments, check=False)
            self.assertEqual(done.returncode, 1, arguments)
            if arguments:
                self.assertEqual((done.stdout, len(done.stderr.splitlines())), ("", 1), arguments)

    def test_ictl_is_found_by_its_variable_then_the_path_then_where_init_was_run(self):
        calls = self.folder / "calls"
        for name in ("named", "on-path"):
            wrapper = self.folder / name / "ictl"
            wrapper.parent.mkdir()
            wrapper.write_text(f'#!/bin/bash\necho {name} >>{calls}\nexec {self.environment["PATH"].split(":")[0]}/ictl "$@"\n')
            wrapper.chmod(0o755)
        plain = dict(self.environment, PATH="/usr/local/bin:/usr/bin:/bin")
        on_path = dict(plain, PATH=f"{self.folder}/on-path:{plain['PATH']}")
        self.manager("list", env=dict(on_path, IW_CFG_ICTL=f"{self.folder}/named/ictl"))
        self.assertEqual(calls.read_text(), "named\n")
        self.manager("list", env=on_path)
        self.assertEqual(calls.read_text(), "named\non-path\n")
        self.manager("list", env=plain)
        self.assertEqual(calls.read_text(), "named\non-path\n")
        self.assertIn(".ictl-path", (self.root / "scripts/ops/.gitignore").read_text().split())


class EmbeddedFleet(FleetCase):
    """What the session manager starts by itself, and how."""

    def setUp(self):
        super().setUp()
        self.agent("done-agent", DONE)

    def test_what_is_left_running_has_nothing_of_the_caller(self):
        self.agent("wait-agent", "#!/bin/bash\ncat >/dev/null\nexec /bin/sleep 1000\n")
        canary = self.folder / "canary"
        environment = dict(self.environment, IW_SESSION="x", IW_PARENT_SESSION="y", IW_CFG_WORKER_LOG_LEVEL="debug")
        with open(canary, "w", encoding="utf-8") as held:
            output = self.manager("create", "wait-agent", self.prompt(), env=environment, pass_fds=[held.fileno()]).stdout
        session = output.split()[2]
        self.assertTrue(wait_until(lambda: self.state(session)["status"] == "RUNNING"))
        socket = self.fleet_folder() / "worker/tmux.sock"
        tmux = int(subprocess.run(["tmux", "-S", socket, "display-message", "-p", "#{pid}"], check=True, capture_output=True,
                                  text=True).stdout)
        for pid in (self.pid_of("broker"), self.pid_of("worker"), tmux):
            process = pathlib.Path(f"/proc/{pid}")
            self.assertNotEqual(os.getsid(pid), os.getsid(0))
            variables = [word.split(b"=")[0].decode() for word in (process / "environ").read_bytes().split(b"\0") if word]
            # The one that tmux has is its own: where launchers find the worker's folder.
            own = {"IW_WORKER_STATE"} if pid == tmux else set()
            self.assertEqual({name for name in variables if name.startswith("IW_") and not name.startswith("IW_CFG_")}, own)
            opened = [os.readlink(each) for each in (process / "fd").iterdir()]
            self.assertNotIn(str(canary), opened)
            self.assertFalse(any("pipe:" in each and number in ("0", "1", "2")
                                 for number, each in ((each.name, os.readlink(each)) for each in (process / "fd").iterdir())))
        self.manager("kill", session, "--force")

    def test_two_that_start_it_at_once_are_serialised(self):
        command = ["scripts/ops/session-manager.sh", "create", "done-agent", str(self.prompt())]
        both = [subprocess.Popen(command, cwd=self.root, env=self.environment, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
        ids = []
        for each in both:
            out, err = each.communicate(timeout=60)
            self.assertEqual(each.returncode, 0, err)
            ids.append(out.split()[2])
        self.assertEqual(len(set(ids)), 4)
        self.assertEqual(self.wait(*ids), 0)
        worker = self.ictl("workers", "--json").stdout
        self.assertEqual([each["start_count"] for each in json.loads(worker)["workers"]], [1])

    def test_every_command_starts_whichever_half_is_not_running(self):
        session = self.create("done-agent")
        self.wait(session)
        for half, arguments in (("broker", ["list"]), ("worker", ["status", session]), ("broker", ["kill", session, "--force"]),
                                ("worker", ["create", "done-agent", self.prompt()])):
            self.kill_half(half)
            self.manager(*arguments)
            for name in ("broker", "worker"):
                self.assertTrue(alive(self.pid_of(name)), f"{name} after {arguments[0]}")

    def test_a_session_that_the_broker_has_forgotten_is_answered_from_its_files(self):
        standing, archived, packed, packed_there = ids = [self.create("done-agent") for _ in range(4)]
        self.wait(*ids)
        archive = "docs/.scratch/archive/sessions"
        for session in (archived, packed, packed_there):
            self.run_program(["mv", self.workspace(session), self.root / archive])
        # Compressed as Example 5 does it, and by somebody who stood in the archive.
        self.bash(f"tar czf {archive}/{packed}.tar.gz {archive}/{packed} && rm -rf {archive}/{packed}")
        self.bash(f"cd {archive} && tar czf {packed_there}.tar.gz {packed_there} && rm -rf {packed_there}")
        self.ictl("down")
        (self.fleet_folder() / "broker").rename(self.folder / "old-broker")
        for session in ids:
            shown = self.status(session)
            self.assertEqual((shown["session_id"], shown["status"]), (session, "COMPLETED"))
            self.assertIn("Status: COMPLETED\n", self.manager("status", session).stdout)


class ConfiguredBroker(SharedFleetCase):
    """A broker of the fleet, which nobody starts by the way."""

    placement = Workers("project")

    @classmethod
    def prepare(cls, fleet):
        fleet.agent("done-agent", DONE)

    def broker(self):
        return self.processes["broker"]

    def restart(self):
        self.placement.launch(self, "broker", "--data-dir", self.folder / "state/broker", "--endpoint",
                              self.environment["IW_CFG_BROKER_ENDPOINT"], "--segment-size", 16 << 20)
        self.assertTrue(wait_until(lambda: self.placement.all_up(self)))

    def test_no_embedded_fleet_is_started(self):
        self.wait(self.create("done-agent"))
        self.assertIsNone(self.pid_of("broker"))
        self.assertEqual(list(self.folder.glob("state/fleets/*/broker.log")), [])

    def test_create_rides_out_a_restart_of_the_broker(self):
        prompt = self.prompt("ride it out\n")
        self.broker().kill()
        self.broker().wait()
        with subprocess.Popen(["scripts/ops/session-manager.sh", "create", "done-agent", str(prompt)], cwd=self.root,
                              env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as creating:
            self.restart()
            out, err = creating.communicate(timeout=60)
        self.assertEqual(creating.returncode, 0, err)
        session = re.search(r"^Session created: (\S+)", out, re.M)[1]
        self.assertEqual(self.wait(session), 0)
        same = [path for path in (self.root / "docs/.scratch/sessions").iterdir()
                if (path / "prompt.md").read_text() == "ride it out\n"]
        self.assertEqual([path.name for path in same], [session])

    def test_status_without_a_broker_is_the_last_known_state(self):
        session = self.create("done-agent")
        self.wait(session)
        self.broker().send_signal(signal.SIGSTOP)
        # What the session manager hands over to, with less patience than its 60 s.
        asked = self.ictl("--project", self.root, "--patience", "1s", "manager", "status", session, "--json")
        self.broker().send_signal(signal.SIGCONT)
        state = json.loads(asked.stdout)
        self.assertEqual((state["status"], state["stale"]), ("COMPLETED", True))
        self.assertEqual(len(asked.stderr.splitlines()), 1)
        self.assertIn("--patience 60s", (self.root / "scripts/ops/session-manager.sh").read_text())
        self.assertNotIn("stale", self.status(session))

    def test_a_kill_at_a_silent_host_that_is_interrupted_stays_a_wish(self):
        self.agent("wait-agent", "#!/bin/bash\ncat >/dev/null\nexec /bin/sleep 1000\n")
        session = self.create("wait-agent")
        self.assertTrue(wait_until(lambda: self.state(session)["status"] == "RUNNING"))
        worker = self.processes["project"]
        worker.send_signal(signal.SIGSTOP)
        asked = OnTerminal(["scripts/ops/session-manager.sh", "kill", session, "--force"], self.root, self.environment)
        self.addCleanup(asked.close)
        shown = lambda: json.loads(self.ictl("status", session, "--json").stdout)["detail"]
        self.assertTrue(wait_until(lambda: shown() == "stopping"))
        asked.write(CTRL_C)
        self.assertEqual(asked.finish(), 130)
        worker.send_signal(signal.SIGCONT)
        self.assertEqual(self.wait(session), 2)
        self.assertEqual(self.status(session)["detail"], "killed")


class TheLastWord(unittest.TestCase):
    """A kill waits a minute for a silent host, beside all other tests of this file; unittest runs classes by name."""

    def test_kill_at_a_silent_host_is_not_confirmed_yet(self):
        out, err = SILENT.killing.communicate(timeout=120)
        self.assertEqual((SILENT.killing.returncode, out), (2, ""), err)
        self.assertIn("not confirmed yet", err)
        # The wish stays.
        SILENT.processes["project"].send_signal(signal.SIGCONT)
        self.assertEqual(SILENT.wait(SILENT.session), 2)
        self.assertEqual(SILENT.status(SILENT.session)["detail"], "killed")


class SilentHost(Fleet):
    placement = Workers("project")

    def begin(self):
        self.agent("wait-agent", "#!/bin/bash\ncat >/dev/null\nexec /bin/sleep 1000\n")
        self.session = self.create("wait-agent")
        wait_until(lambda: self.state(self.session)["status"] == "RUNNING")
        self.processes["project"].send_signal(signal.SIGSTOP)
        self.killing = subprocess.Popen(  # pylint: disable=consider-using-with
            ["scripts/ops/session-manager.sh", "kill", self.session, "--force"], cwd=self.root, env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


SILENT = SilentHost()


def setUpModule():
    SILENT.open()
    unittest.addModuleCleanup(SILENT.close)
    SILENT.begin()


if __name__ == "__main__":
    unittest.main()
