"""Faults that have one right outcome each, on real processes."""

import os
import pathlib
import signal
import unittest

from checker import check
from history import History, Row, read_notes
from live import HALVES, LOST, Client, LiveFleet, pause, send, wait_until

BUILD = pathlib.Path(os.environ["IW_TEST_BUILD"])
# How long a worker is frozen with an assignment in its buffer: beyond its lease.
FROZEN = float(os.environ.get("IW_CHAOS_FROZEN", LOST + 3))


class SpecialCase(unittest.TestCase):
    slots = 8

    def setUp(self):
        self.crashes = []
        self.fleet = LiveFleet(BUILD, slots=self.slots, on_crash=self.crashes.append)
        self.gates = self.fleet.folder / "gates"
        self.gates.mkdir()
        self.fleet.up()
        self.client = Client(self.fleet.broker_socket, patience=60)
        self.keys = {}

    def tearDown(self):
        result = self._outcome.result
        failed = any(self.id() == test.id() for test, _ in result.failures + result.errors)
        self.client.close()
        self.fleet.down(keep=failed)
        if failed:
            print(f"kept: {self.fleet.folder}")

    def submit(self, key, words, **fields):
        session = self.client.submit("truth-agent", f"key={key} {words}", key=key, tags=[key], **fields)["id"]
        self.keys[key] = session
        return session

    def gate(self, key):
        return f"gate={self.gates}/{key}"

    def open(self, *keys):
        for key in keys:
            (self.gates / key).touch()

    def notes(self, what, session=None):
        return [n for n in read_notes(self.fleet.truth) if n.what == what and session in (None, n.session)]

    def views(self):
        return {view["id"]: view for view in self.client.list()}

    def end_all(self, cap=60):
        self.assertTrue(wait_until(lambda: all(v["status"] in ("COMPLETED", "FAILED", "KILLED") for v in self.views().values()), cap),
                        self.views())

    def assert_promises(self):
        """What the checker says of these few sessions."""
        history = History(notes=read_notes(self.fleet.truth), crashes=self.crashes)
        history.rows = [Row(v["id"], v["tags"][0], v["status"], v["detail"], v.get("attempt", 0), v.get("exit_code"))
                        for v in self.views().values()]
        history.leftovers = [f"pid {pid} {argv}" for pid, argv in self.fleet.agents()]
        kinds = [str(v) for v in check(history) if v.kind != "unknown session"]
        self.assertEqual(kinds, [])


class WorkerRestart(SpecialCase):
    slots = 20

    def test_twenty_running_are_adopted(self):
        keys = [f"k{n}" for n in range(20)]
        ids = [self.submit(key, self.gate(key)) for key in keys]
        self.assertTrue(wait_until(lambda: len(self.notes("start")) == 20))
        self.assertTrue(wait_until(lambda: all(v["status"] == "RUNNING" for v in self.views().values())))
        self.fleet.kill("worker")
        self.open(*keys[:5])
        self.assertTrue(wait_until(lambda: len(self.notes("end")) == 5))
        self.fleet.start("worker")
        self.assertTrue(wait_until(lambda: [self.views()[i]["status"] for i in ids] == ["COMPLETED"] * 5 + ["RUNNING"] * 15))
        self.assertEqual({v["attempt"] for v in self.views().values()}, {1})
        self.open(*keys)
        self.end_all()
        self.assertEqual([self.views()[i]["status"] for i in ids], ["COMPLETED"] * 20)
        self.assertEqual(sorted(n.session for n in self.notes("start")), sorted(ids))
        self.assert_promises()


class FrozenWorker(SpecialCase):
    def freeze_with_an_assignment(self, on_lost):
        self.fleet.signal("worker", signal.SIGSTOP)
        session = self.submit("frozen", "run=0.1", on_lost=on_lost)
        assigned = lambda: self.client.status(session)["session"]["detail"] == "assigned"  # noqa: E731
        self.assertTrue(wait_until(assigned, 5), self.client.status(session))
        pause(FROZEN)
        self.assertEqual(self.notes("start"), [])
        self.fleet.signal("worker", signal.SIGCONT)
        self.end_all()
        return session

    def test_assignment_in_its_buffer_is_started_once(self):
        session = self.freeze_with_an_assignment("wait")
        self.assertEqual(self.views()[session]["status"], "COMPLETED")
        self.assertEqual(len(self.notes("start")), 1)
        self.assert_promises()

    def test_and_with_requeue_under_the_later_fence_alone(self):
        session = self.freeze_with_an_assignment("requeue")
        self.assertEqual(self.views()[session]["status"], "COMPLETED")
        starts = self.notes("start")
        self.assertEqual(len(starts), 1, starts)
        self.assertEqual(starts[0].attempt, self.views()[session]["attempt"])
        self.assert_promises()


class TmuxServer(SpecialCase):
    def test_its_end_is_reported_at_once_and_the_next_session_runs_in_a_new_one(self):
        keys = [f"k{n}" for n in range(6)]
        ids = [self.submit(key, self.gate(key)) for key in keys]
        self.assertTrue(wait_until(lambda: all(v["status"] == "RUNNING" for v in self.views().values())))
        server = self.fleet.tmux_pid()
        send(server, signal.SIGKILL)
        self.end_all(10)
        for session in ids:
            view = self.views()[session]
            self.assertEqual((view["status"], view["detail"]), ("FAILED", "lost"))
            self.assertIn("tmux server ended", view["reason"])
        after = self.submit("after", "run=0")
        self.end_all()
        self.assertEqual(self.views()[after]["status"], "COMPLETED")
        self.assertNotIn(self.fleet.tmux_pid(), (server, None))
        self.assert_promises()


class TwoFleets(SpecialCase):
    def test_sessions_of_one_name_do_not_end_each_other(self):
        """Ids are unique in one fleet: two that are asked in the same second give the same one."""
        other = LiveFleet(BUILD)
        self.addCleanup(other.down)
        other.up()
        with Client(other.broker_socket, patience=60) as client:
            for n in range(50):
                mine = self.submit(f"k{n}", self.gate("all"))
                theirs = client.submit("truth-agent", f"key={n} run=0.5", key=str(n))["id"]
                if mine == theirs:
                    break
                self.client.kill(mine)
            self.assertEqual(mine, theirs)
            for _ in client.follow(theirs):
                pass
            self.assertEqual(client.status(theirs)["session"]["status"], "COMPLETED")
        self.assertEqual(self.notes("end", mine), [])
        self.open("all")
        self.end_all()
        self.assertEqual(self.views()[mine]["status"], "COMPLETED", self.views()[mine])


class PowerCut(SpecialCase):
    """The first moments of a fleet are those in which most is not synced yet."""

    def test_right_after_the_first_answer(self):
        session = self.submit("k", self.gate("k"))
        self.assertTrue(wait_until(lambda: self.notes("start")))
        self.fleet.cut_power(seed=1, forget="all")
        for half in HALVES:
            self.fleet.start(half)
        self.open("k")
        self.end_all()
        view = self.views()[session]
        self.assertEqual((view["status"], view["detail"]), ("FAILED", "lost"), view)
        self.assertEqual(len(self.notes("start")), 1)
        again = self.submit("again", "run=0")
        self.end_all()
        self.assertEqual(self.views()[again]["status"], "COMPLETED")
        self.assert_promises()


class GivenUpPeer(SpecialCase):
    def test_worker_comes_back_after_something_that_was_no_broker(self):
        """libzmq never connects again after a peer that broke its protocol, and says nothing."""
        link = self.fleet.worker_link
        link.replay_down({"down": b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + b"\0" * 48 + b"\4\3bad"})
        link.cut()
        self.assertTrue(wait_until(lambda: self.client.workers()[0]["state"] != "up", 20))
        self.assertTrue(wait_until(lambda: self.client.workers()[0]["state"] == "up", 40))
        session = self.submit("k", "run=0")
        self.end_all()
        self.assertEqual(self.views()[session]["status"], "COMPLETED")


if __name__ == "__main__":
    unittest.main(verbosity=2)
