"""What can go wrong with the files of a session that runs elsewhere: odd names, files that change under the hand, missing
folders, a full disk. The users' own root has a worker, which is drained so that nothing runs there."""

import json
import os
import re
import subprocess
import sys
import threading
import unittest

from contract import ContractCase
from fleet import wait_until
from placement import Workers

OWN_MOUNTS = "IW_TEST_OWN_MOUNTS"
ODD_NAMES = r"""#!/bin/bash
cat >/dev/null
cd "$IW_WORKSPACE" || exit 1
echo kept >"..x"
echo kept >"..\\x"
echo lost >$'two\nlines'
echo lost >$'no-utf8-\xff'
mkfifo pipe
ln -s ../../../.. out
ln -s "$IW_PROJECT_ROOT/agents/odd-agent/run" link
# As if an orchestrator had begun to bring files here.
mkdir .incoming-01234567 && echo lost >.incoming-01234567/forged
echo '{"status": "success"}' >"$IW_RESULT_FILE"
"""
# Ends once somebody is at its files.
UNSTEADY = """#!/bin/bash
read -r gate
cd "$IW_WORKSPACE" || exit 1
head -c {size} /dev/urandom >grows
head -c {size} /dev/urandom >steady
sha256sum steady >sum
for number in {{1..12}}; do head -c 100000 /dev/urandom >"vanishes-$number"; done
read -r _ <"$gate"
exit 0
"""
LARGE = """#!/bin/bash
cat >/dev/null
head -c 12000000 /dev/urandom >"$IW_WORKSPACE/large"
cd "$IW_WORKSPACE" && sha256sum large >sum
"""
SIZE = int(os.environ.get("IW_TEST_UNSTEADY_BYTES", 8_000_000))


class Away(ContractCase):
    placement = Workers("project", "elsewhere")

    @classmethod
    def prepare(cls, fleet):
        super().prepare(fleet)
        fleet.agent("odd-agent", ODD_NAMES)
        fleet.agent("unsteady-agent", UNSTEADY.format(size=SIZE))
        fleet.agent("large-agent", LARGE)
        fleet.ictl("drain", "project", "--reason", "its sessions are to run elsewhere")

    def elsewhere(self, session):
        return self.folder / "elsewhere/docs/.scratch/sessions" / session

    def warned(self, session):
        return [line for line in self.log(session).splitlines() if "[WARN]" in line]

    def names(self, session):
        return {os.fsencode(path.name) for path in self.workspace(session).iterdir()}


class Faults(Away):
    def test_what_cannot_be_named_or_is_no_file_stays_behind_and_is_told(self):
        session = self.ended("odd-agent")
        plain = {b"prompt.md", b"state.json", b"session.log", b"output.log", b"result.json"}
        self.assertEqual(self.names(session), plain | {b"..x", b"..\\x"})
        self.assertEqual((self.workspace(session) / "..x").read_text(), "kept\n")
        told = "\n".join(self.warned(session))
        for name in ("two", "no-utf8-", "pipe", "out", "link"):
            self.assertRegex(told, rf"left behind: .*{re.escape(name)}", name)

    def test_files_that_grow_and_vanish_while_they_are_sent(self):
        session, gate = self.gated("unsteady-agent")
        folder = self.elsewhere(session)
        over = threading.Event()

        def meddle():
            number = 0
            while not over.is_set() and number < 4000:
                number += 1
                with open(folder / "grows", "ab") as file:
                    file.write(b"x" * 1000)
                (folder / f"vanishes-{number}").unlink(missing_ok=True)

        meddler = threading.Thread(target=meddle)
        gate.open()
        meddler.start()
        try:
            self.assertEqual(self.wait(session), 0)
        finally:
            over.set()
            meddler.join()
        home = self.workspace(session)
        self.run_program(["sha256sum", "-c", "sum"], cwd=home)
        told = "\n".join(self.warned(session))
        # Each is whole, as it stood at some moment, or it stayed behind and that is told.
        if (home / "grows").exists():
            self.assertTrue((folder / "grows").read_bytes().startswith((home / "grows").read_bytes()))
        else:
            self.assertIn("left behind: grows", told)
        came = {path.name for path in home.glob("vanishes-*")}
        self.assertTrue(all((home / name).stat().st_size == 100_000 for name in came), came)
        self.assertEqual([name for name in self.names(session) if name.startswith(b".")], [])

    def test_a_workspace_that_is_removed_where_it_runs_is_made_again(self):
        self.agent("writer-agent", "#!/bin/bash\nread -r gate\nread -r _ <\"$gate\"\necho '{\"status\": \"success\"}' >\"$IW_RESULT_FILE\"\n")
        session, gate = self.gated("writer-agent")
        # It may be made again before rm has removed the folder itself, and then rm complains.
        self.run_program(["rm", "-rf", self.elsewhere(session)], check=False)
        self.assertTrue(wait_until((self.elsewhere(session) / "state.json").exists))
        gate.open()
        self.assertEqual(self.wait(session), 0)
        self.assertEqual(json.loads((self.workspace(session) / "result.json").read_text()), {"status": "success"})

    def test_a_schema_that_is_none_is_refused_before_anything_is_made(self):
        before = self.rows("--all")
        for text, words in (("{", "schema"), ("[]", "schema"), ('{"type": "no such type"}', "type")):
            path = self.prompt(text, "schema.json")
            done = self.ictl("submit", "done-agent", self.prompt(), "--result-schema", path, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual((done.stdout, len(done.stderr.splitlines())), ("", 1), done.stderr)
            self.assertIn(str(path), done.stderr)
            self.assertIn(words, done.stderr)
        self.assertEqual(self.rows("--all"), before)


class MissingRoot(Away):
    def test_a_root_that_is_missing_on_the_worker_is_told_and_waited_for(self):
        root = self.folder / "elsewhere"
        root.rename(self.folder / "aside")
        session = self.create("large-agent")
        self.assertTrue(wait_until(lambda: self.status(session)["reason"]), self.status(session))
        shown = self.status(session)
        self.assertEqual((shown["status"], shown["detail"]), ("CREATED", "retrying"))
        self.assertRegex(shown["reason"], rf"^the project's root {root} is missing on ")
        self.assertFalse(root.exists(), "nothing is made in its place")
        (self.folder / "aside").rename(root)
        self.assertEqual(self.wait(session), 0)
        self.run_program(["sha256sum", "-c", "sum"], cwd=self.workspace(session))


class FullDisk(Away):
    """The folder of the users' workspaces is a disk with room for little."""

    @classmethod
    def setUpClass(cls):
        if OWN_MOUNTS not in os.environ:
            raise unittest.SkipTest("no mounts of its own here: `unshare -rm` is not allowed")
        super().setUpClass()

    @classmethod
    def prepare(cls, fleet):
        super().prepare(fleet)
        cls.mount(fleet, "size=6m")

    @staticmethod
    def mount(fleet, options):
        fleet.run_program(["mount", "-t", "tmpfs", "-o", options, "none", fleet.root / "docs/.scratch/sessions"], cwd="/")

    def test_nothing_half_is_there_until_there_is_room(self):
        session = self.create("large-agent")
        self.assertTrue(wait_until(lambda: "not enough disk" in self.log(session)), self.log(session))
        shown = self.status(session)
        self.assertEqual((shown["status"], shown["detail"]), ("RUNNING", "delivering"))
        names = {name for name in self.names(session) if not name.startswith(b".incoming-")}
        self.assertEqual(names, {b"prompt.md", b"state.json", b"session.log"})
        self.mount(self, "remount,size=60m")
        # It tries again once a minute, and when it is started.
        self.placement.restart_worker(self, "project")
        self.assertTrue(wait_until(lambda: self.placement.all_up(self)))
        self.assertEqual(self.wait(session), 0)
        self.run_program(["sha256sum", "-c", "sum"], cwd=self.workspace(session))
        self.assertEqual(self.state(session)["status"], "COMPLETED")
        self.assertEqual([name for name in self.names(session) if name.startswith(b".")], [])


class FullDiskWithoutAWorker(FullDisk):
    placement = Workers("elsewhere")

    @classmethod
    def prepare(cls, fleet):
        fleet.agent("large-agent", LARGE)
        cls.mount(fleet, "size=6m")

    def test_nothing_half_is_there_until_there_is_room(self):
        session = self.create("large-agent")
        self.assertTrue(wait_until(lambda: "not enough disk" in self.manager("status", session).stderr))
        shown = self.status(session)
        self.assertEqual((shown["status"], shown["detail"]), ("RUNNING", "delivering"))
        self.assertFalse((self.workspace(session) / "large").exists())
        waited = self.ictl("wait", session, check=False)
        self.assertEqual((waited.returncode, waited.stdout), (75, ""), waited.stderr)
        self.assertIn("not enough disk", waited.stderr)
        self.assertNotIn(session, self.ictl("list", "--status", "COMPLETED").stdout)
        self.mount(self, "remount,size=60m")
        self.assertEqual(self.status(session)["status"], "COMPLETED")
        self.run_program(["sha256sum", "-c", "sum"], cwd=self.workspace(session))


if __name__ == "__main__":
    if OWN_MOUNTS not in os.environ and subprocess.run(["unshare", "-rm", "true"], check=False).returncode == 0:
        os.environ[OWN_MOUNTS] = "1"
        os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])
    unittest.main()
