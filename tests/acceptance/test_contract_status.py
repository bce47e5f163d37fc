"""The session contract, "Status": one test a rule."""

import json
import unittest

from contract import ContractCase
from fleet import wait_until


class Status(ContractCase):
    def submit(self, agent, *options):
        session = self.ictl("submit", agent, self.prompt(), *options).stdout.strip()
        self.addCleanup(self.end, session)
        return session

    def shown(self, session):
        shown = self.status(session)
        return shown["status"], shown["detail"]

    def becomes(self, session, status, detail):
        self.assertTrue(wait_until(lambda: self.shown(session) == (status, detail)), self.status(session))
        row = next(row for row in self.rows() if row[0] == session)
        self.assertEqual(row[2], status)
        self.assertEqual(self.state(session)["status"], status)

    def test_created_while_it_waits_whatever_for(self):
        running, _ = self.gated()
        self.agent("held-agent", "#!/bin/bash\ncat >/dev/null\n")
        self.ictl("pause", "--agent", "held-agent")
        self.addCleanup(self.ictl, "resume", "--agent", "held-agent")
        self.becomes(self.submit("done-agent", "--delay", "1h"), "CREATED", "delayed")
        self.becomes(self.submit("done-agent", "--after", running), "CREATED", "blocked")
        self.becomes(self.submit("held-agent"), "CREATED", "paused")
        self.becomes(self.submit("done-agent", "--require", "gpu=yes"), "CREATED", "no-worker")
        self.becomes(self.submit("fail-agent", "--retries", 1, "--backoff", "1h", "--backoff-max", "1h"),
                     "CREATED", "retrying")

    def test_queued_when_every_slot_is_taken(self):
        held = [self.gated() for _ in range(self.slots)]
        waiting, gate = self.gated(running=False)
        self.becomes(waiting, "CREATED", "queued")
        held[0][1].open()
        self.wait_for(waiting, "RUNNING")
        gate.open()
        self.assertEqual(self.wait(waiting, held[0][0]), 0)

    def test_running_while_its_agent_works(self):
        session, _ = self.gated()
        self.becomes(session, "RUNNING", "working")

    def test_completed_failed_and_killed(self):
        self.becomes(self.ended(), "COMPLETED", "done")
        self.becomes(self.ended("fail-agent"), "FAILED", "exited")
        session, _ = self.gated()
        self.manager("kill", session, "--force")
        self.becomes(session, "KILLED", "killed")
        expired = self.submit("done-agent", "--require", "gpu=yes", "--expires", "100ms")
        self.becomes(expired, "KILLED", "expired")

    def test_a_final_status_never_changes(self):
        session = self.ended("fail-agent")
        text = (self.workspace(session) / "state.json").read_bytes()
        self.manager("kill", session, "--force")
        self.ictl("retry", session)
        self.assertEqual(self.shown(session), ("FAILED", "exited"))
        self.assertEqual((self.workspace(session) / "state.json").read_bytes(), text)

    def test_retry_of_a_final_session_makes_a_new_one(self):
        session = self.ended("fail-agent")
        again = self.ictl("retry", session).stdout.strip()
        self.assertNotEqual(again, session)
        self.wait(again)
        self.assertEqual(self.status(again)["retry_of"], session)
        self.assertEqual(self.state(again)["retry_of"], session)
        self.assertIsNone(self.status(session)["retry_of"])

    def test_the_agents_own_word_stands_beside_the_status(self):
        self.agent("sorry-agent", "#!/bin/bash\ncat >/dev/null\necho '{\"status\": \"failure\"}' >\"$IW_RESULT_FILE\"\n")
        session = self.ended("sorry-agent")
        shown = self.status(session)
        self.assertEqual((shown["status"], shown["result_status"]), ("COMPLETED", "failure"))
        self.assertEqual(self.state(session)["result_status"], "failure")
        self.assertIn("Result: failure\n", self.manager("status", session).stdout)
        self.assertIsNone(self.status(self.ended())["result_status"])

    def test_a_stop_before_the_end_is_killed_whatever_the_exit_code(self):
        session = self.polite()
        self.manager("kill", session, "--force", "--reason=enough")
        shown = self.status(session)
        self.assertEqual((shown["status"], shown["exit_code"], shown["kill_reason"]), ("KILLED", 0, "enough"))

    def test_an_end_before_the_stop_stands(self):
        for agent, status in (("done-agent", "COMPLETED"), ("fail-agent", "FAILED")):
            killed = self.manager("kill", self.ended(agent), "--force")
            self.assertEqual(killed.stdout, f"already terminated (status: {status})\n")

    def test_list_and_status_say_the_same_words(self):
        session = self.ended("fail-agent")
        listed = json.loads(self.ictl("list", "--json", "--status", "FAILED").stdout)["sessions"]
        row = next(each for each in listed if each["session_id"] == session)
        self.assertEqual(row, self.status(session))


if __name__ == "__main__":
    unittest.main()
