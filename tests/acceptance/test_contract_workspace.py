"""The session contract, "Project and workspace": one test a rule."""

import json
import os
import unittest

from contract import STAMP, UTC, ContractCase, processes_of
from fleet import FINAL, FleetCase, wait_until

FIELDS = """session_id agent status detail created_at started_at completed_at elapsed_seconds exit_code reason kill_reason
            tmux_session tmux_active host attempt workspace task_prompt_file result_file result_status parent_session retry_of
            tags metadata""".split()
# Leaves a result, a large log and another file, all in its last moment.
BUSY = """#!/bin/bash
cat >/dev/null
(trap '' HUP TERM; /bin/sleep 1000) &
yes "a line of the log" | head -n 20000
head -c 3000000 /dev/zero >"$IW_WORKSPACE/large.bin"
echo '{"status": "success"}' >"$IW_RESULT_FILE"
echo "the very end"
"""
DUMP = """#!/bin/bash
cat >/dev/null
pwd >"$IW_WORKSPACE/pwd"
command -v ictl >"$IW_WORKSPACE/ictl"
env | grep '^IW_' >"$IW_WORKSPACE/env"
"""


def content(folder):
    """Every file below a folder, with what tells a rewrite."""
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
            for path in folder.rglob("*") if path.is_file()}


class Project(ContractCase):
    def test_it_is_found_from_the_scripts_real_path_and_never_from_the_current_folder(self):
        session = self.ended()
        link = self.folder / "manager"
        link.symlink_to(self.root / "scripts/ops/session-manager.sh")
        other = self.folder / "other"
        self.ictl("init", other)
        for cwd in ("/", other):
            listed = self.run_program([link, "list"], cwd=cwd).stdout
            self.assertIn(session, listed)
        self.assertEqual(list((other / "docs/.scratch/sessions").iterdir()), [])

    def test_the_agent_starts_in_the_root_and_paths_are_absolute(self):
        self.agent("dump-agent", DUMP)
        session = self.ended("dump-agent")
        workspace = self.workspace(session)
        self.assertEqual((workspace / "pwd").read_text(), f"{self.root}\n")
        self.assertTrue(os.access((workspace / "ictl").read_text().strip(), os.X_OK))
        variables = dict(line.split("=", 1) for line in (workspace / "env").read_text().splitlines())
        self.assertEqual(variables["IW_PROJECT_ROOT"], str(self.root))
        self.assertEqual(variables["IW_WORKSPACE"], str(workspace))
        self.assertEqual(variables["IW_PROMPT_FILE"], str(workspace / "prompt.md"))
        self.assertEqual(variables["IW_RESULT_FILE"], str(workspace / "result.json"))

    def test_ictl_finds_it_upwards_or_where_it_is_told(self):
        session = self.ended()
        below = self.root / "agents/done-agent"
        self.assertIn(session, self.ictl("list", cwd=below).stdout)
        self.assertIn(session, self.ictl("--project", self.root, "list", cwd="/").stdout)

    def test_its_name_on_the_wire_is_the_folders_own_by_default(self):
        self.assertEqual((self.root / "scripts/ops/project-name").read_text(), "project\n")
        worker = json.loads(self.ictl("workers", "--json").stdout)["workers"][0]
        self.assertEqual((worker["project"], worker["root"]), ("project", str(self.root)))

    def test_an_embedded_fleet_belongs_to_one_root(self):
        session = self.ended()
        other = self.folder / "neighbour"
        self.ictl("init", other)
        listed = self.run_program(["scripts/ops/session-manager.sh", "list"], cwd=other).stdout
        self.addCleanup(self.ictl, "down", "--kill", cwd=other)
        self.assertEqual(len(listed.splitlines()), 1, listed)
        done = self.run_program(["scripts/ops/session-manager.sh", "status", session], cwd=other, check=False)
        self.assertEqual(done.returncode, 1)


class Folders(FleetCase):
    def test_every_command_makes_what_a_clone_does_not_have(self):
        paths = ("docs/.scratch/sessions", "docs/.scratch/archive/sessions", "logs/orchestrator.log")
        commands = (["list"], ["status", "x"], ["kill", "x", "--force"], ["attach", "x"], ["create", "a", "b"], ["init"])
        for command in commands:
            self.run_program(["rm", "-rf", "docs", "logs"])
            self.manager(*command, check=False)
            for path in paths:
                self.assertTrue((self.root / path).exists(), f"{path} after {command[0]}")

    def test_init_overwrites_nothing(self):
        (self.root / "logs/orchestrator.log").write_text("kept\n")
        (self.root / "scripts/ops/session-manager.sh").write_text("# mine\n")
        self.configure(MAX_SESSION_LIFETIME_SECONDS=77)
        before = content(self.root)
        self.ictl("init")
        after = content(self.root)
        # The place of ictl is of this machine and written anew each time; nobody else's file is.
        for files in (before, after):
            files.pop("scripts/ops/.ictl-path")
        self.assertEqual(after, before)

    def test_every_command_touches_the_archive(self):
        archive = self.root / "docs/.scratch/archive/sessions"
        for command in (["list"], ["status", "x"], ["kill", "x", "--force"], ["attach", "x"], ["create", "a", "b"]):
            os.utime(archive, (1, 1))
            self.manager(*command, check=False)
            self.assertGreater(archive.stat().st_mtime, 1_000_000_000, command[0])


class Workspace(ContractCase):
    def test_files_and_their_writers(self):
        self.agent("busy-agent", BUSY)
        prompt = self.prompt("# Task\r\nno newline at the end: \u00e9")
        session = self.create("busy-agent", prompt)
        self.assertEqual(self.wait(session), 0)
        workspace = self.workspace(session)
        self.assertEqual({path.name for path in workspace.iterdir()},
                         {"prompt.md", "state.json", "session.log", "output.log", "result.json", "large.bin"})
        self.assertEqual((workspace / "prompt.md").read_bytes(), prompt.read_bytes())

    def test_session_log_of_one_life(self):
        session = self.ended("fail-agent")
        expected = (f"INFO Session created: {session}", "INFO tmux session started", "INFO Status: CREATED → RUNNING",
                    "ERROR Exit code: 3", "INFO Status: RUNNING → FAILED")
        lines = self.log(session).splitlines()
        for line in lines:
            self.assertRegex(line, rf"^{STAMP} \[(INFO|WARN|ERROR)\] ")
        self.assertEqual(tuple(line[23:].replace("[", "").replace("]", "", 1) for line in lines), expected)
        self.assertIn("[INFO] Exit code: 0\n", self.log(self.ended()))

    def test_the_global_log_holds_all_operations(self):
        session = self.ended()
        killed, _ = self.gated()
        self.manager("kill", killed, "--force", "--reason=of no use")
        self.refused(1, "no-such-agent", "create", "no-such-agent", self.prompt())
        log = self.global_log()
        for line in log.splitlines():
            self.assertRegex(line, rf"^{STAMP} \[(INFO|WARN|ERROR)\] ")
        for words in (f"Session created: {session}", f"Session started: {session}", f"Session ended: {session} COMPLETED",
                      f"Session ended: {killed} KILLED (of no use)"):
            self.assertIn(words, log)
        self.assertRegex(log, r"\[WARN\] Create refused: no-such-agent: .+")

    def test_running_is_never_overwritten_by_created(self):
        """Agents that end at once race with the create that makes the files."""
        ids = [self.create("done-agent") for _ in range(12)]
        self.assertEqual(self.wait(*ids), 0)
        for session in ids:
            self.assertEqual(self.state(session)["status"], "COMPLETED")
            self.assertEqual(self.log(session).count("Session created: "), 1)
            self.assertEqual(self.log(session).count("CREATED → RUNNING"), 1)

    def test_a_final_status_means_that_the_workspace_is_complete(self):
        self.agent("busy-agent", BUSY)
        session = self.create("busy-agent")
        path = self.workspace(session) / "state.json"
        while json.loads(path.read_text())["status"] not in FINAL:
            pass  # looks as often as it can: the first sight is what counts
        first = content(self.workspace(session))
        self.assertEqual(processes_of(session), [])
        self.assertEqual(len(first["large.bin"][0]), 3_000_000)
        self.assertTrue(first["output.log"][0].rstrip().endswith(b"the very end"))
        self.assertEqual(json.loads(first["result.json"][0]), {"status": "success"})
        self.assertIn("Status: RUNNING → COMPLETED", first["session.log"][0].decode())
        # Nobody writes there again.
        self.status(session)
        self.rows("--all")
        self.ended()
        self.assertEqual(content(self.workspace(session)), first)

    def test_a_missing_final_workspace_is_never_made_again(self):
        gone, moved = self.ended(), self.ended()
        self.run_program(["rm", "-rf", self.workspace(gone)])
        self.run_program(["mv", self.workspace(moved), self.root / "docs/.scratch/archive/sessions/"])
        for session in (gone, moved):
            self.assertEqual(self.status(session)["status"], "COMPLETED")
        self.rows()
        self.kill_half("worker")
        self.ictl("up")
        self.ended()
        for session in (gone, moved):
            self.assertFalse(self.workspace(session).exists())

    def test_a_running_one_that_is_moved_is_made_again_and_the_copy_left_alone(self):
        session, gate = self.gated()
        copy = self.root / "docs/.scratch/archive/sessions" / session
        self.run_program(["mv", self.workspace(session), copy])
        before = content(copy)
        self.assertTrue(wait_until((self.workspace(session) / "state.json").exists))
        self.assertTrue(wait_until(lambda: "[WARN]" in self.log(session)))
        self.assertEqual(self.state(session)["status"], "RUNNING")
        gate.open()
        self.assertEqual(self.wait(session), 0)
        self.assertEqual(self.state(session)["status"], "COMPLETED")
        # The terminal's log was open when it was moved: what the agent said until then stands in the copy.
        after = content(copy)
        for name in ("prompt.md", "state.json", "session.log"):
            self.assertEqual(after[name], before[name])

    def test_a_running_one_that_is_removed_does_not_harm_its_session(self):
        session, gate = self.gated()
        # It may be made again before rm has removed the folder itself, and then rm complains.
        self.run_program(["rm", "-rf", self.workspace(session)], check=False)
        self.assertTrue(wait_until((self.workspace(session) / "state.json").exists))
        gate.open()
        self.assertEqual(self.wait(session), 0)
        for name in ("prompt.md", "state.json", "session.log"):
            self.assertTrue((self.workspace(session) / name).exists(), name)


class StateFile(ContractCase):
    def test_has_its_fields_and_status_prints_the_same(self):
        session = self.ended("fail-agent")
        state = self.state(session)
        self.assertLessEqual(set(FIELDS), set(state))
        self.assertEqual(self.status(session), state)
        workspace = str(self.workspace(session))
        self.assertEqual((state["session_id"], state["agent"], state["status"], state["detail"], state["exit_code"]),
                         (session, "fail-agent", "FAILED", "exited", 3))
        self.assertEqual((state["workspace"], state["task_prompt_file"], state["result_file"]),
                         (workspace, f"{workspace}/prompt.md", f"{workspace}/result.json"))
        self.assertEqual((state["attempt"], state["tmux_active"], state["tags"], list(state["metadata"])), (1, False, [], ["limits"]))

    def test_times_are_utc_and_null_until_known(self):
        session = self.ictl("submit", "done-agent", self.prompt(), "--delay", "1h").stdout.strip()
        self.addCleanup(self.end, session)
        state = self.state(session)
        self.assertRegex(state["created_at"], rf"^{UTC}$")
        for field in ("started_at", "completed_at", "exit_code", "kill_reason", "result_status", "parent_session", "retry_of"):
            self.assertIsNone(state[field], field)
        self.ictl("kill", session, "--force")
        state = self.state(session)
        self.assertRegex(state["completed_at"], rf"^{UTC}$")
        # It never ran: no start, no exit.
        self.assertEqual((state["status"], state["started_at"], state["exit_code"]), ("KILLED", None, None))

    def test_running_and_started_at_appear_in_one_write(self):
        session, gate = self.gated(running=False)
        path = self.workspace(session) / "state.json"
        seen = []
        while not seen or seen[-1]["status"] == "CREATED":
            seen.append(json.loads(path.read_text()))
        for state in seen:
            self.assertEqual(state["status"] == "RUNNING", state["started_at"] is not None, state)
        gate.open()

    def test_elapsed_runs_from_creation_to_completion(self):
        session = self.ended()
        state = self.state(session)
        seconds = [int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
                   for text in (state["created_at"], state["completed_at"])]
        # Times are shown in whole seconds, cut off.
        self.assertIn((seconds[1] - seconds[0]) % 86_400 - state["elapsed_seconds"], (0, 1))

    def test_tmux_active_while_it_runs(self):
        session, gate = self.gated()
        self.assertTrue(self.status(session)["tmux_active"])
        gate.open()
        self.wait(session)
        self.assertFalse(self.status(session)["tmux_active"])

    def test_unknown_fields_survive_both_ways_of_editing(self):
        for number, edit in enumerate((
                'jq ".mine = 1" "$STATE" >temp.json; mv temp.json "$STATE"',
                'jq ".mine = 1" "$STATE" >"$STATE.tmp"; mv "$STATE.tmp" "$STATE"')):
            with self.subTest(number=number):
                session, gate = self.gated()
                environment = dict(self.environment, STATE=str(self.workspace(session) / "state.json"))
                self.bash(edit, env=environment)
                gate.open()
                self.assertEqual(self.wait(session), 0)
                state = self.state(session)
                self.assertEqual((state["status"], state["mine"]), ("COMPLETED", 1))

    def test_our_temporary_names_are_not_those_of_scripts(self):
        session, gate = self.gated()
        theirs = self.workspace(session) / "state.json.tmp"
        theirs.write_text("half written\n")
        gate.open()
        self.assertEqual(self.wait(session), 0)
        self.assertEqual(theirs.read_text(), "half written\n")
        self.assertEqual([path.name for path in self.workspace(session).iterdir() if path.name.startswith(".")], [])

    def test_a_running_status_that_a_script_writes_is_put_right(self):
        session, gate = self.gated()
        path = self.workspace(session) / "state.json"
        self.bash('jq \'.status = "KILLED" | .kill_reason = "so I think"\' "$STATE" >"$STATE.tmp"; mv "$STATE.tmp" "$STATE"',
                  env=dict(self.environment, STATE=str(path)))
        self.assertTrue(wait_until(lambda: self.state(session)["status"] == "RUNNING"))
        self.assertIsNone(self.state(session)["kill_reason"])
        gate.open()
        self.assertEqual(self.wait(session), 0)


if __name__ == "__main__":
    unittest.main()
