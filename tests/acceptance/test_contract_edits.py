"""The session contract, foreign edits of state.json: one test a rule."""

import json
import unittest

from contract import ContractCase
from fleet import wait_until

# As Example 8 and as Example 7 do it.
KINDS = ('jq "$EDIT" "$STATE" >temp.json && mv temp.json "$STATE"',
         'jq "$EDIT" "$STATE" >"$STATE.tmp" && mv "$STATE.tmp" "$STATE"')
PARENT = """#!/bin/bash
read -r gate
mkfifo "$gate-child"
echo "$gate-child" >"$IW_WORKSPACE/child.md"
ictl submit gate-agent "$IW_WORKSPACE/child.md" >"$IW_WORKSPACE/child"
read -r _ <"$gate"
"""


class Edits(ContractCase):
    slots = 12

    def edit(self, session, edit, kind=0):
        environment = dict(self.environment, EDIT=edit, STATE=str(self.workspace(session) / "state.json"))
        self.bash(KINDS[kind], env=environment)

    def known(self, session):
        """What the broker says."""
        return json.loads(self.ictl("status", session, "--json").stdout)

    def warned(self, session):
        return [line for line in self.log(session).splitlines() if "[WARN]" in line]

    def put_right(self, session, field, value):
        self.assertTrue(wait_until(lambda: self.state(session)[field] == value), self.state(session))

    def test_parent_tags_and_metadata_reach_the_broker(self):
        parent, _ = self.gated()
        for kind in range(len(KINDS)):
            with self.subTest(kind=kind):
                session, _ = self.gated()
                self.edit(session, f'.parent_session = "{parent}"', kind)
                self.edit(session, '.tags = ["nightly", "TEF-123"]', kind)
                self.edit(session, '.metadata = {"ticket": 7} | .mine = "kept"', kind)
                wanted = {"parent_session": parent, "tags": ["nightly", "TEF-123"], "metadata": {"ticket": 7}}
                shown = lambda: {field: self.known(session)[field] for field in wanted}
                self.assertTrue(wait_until(lambda: shown() == wanted), shown())
                self.assertIn(session, self.ictl("list", "--tag", "TEF-123").stdout)
                state = self.state(session)
                self.assertEqual({field: state[field] for field in wanted}, wanted)
                self.assertEqual((state["mine"], state["status"]), ("kept", "RUNNING"))

    def test_an_empty_or_unknown_parent_is_put_right_with_a_warning(self):
        parent, _ = self.gated()
        session, _ = self.gated()
        self.edit(session, f'.parent_session = "{parent}"')
        self.assertTrue(wait_until(lambda: self.known(session)["parent_session"] == parent))
        for number, wrong in enumerate(("", "20200101-000000-nobody", "no id at all"), 1):
            self.edit(session, f'.parent_session = "{wrong}"')
            self.put_right(session, "parent_session", parent)
            self.assertTrue(wait_until(lambda: len(self.warned(session)) >= number), self.log(session))

    def test_a_cycle_is_put_right_with_a_warning(self):
        one, _ = self.gated()
        two, _ = self.gated()
        self.edit(two, f'.parent_session = "{one}"')
        self.assertTrue(wait_until(lambda: self.known(two)["parent_session"] == one))
        self.edit(one, f'.parent_session = "{two}"')
        self.put_right(one, "parent_session", None)
        self.assertTrue(wait_until(lambda: self.warned(one)))

    def test_a_depth_over_eight_is_put_right_with_a_warning(self):
        first, *others = [self.gated()[0] for _ in range(10)]
        parent = first
        for child in others[:8]:
            self.edit(child, f'.parent_session = "{parent}"')
            self.assertTrue(wait_until(lambda: self.known(child)["parent_session"] == parent))
            parent = child
        self.edit(others[8], f'.parent_session = "{parent}"')
        self.put_right(others[8], "parent_session", None)
        self.assertTrue(wait_until(lambda: self.warned(others[8])))

    def test_a_parent_that_the_local_socket_vouched_for_cannot_be_edited(self):
        self.agent("parent-agent", PARENT)
        other, _ = self.gated()
        session, gate = self.gated("parent-agent")
        named = self.workspace(session) / "child"
        self.assertTrue(wait_until(lambda: named.exists() and named.read_text()))
        child = named.read_text().strip()
        self.addCleanup(self.end, child)
        self.edit(child, f'.parent_session = "{other}"')
        self.put_right(child, "parent_session", session)
        self.assertEqual(self.known(child)["parent_session"], session)
        gate.open()

    def test_every_other_field_is_put_right(self):
        session, _ = self.gated()
        wrong = {"status": "COMPLETED", "detail": "done", "completed_at": "2020-01-01T00:00:00Z", "exit_code": 0,
                 "agent": "other", "kill_reason": "so I think", "host": "elsewhere", "attempt": 9, "session_id": "x"}
        right = {field: self.state(session)[field] for field in wrong}
        for kind in range(len(KINDS)):
            self.edit(session, ". + " + json.dumps(wrong), kind)
            self.assertTrue(wait_until(lambda: {field: self.state(session)[field] for field in wrong} == right))

    def test_a_final_status_that_a_script_writes_is_put_right(self):
        for kind in range(len(KINDS)):
            session = self.ended()
            self.edit(session, '.status = "KILLED" | .kill_reason = "Timeout (1850s)"', kind)
            self.put_right(session, "status", "COMPLETED")
            self.assertIsNone(self.state(session)["kill_reason"])
            self.assertEqual(self.known(session)["status"], "COMPLETED")

    def test_tags_of_a_final_session_reach_the_broker(self):
        session = self.ended()
        self.edit(session, '.tags = ["looked-at"]')
        self.assertTrue(wait_until(lambda: self.known(session)["tags"] == ["looked-at"]))

    def test_no_edit_is_lost_to_a_race(self):
        """Edits one after the other, as fast as they go, while the worker writes into the same file."""
        session, gate = self.gated()
        for number in range(20):
            self.edit(session, f'.tags += ["t{number}"] | .field{number} = {number} | .detail = "nonsense"', number % 2)
        wanted = [f"t{number}" for number in range(20)]
        self.assertTrue(wait_until(lambda: self.known(session)["tags"] == wanted), self.known(session)["tags"])
        gate.open()
        self.assertEqual(self.wait(session), 0)
        state = self.state(session)
        self.assertEqual([state.get(f"field{number}") for number in range(20)], list(range(20)))
        self.assertEqual((state["status"], state["tags"]), ("COMPLETED", wanted))

    def test_a_broken_state_file_is_kept_aside_and_written_again(self):
        for session in (self.gated()[0], self.ended()):
            status = self.status(session)["status"]
            (self.workspace(session) / "state.json").write_text('{"status": "RUN')
            self.assertTrue(wait_until(lambda: self.intact(session)))
            self.assertEqual(self.state(session)["status"], status)
            aside = [path for path in self.workspace(session).iterdir() if path.name.startswith("state.json.broken-")]
            self.assertEqual([path.read_text() for path in aside], ['{"status": "RUN'])
            self.assertTrue(wait_until(lambda: self.warned(session)))

    def intact(self, session):
        try:
            return "session_id" in self.state(session)
        except (ValueError, OSError):
            return False

    def test_a_move_at_the_moment_of_an_edit_loses_nothing(self):
        for _ in range(10):
            session = self.ended()
            self.edit(session, '.status = "KILLED" | .mine = 1', 1)
            self.run_program(["mv", self.workspace(session), self.root / "docs/.scratch/archive/sessions/"])
            moved = self.root / "docs/.scratch/archive/sessions" / session
            names = {path.name for path in moved.iterdir() if not path.name.startswith(".")}
            self.assertEqual(names, {"prompt.md", "state.json", "session.log", "output.log"})
            self.assertEqual(json.loads((moved / "state.json").read_text())["mine"], 1)
            self.status(session)
            self.assertFalse(self.workspace(session).exists())


class OneSlot(ContractCase):
    slots = 1

    def test_an_accepted_parent_counts_for_slot_lending_at_once(self):
        parent, gate = self.gated()
        child, child_gate = self.gated(running=False)
        self.assertEqual(self.status(child)["detail"], "queued")
        path = self.workspace(child) / "state.json"
        self.bash(KINDS[0], env=dict(self.environment, EDIT=f'.parent_session = "{parent}"', STATE=str(path)))
        self.wait_for(child, "RUNNING")
        child_gate.open()
        gate.open()
        self.assertEqual(self.wait(parent, child), 0)


if __name__ == "__main__":
    unittest.main()
