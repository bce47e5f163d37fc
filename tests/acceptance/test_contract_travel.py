"""The session contract where a session runs under another root than its own: one test a rule.

In `WithAnOwner` the user's root has a worker, which is drained so that nothing runs there but its files are its to write;
in `WithoutAnOwner` it has none, and ictl writes them.
"""

import json
import os
import unittest

from contract import STAMP, ContractCase
from fleet import FINAL, wait_until
from on_terminal import OnTerminal
from placement import Workers

# A tree of files of every kind; what is no regular file does not travel, and no name leaves the workspace.
TREE = """#!/bin/bash
cat >/dev/null
cd "$IW_WORKSPACE" || exit 1
mkdir -p deep/er
head -c 3000000 /dev/urandom >large.bin
printf '#!/bin/sh\\n' >deep/run.sh
chmod 755 deep/run.sh
: >deep/er/empty
printf 'text' >"name with spaces and \u00e9"
ln -s /etc/passwd link
ln -s deep folder-link
mkfifo pipe
sha256sum large.bin deep/run.sh deep/er/empty >sums
echo '{"status": "success"}' >"$IW_RESULT_FILE"
echo "the very end"
"""
WHERE = "#!/bin/bash\ncat >/dev/null\npwd >\"$IW_WORKSPACE/where\"\n"


class Travel:
    """What holds in both; mixed into a ContractCase."""

    @classmethod
    def prepare(cls, fleet):
        super().prepare(fleet)
        fleet.agent("tree-agent", TREE)
        fleet.agent("where-agent", WHERE)

    def test_it_runs_elsewhere_in_the_root_of_its_worker(self):
        session = self.ended("where-agent")
        self.assertEqual((self.workspace(session) / "where").read_text(), f"{self.folder}/elsewhere\n")

    def test_every_deliverable_is_there_before_a_final_status_shows(self):
        session = self.create("tree-agent")
        self.wait_for(session, *FINAL)
        workspace = self.workspace(session)
        self.assertEqual(self.state(session)["status"], "COMPLETED")
        self.run_program(["sha256sum", "-c", "sums"], cwd=workspace)
        self.assertEqual(json.loads((workspace / "result.json").read_text()), {"status": "success"})
        self.assertIn("the very end", (workspace / "output.log").read_text())
        self.assertEqual((workspace / "name with spaces and \u00e9").read_text(), "text")
        self.assertTrue(os.access(workspace / "deep/run.sh", os.X_OK))
        self.assertEqual((workspace / "deep/er/empty").read_bytes(), b"")
        for name in ("link", "folder-link", "pipe"):
            self.assertFalse(os.path.lexists(workspace / name), name)
        self.assertEqual([path.name for path in workspace.iterdir() if path.name.startswith(".")], [])
        log = self.log(session)
        for words in (f"Session created: {session}", "Status: CREATED → RUNNING", "Exit code: 0", "Status: RUNNING → COMPLETED"):
            self.assertRegex(log, rf"(?m)^{STAMP} \[INFO\] {words}$")

    def test_state_json_follows_it(self):
        session, gate = self.gated()
        state = self.state(session)
        self.assertEqual((state["status"], state["workspace"]), ("RUNNING", str(self.workspace(session))))
        self.assertIsNotNone(state["started_at"])
        self.assertIn("Status: CREATED → RUNNING", self.log(session))
        gate.open()
        self.wait(session)
        self.assertEqual(self.status(session), self.state(session))

    def test_the_global_log_here_tells_of_a_timeout_there(self):
        self.configure(MAX_SESSION_LIFETIME_SECONDS=1)
        session, _ = self.gated(running=False)
        self.configure(MAX_SESSION_LIFETIME_SECONDS=1800)
        self.wait(session)
        self.wait_for(session, "KILLED")
        self.assertRegex(self.status(session)["kill_reason"], r"^Timeout \(\d+s\)$")
        self.assertRegex(self.global_log(), rf"\[WARN\] Session timeout: {session} \(\d+s > 1s\)\n")

    def test_a_missing_final_workspace_is_never_made_again(self):
        session = self.ended("tree-agent")
        self.wait_for(session, *FINAL)
        self.run_program(["mv", self.workspace(session), self.root / "docs/.scratch/archive/sessions/"])
        self.assertEqual(self.status(session)["status"], "COMPLETED")
        self.rows("--all")
        self.ended()
        self.assertFalse(self.workspace(session).exists())

    def test_fetch_gets_them_anywhere(self):
        session = self.ended("tree-agent")
        self.wait_for(session, *FINAL)
        target = self.folder / f"fetched-{session}"
        self.ictl("fetch", session, "--to", target, cwd="/")
        self.run_program(["sha256sum", "-c", "sums"], cwd=target)

    def test_tmux_and_attach_reach_it(self):
        session, gate = self.gated()
        self.assertTrue(self.status(session)["tmux_active"])
        attached = OnTerminal(["scripts/ops/session-manager.sh", "attach", session], self.root, self.environment)
        self.addCleanup(attached.close)
        self.assertTrue(attached.read(b"waiting"), attached.output)
        self.assertTrue(wait_until(attached.leave), attached.output)
        self.assertEqual(attached.finish(), 0)
        gate.open()
        self.assertEqual(self.wait(session), 0)

    def test_edits_reach_the_broker(self):
        parent, _ = self.gated()
        session, _ = self.gated()
        path = self.workspace(session) / "state.json"
        self.bash(f'jq \'.parent_session = "{parent}" | .tags = ["far"] | .status = "FAILED"\' "$STATE" >temp.json; mv temp.json "$STATE"',
                  env=dict(self.environment, STATE=str(path)))
        self.assertTrue(wait_until(lambda: self.status(session)["parent_session"] == parent))
        self.assertEqual(self.status(session)["tags"], ["far"])
        self.wait_for(session, "RUNNING")


class WithAnOwner(Travel, ContractCase):
    placement = Workers("project", "elsewhere")

    @classmethod
    def prepare(cls, fleet):
        super().prepare(fleet)
        fleet.ictl("drain", "project", "--reason", "its sessions are to run elsewhere")


class WithoutAnOwner(Travel, ContractCase):
    placement = Workers("elsewhere")

    def wait_for(self, session, *statuses):
        """Asks, for it is the question that brings the files up to date here."""
        self.assertTrue(wait_until(lambda: self.status(session)["status"] in statuses), self.status(session))
        self.assertIn(self.state(session)["status"], statuses)


if __name__ == "__main__":
    unittest.main()
