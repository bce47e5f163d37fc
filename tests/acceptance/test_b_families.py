"""Nested hand-offs on one slot, killing with descendants, and an attempt that asks whether it still counts."""

import json
import unittest

from fleet import wait_until
from test_b_retries import BCase

# Hands on to a child until the depth in its prompt is used up, and polls the child's files.
CHAIN = """#!/bin/bash
depth=$(cat)
below=0
if [ "$depth" -gt 1 ]; then
  echo $((depth - 1)) >"$IW_WORKSPACE/child.md"
  child=$(ictl submit chain "$IW_WORKSPACE/child.md") || exit 1
  folder="$IW_PROJECT_ROOT/docs/.scratch/sessions/$child"
  until [ "$(jq -r .status "$folder/state.json")" = COMPLETED ]; do sleep 0.1; done
  below=$(jq -r .depth "$folder/result.json")
fi
echo "{\\"depth\\": $((below + 1))}" >"$IW_RESULT_FILE"
"""
# Two children that never end by themselves, then the same.
PARENT = """#!/bin/bash
cat >/dev/null
for name in one two; do
  echo x >"$IW_WORKSPACE/$name.md"
  ictl submit endless "$IW_WORKSPACE/$name.md" >>"$IW_WORKSPACE/children" || exit 1
done
touch "$IW_WORKSPACE/ready"
exec sleep 1000
"""
ENDLESS = "#!/bin/bash\ncat >/dev/null\nexec sleep 1000\n"
# Asks once at the start and once when it is told to stop; waits for its own parent, too.
ASKS = """#!/bin/bash
cat >/dev/null
ictl fence-check; echo $? >"$IW_WORKSPACE/at-start"
trap 'ictl fence-check 2>"$IW_WORKSPACE/why"; echo $? >"$IW_WORKSPACE/at-stop"; exit 0' TERM
touch "$IW_WORKSPACE/ready"
while :; do
  if [ -e "$IW_WORKSPACE/ask" ]; then
    rm "$IW_WORKSPACE/ask"
    ictl --patience 1s fence-check; echo $? >"$IW_WORKSPACE/without-broker"
  fi
  sleep 0.05
done
"""


class OneSlot(BCase):
    slots = 1

    def test_a_chain_of_depth_five_completes_on_one_slot(self):
        self.agent("chain", CHAIN)
        self.ictl("up")
        session = self.submit("chain", self.prompt("5\n"))
        self.assertEqual(self.wait(session), 0)
        self.assertEqual(json.loads((self.workspace(session) / "result.json").read_text()), {"depth": 5})


class Families(BCase):
    def family(self):
        self.agent("parent", PARENT)
        self.agent("endless", ENDLESS)
        self.ictl("up")
        parent = self.submit("parent", self.prompt())
        self.assertTrue(wait_until((self.workspace(parent) / "ready").exists))
        return parent, (self.workspace(parent) / "children").read_text().split()

    def test_killing_a_parent_kills_its_children(self):
        parent, children = self.family()
        self.assertIn("2 descendants", self.ictl("kill", parent, "--force").stdout)
        self.wait(*children)
        for child in children:
            shown = self.details(child)
            self.assertEqual((shown["status"], shown["detail"]), ("KILLED", "parent-killed"))

    def test_children_can_be_kept(self):
        parent, children = self.family()
        self.ictl("kill", parent, "--force", "--keep-children")
        for child in children:
            self.assertIn(self.details(child)["status"], ("CREATED", "RUNNING"))


class FenceCheck(BCase):
    def text(self, session, name):
        path = self.workspace(session) / name
        return path.read_text().strip() if path.exists() else ""

    def test_yes_while_it_counts_no_when_it_is_stopped(self):
        self.agent("asks", ASKS)
        self.ictl("up")
        session = self.submit("asks", self.prompt())
        self.assertTrue(wait_until(lambda: self.text(session, "at-start") != ""))
        self.assertEqual(self.text(session, "at-start"), "0")
        self.assertTrue(wait_until((self.workspace(session) / "ready").exists))
        self.ictl("kill", session, "--force")
        self.assertEqual(self.text(session, "at-stop"), "1", self.text(session, "why"))
        self.assertIn("being stopped", self.text(session, "why"))

    def test_without_a_broker_it_cannot_be_known(self):
        self.agent("asks", ASKS)
        self.ictl("up")
        session = self.submit("asks", self.prompt())
        self.assertTrue(wait_until((self.workspace(session) / "ready").exists))
        self.kill_half("broker")
        (self.workspace(session) / "ask").touch()
        self.assertTrue(wait_until(lambda: self.text(session, "without-broker") != ""))
        self.assertEqual(self.text(session, "without-broker"), "75")

    def test_outside_a_session_it_says_so(self):
        done = self.ictl("fence-check", check=False)
        self.assertEqual(done.returncode, 64)
        self.assertIn("not inside a session", done.stderr)


if __name__ == "__main__":
    unittest.main()
