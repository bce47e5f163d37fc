"""Backup, restore and a store that has lost something, while the workers go on."""

import collections
import json
import os
import shutil
import signal
import unittest

from fleet import alive, wait_until
from test_b_retries import BCase

# Writes down that it ran, in a file that no part of the fleet touches, and goes on until the gate is open.
WITNESS = """#!/bin/bash
gate=$(cat)
echo "$IW_SESSION_ID $IW_ATTEMPT" >>"$IW_PROJECT_ROOT/truth"
until [ -e "$gate" ]; do sleep 0.05; done
"""


class BackupCase(BCase):
    slots = 4

    def setUp(self):
        super().setUp()
        self.environment["IW_CFG_BROKER_HEARTBEAT"] = "500ms"
        self.agent("witness", WITNESS)
        self.open_gate = self.folder / "open"
        self.open_gate.touch()
        self.closed_gate = self.folder / "closed"
        self.at_open = self.prompt(f"{self.open_gate}\n", name="open.md")
        self.at_closed = self.prompt(f"{self.closed_gate}\n", name="closed.md")

    def fleet(self):
        return json.loads(self.ictl("fleet", "--json").stdout)

    def truth(self):
        path = self.root / "truth"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def started_more_than_once(self):
        return [session for session, times in collections.Counter(self.truth()).items() if times > 1]

    def unknown(self):
        return {entry["session_id"] for entry in self.fleet()["unknown_attempts"]}

    def data_dir(self):
        return self.fleet_folder() / "broker"

    def stop_broker(self):
        pid = self.pid_of("broker")
        os.kill(pid, signal.SIGTERM)
        self.assertTrue(wait_until(lambda: not alive(pid)))

    def before_and_after(self):
        """Sessions that a backup knows (some of them still running), and some that it does not."""
        self.ictl("up")
        known = [self.submit("witness", self.at_open) for _ in range(3)]
        known += [self.submit("witness", self.at_closed) for _ in range(2)]
        self.assertEqual(self.wait(*known[:3]), 0)
        self.assertTrue(wait_until(lambda: set(known) <= set(self.truth())))
        backup = self.ictl("backup", "--to", self.folder / "backups").stdout.strip()
        later = [self.submit("witness", self.at_open) for _ in range(48)]
        later += [self.submit("witness", self.at_closed) for _ in range(2)]
        self.assertEqual(self.wait(*later[:48]), 0)
        self.assertTrue(wait_until(lambda: set(later) <= set(self.truth())))
        return backup, known, later

    def resume(self):
        # Refused until every worker has been heard and has listed all that it has had.
        resumed = wait_until(lambda: self.ictl("resume", "--after-restore", check=False).returncode == 0)
        self.assertTrue(resumed, self.ictl("fleet").stdout)
        self.assertIsNone(self.fleet()["restored"])


class Restore(BackupCase):
    def test_with_its_journal_nothing_is_lost(self):
        backup, known, later = self.before_and_after()
        self.stop_broker()
        self.ictl("restore", backup, "--force")
        self.ictl("up")
        self.assertIsNotNone(self.fleet()["restored"])
        self.resume()
        self.closed_gate.touch()
        self.assertEqual(self.wait(*known, *later), 0)
        self.assertEqual(self.started_more_than_once(), [])

    def test_a_lost_disk_costs_what_came_after_the_backup_and_runs_nothing_twice(self):
        backup, known, later = self.before_and_after()
        before = self.fleet()
        self.stop_broker()
        shutil.rmtree(self.data_dir())
        self.ictl("restore", backup, "--force")
        self.ictl("up")
        after = self.fleet()
        self.assertNotEqual(after["epoch"], before["epoch"])
        self.assertGreater(after["generation"], before["generation"])
        # Nothing is handed out yet, and what the backup did not know is shown, not killed.
        waiting = self.submit("witness", self.at_open)
        self.assertTrue(wait_until(lambda: set(later) == self.unknown()), self.unknown())
        self.assertEqual(self.details(waiting)["status"], "CREATED")
        self.assertNotIn(waiting, self.truth())
        # What is over and known is no news, although its worker lists it, too.
        shown = self.ictl("fleet").stdout
        self.assertEqual(shown.count("Unknown:"), 20, shown)
        self.assertIn("and 30 more", shown)
        self.resume()
        self.closed_gate.touch()
        self.assertEqual(self.wait(*known, waiting), 0)
        self.assertEqual(self.started_more_than_once(), [])
        self.assertEqual(self.ictl("status", later[0], check=False).returncode, 4)

    def test_a_running_broker_is_not_restored_over(self):
        self.ictl("up")
        backup = self.ictl("backup").stdout.strip()
        done = self.ictl("restore", backup, "--force", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("ictl down", done.stderr)

    def test_what_is_no_backup_leaves_the_store_as_it_was(self):
        self.ictl("up")
        session = self.submit("witness", self.at_open)
        self.assertEqual(self.wait(session), 0)
        self.stop_broker()
        done = self.ictl("restore", self.folder, "--force", check=False)
        self.assertEqual(done.returncode, 65, done.stderr)
        self.ictl("up")
        self.assertEqual(self.details(session)["status"], "COMPLETED")

    def test_backups_of_its_own_are_shown(self):
        self.ictl("up")
        self.assertIsNone(self.fleet()["backup"]["at"])
        made = json.loads(self.ictl("backup", "--json").stdout)
        shown = self.fleet()["backup"]
        self.assertEqual(shown["folder"], made["folder"])
        self.assertIsNotNone(shown["at"])
        self.kill_half("broker")
        self.ictl("up")
        self.assertEqual(self.fleet()["backup"]["folder"], made["folder"])


class Regress(BackupCase):
    def test_an_older_store_is_noticed_and_changes_nothing_until_an_admin_decides(self):
        self.ictl("up")
        first = self.submit("witness", self.at_open)
        self.assertEqual(self.wait(first), 0)
        self.stop_broker()
        older = self.folder / "older"
        shutil.copytree(self.data_dir(), older, ignore=shutil.ignore_patterns("*.sock"))
        self.ictl("up")
        lost = [self.submit("witness", self.at_open) for _ in range(3)]
        running = self.submit("witness", self.at_closed)
        self.assertEqual(self.wait(*lost), 0)
        self.assertTrue(wait_until(lambda: running in self.truth()))
        before = self.fleet()
        self.stop_broker()
        shutil.rmtree(self.data_dir())
        shutil.copytree(older, self.data_dir())
        self.ictl("up", check=False, cap=90)
        self.assertTrue(wait_until(lambda: self.fleet()["read_only"] is not None))

        refused = self.ictl("submit", "witness", self.at_open, check=False)
        self.assertEqual(refused.returncode, 75)
        for words in ("records are missing", "--accept-loss"):
            self.assertIn(words, refused.stderr)
        self.assertEqual(self.ictl("pause", check=False).returncode, 75)
        self.assertEqual(self.details(first)["status"], "COMPLETED")
        # A restart does not make it forget.
        self.stop_broker()
        print(self.ictl("up", check=False, cap=90))
        self.assertIsNotNone(self.fleet()["read_only"])
        self.assertNotEqual(self.ictl("doctor", check=False).returncode, 0)

        self.ictl("resume", "--accept-loss", "--reason", "the old disk is gone")
        after = self.fleet()
        self.assertIsNone(after["read_only"])
        self.assertNotEqual(after["epoch"], before["epoch"])
        self.assertGreater(after["generation"], before["generation"])
        self.resume()
        session = self.submit("witness", self.at_open)
        self.assertEqual(self.wait(session), 0)
        self.closed_gate.touch()
        self.assertEqual(self.started_more_than_once(), [])


if __name__ == "__main__":
    unittest.main()
