"""What becomes of a session's files: result schemas, edits of state.json, the archive and the project's log."""

import json
import os
import shutil
import time
import unittest

from fleet import FleetCase, wait_until
from protocol_client import Client

DAYS = 86400
# Does what its prompt says.
OBEDIENT = "#!/bin/bash\nexec bash -s\n"
SCHEMA = json.dumps({"type": "object", "required": ["status"],
                     "properties": {"status": {"enum": ["success", "failure"]}}})


class Files(FleetCase):
    def open(self):
        super().open()
        self.agent("obedient", OBEDIENT)
        self.endpoint = json.loads(self.ictl("up", "--json").stdout)["endpoint"]

    def restart_worker(self):
        self.kill_half("worker")
        self.ictl("up")

    def archived(self, session, days):
        """Moves a session to the archive, as long ago as that."""
        folder = self.root / "docs/.scratch/archive/sessions" / session
        shutil.move(self.workspace(session), folder)
        then = time.time() - days * DAYS
        os.utime(folder, (then, then))
        return folder

    def run_one(self, prompt):
        session = self.create("obedient", self.prompt(prompt))
        self.wait(session)
        return session

    def test_a_result_must_fit_the_schema(self):
        cases = (("true", "FAILED", "result-missing", "without a result.json"),
                 ("echo '{\"status\": \"done\"}' >\"$IW_RESULT_FILE\"", "FAILED", "result-invalid",
                  "/status: failed to match against any enum values"),
                 ("echo '{\"status\": \"failure\"}' >\"$IW_RESULT_FILE\"", "COMPLETED", "done", ""),
                 ("exit 3", "FAILED", "exited", "exit code 3"))
        with Client(self.endpoint) as client:
            for prompt, status, detail, reason in cases:
                with self.subTest(prompt=prompt):
                    session = client.submit("obedient", prompt, agent_in_project=True, result_schema=SCHEMA,
                                            timeout=60_000)["id"]
                    self.wait(session)
                    shown = json.loads(self.ictl("status", session, "--json").stdout)
                    self.assertEqual((shown["status"], shown["detail"]), (status, detail))
                    self.assertIn(reason, shown["reason"] or "")

    def test_a_status_of_a_script_is_put_right_on_a_final_session(self):
        session = self.run_one("true\n")
        state = self.workspace(session) / "state.json"
        # Both ways of the examples; the second time by a worker that was not there when it ended.
        for temporary in ("temp.json", f"{state}.tmp"):
            self.bash(f"jq '.status = \"KILLED\" | .mine = 1' {state} >{temporary}; mv {temporary} {state}")
            self.assertTrue(wait_until(lambda: self.state(session)["status"] == "COMPLETED"))
            self.assertEqual(self.state(session)["mine"], 1)
            self.restart_worker()

    def test_a_broken_state_is_kept_aside_and_written_anew(self):
        session = self.run_one("true\n")
        folder = self.workspace(session)
        (folder / "theirs").write_text("{\"half")
        os.rename(folder / "theirs", folder / "state.json")
        self.assertTrue(wait_until(lambda: list(folder.glob("state.json.broken-*"))))
        self.assertEqual(self.state(session)["status"], "COMPLETED")
        self.assertEqual(next(folder.glob("state.json.broken-*")).read_text(), "{\"half")
        self.assertTrue(wait_until(lambda: "WARN" in (folder / "session.log").read_text()))

    def test_an_old_archive_is_compressed_and_still_answers(self):
        old = self.run_one("echo shown; echo '{\"status\": \"success\"}' >\"$IW_RESULT_FILE\"\n")
        young = self.run_one("true\n")
        folder = self.archived(old, 40)
        self.archived(young, 20)
        mine = folder.parent / "my notes"
        mine.mkdir()
        os.utime(mine, (0, 0))
        self.restart_worker()
        packed = folder.parent / f"{old}.tar.gz"
        self.assertTrue(wait_until(lambda: packed.exists() and not folder.exists()))
        self.assertTrue(mine.is_dir())
        self.assertTrue((folder.parent / young).is_dir())
        members = self.bash(f"tar tzf {packed}").stdout.splitlines()
        self.assertIn(f"docs/.scratch/archive/sessions/{old}/result.json", members)
        self.assertEqual(json.loads(self.ictl("result", old).stdout), {"status": "success"})
        self.assertIn("shown", self.ictl("logs", old).stdout)
        self.assertEqual(self.status(old)["status"], "COMPLETED")
        self.assertFalse(folder.exists())
        log = self.root / "logs/orchestrator.log"
        self.assertTrue(wait_until(lambda: f"Session compressed: {old}" in log.read_text()))

    def test_the_log_is_rotated_and_stays_the_file_that_is_followed(self):
        log = self.root / "logs/orchestrator.log"
        with log.open("a") as file:
            file.write("x" * 99 + "\n" + ("y" * 99 + "\n") * 110_000)
        with log.open() as follower:
            inode = os.fstat(follower.fileno()).st_ino
            self.restart_worker()
            self.assertTrue(wait_until(lambda: log.stat().st_size < 10_000_000))
            self.assertEqual(log.stat().st_ino, inode)
            rotated = list(log.parent.glob("orchestrator.log.2*"))
            self.assertEqual(len(rotated), 1, rotated)
            self.assertIn("x" * 99, rotated[0].read_text())
            session = self.run_one("true\n")
            self.assertIn(f"Session ended: {session} COMPLETED", follower.read())


if __name__ == "__main__":
    unittest.main(verbosity=2)
