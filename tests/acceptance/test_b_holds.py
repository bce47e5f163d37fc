"""Drain, pause and resume, and what is shown of them."""

import json
import unittest

from fleet import wait_until
from test_b_retries import GATED, BCase

QUICK = "#!/bin/bash\ncat >/dev/null\n"


class Holds(BCase):
    def worker(self):
        return json.loads(self.ictl("workers", "--json").stdout)["workers"][0]

    def detail(self, session):
        return self.details(session)["detail"]

    def test_a_drained_worker_finishes_and_takes_nothing_new(self):
        self.agent("gated", GATED)
        self.agent("quick", QUICK)
        self.ictl("up")
        prompt, gate = self.gate("held")
        running = self.submit("gated", prompt)
        self.assertTrue(wait_until(lambda: self.details(running)["status"] == "RUNNING"))
        worker = self.worker()
        # By the host's name: all of its workers, here one.
        drained = json.loads(self.ictl("drain", worker["host"], "--reason", "new kernel", "--json").stdout)
        self.assertEqual(drained["holds"][0]["running"], [running])
        waiting = self.submit("quick", self.prompt())
        self.assertIn("new kernel", self.ictl("explain", waiting).stdout)
        self.assertEqual(self.worker()["drain"]["reason"], "new kernel")
        self.assertIn("drained", self.ictl("workers").stdout)
        self.assertIn("new kernel", self.ictl("fleet").stdout)
        gate.write_text("0")
        self.assertEqual(self.wait(running), 0)
        # A restart of everything does not forget it.
        self.kill_half("broker")
        self.kill_half("worker")
        self.ictl("up")
        self.assertEqual(self.details(waiting)["status"], "CREATED")
        self.assertEqual(self.worker()["drain"]["reason"], "new kernel")
        self.ictl("undrain", worker["name"])
        self.assertEqual(self.wait(waiting), 0)
        self.assertIn("was not drained", self.ictl("undrain", worker["name"]).stdout)

    def test_a_paused_fleet_says_who_when_and_why(self):
        self.agent("quick", QUICK)
        self.ictl("up")
        self.ictl("pause", "--reason", "licence server down")
        session = self.submit("quick", self.prompt())
        self.assertEqual(self.detail(session), "paused")
        shown = self.details(session)["reason"]
        for words in ("paused by uid:", "licence server down"):
            self.assertIn(words, shown)
        self.assertIn("paused", self.ictl("list").stdout)
        hold = json.loads(self.ictl("fleet", "--json").stdout)["holds"][0]
        self.assertEqual((hold["scope"], hold["reason"], hold["until"]), ("fleet", "licence server down", None))
        events = self.ictl("watch", "--since", 0, "--once").stdout
        self.assertIn("licence server down", events)
        self.ictl("resume")
        self.assertEqual(self.wait(session), 0)

    def test_pauses_of_an_agent_and_of_a_project_concern_nothing_else(self):
        self.agent("quick", QUICK)
        self.agent("other", QUICK)
        self.ictl("up")
        self.ictl("pause", "--agent", "quick")
        paused = self.submit("quick", self.prompt())
        self.assertEqual(self.wait(self.submit("other", self.prompt())), 0)
        self.assertEqual(self.detail(paused), "paused")
        self.ictl("pause", "--project", self.root)
        self.ictl("resume", "--agent", "quick")
        self.assertEqual(self.detail(paused), "paused")
        self.ictl("resume", "--project", self.root)
        self.assertEqual(self.wait(paused), 0)

    def test_a_deadline_lifts_a_pause_by_itself(self):
        self.agent("quick", QUICK)
        self.ictl("up")
        self.ictl("pause", "--for", "2s", "--reason", "a moment")
        session = self.submit("quick", self.prompt())
        self.assertIsNotNone(json.loads(self.ictl("fleet", "--json").stdout)["holds"][0]["until"])
        self.assertEqual(self.wait(session), 0)
        self.assertEqual(json.loads(self.ictl("fleet", "--json").stdout)["holds"], [])
        self.assertIn("deadline", self.ictl("watch", "--since", 0, "--once").stdout)

    def test_wrong_names_are_told(self):
        self.ictl("up")
        done = self.ictl("drain", "nowhere", check=False)
        self.assertEqual(done.returncode, 4)
        self.assertIn("nowhere", done.stderr)
        done = self.ictl("pause", "--for", "tomorrow", check=False)
        self.assertEqual(done.returncode, 64)
        self.assertIn("--for", done.stderr)

    def test_a_worker_that_is_heard_cannot_be_confirmed_dead(self):
        self.ictl("up")
        done = self.ictl("confirm-dead", "--worker", self.worker()["name"], "--reason", "so I think", "--force",
                         check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("heard", done.stderr)
        done = self.ictl("confirm-dead", "--worker", self.worker()["name"], "--force", check=False)
        self.assertEqual(done.returncode, 64)
        self.assertIn("--reason", done.stderr)


if __name__ == "__main__":
    unittest.main()
