"""The checker by itself: a good history passes, and each way in which a fleet can break its word is found."""

import copy
import pathlib
import tempfile
import unittest

from checker import check, summary
from history import History, Note, Row, Submit, read_notes


def good():
    history = History()
    for n, (status, detail, code) in enumerate([("COMPLETED", "done", 0), ("FAILED", "exited", 3), ("KILLED", "killed", 143)]):
        key, session = f"k{n}", f"20260101-00000{n}-a"
        history.submits[key] = Submit(key, "acked", {session})
        history.rows.append(Row(session, key, status, detail, 1, code))
        history.seen[session] = {(status, detail, 1)}
        history.final_events.append((session, status))
        history.notes.append(Note("start", session, 1, 100 + n, key, 1000))
        if status != "KILLED":
            history.notes.append(Note("end", session, 1, 100 + n, key, 2000, code))
    history.kills.add("20260101-000002-a")
    history.submits["k3"] = Submit("k3", "unknown")
    history.submits["k4"] = Submit("k4", "refused")
    return history


FIRST = "20260101-000000-a"


def without_row(history):
    history.rows.pop(0)
    history.notes = [n for n in history.notes if n.session != FIRST]


def second_row_of_a_key(history):
    history.rows.append(Row("20260101-000009-a", "k0", "KILLED", "killed", 0))
    history.kills.add("20260101-000009-a")
    history.final_events.append(("20260101-000009-a", "KILLED"))


def set_first(**fields):
    def change(history):
        for name, value in fields.items():
            setattr(history.rows[0], name, value)
        history.seen.clear()
        history.final_events = [(r.id, r.status) for r in history.rows if r.status in ("COMPLETED", "FAILED", "KILLED")]
    return change


def note(*fields):
    return lambda history: history.notes.append(Note(*fields))


def next_attempt_too_early(history):
    set_first(attempt=2)(history)
    history.notes += [Note("start", FIRST, 2, 7, "k0", 1500), Note("end", FIRST, 2, 7, "k0", 2500, 0)]


def lost_after(fault):
    def change(history):
        set_first(status="FAILED", detail="lost", exit_code=None)(history)
        history.faults[fault] = 1
    return change


def given_up(history):
    history.submits["k1"].attempts_max = 2


def waits_for_second(condition, start_at):
    def change(history):
        history.submits["k0"].after = (("20260101-000001-a", condition),)
        history.notes[0].at_ms = start_at
    return change


BAD = [
    ("counted wrongly", lost_after("kill-worker")),
    ("counted wrongly", given_up),
    ("out of order", waits_for_second("failure", 1999)),
    ("out of order", waits_for_second("success", 2001)),
    ("lost", without_row),
    ("lost", note("start", "20260101-000007-a", 1, 5, "k9", 1)),
    ("lost", note("start", FIRST, 2, 5, "k0", 3000)),
    ("accepted twice", second_row_of_a_key),
    ("accepted twice", lambda h: h.submits["k0"].ids.add("20260101-000008-a")),
    ("accepted twice", lambda h: setattr(h.submits["k0"], "outcome", "refused")),
    ("accepted twice", lambda h: h.rows.append(copy.copy(h.rows[0]))),
    ("unknown session", lambda h: h.submits.pop("k0")),
    ("wrong session", lambda h: h.submits["k3"].ids.add(FIRST)),
    ("stuck", set_first(status="RUNNING", detail="working")),
    ("stuck", lambda h: h.not_recovered.append("kill-broker")),
    ("started twice", note("start", FIRST, 1, 200, "k0", 1001)),
    ("started twice", next_attempt_too_early),
    ("counted twice", lambda h: h.final_events.append((FIRST, "COMPLETED"))),
    ("counted twice", lambda h: h.seen[FIRST].add(("FAILED", "lost", 1))),
    ("counted twice", lambda h: setattr(h.rows[0], "attempt", 2)),
    ("event missing", lambda h: h.final_events.pop(0)),
    ("counted wrongly", lambda h: h.notes.pop(1)),
    ("counted wrongly", set_first(status="FAILED", detail="exited", exit_code=1)),
    ("counted wrongly", set_first(status="FAILED", detail="signal", exit_code=139)),
    ("counted wrongly", lambda h: setattr(h.rows[1], "exit_code", 4)),
    ("counted wrongly", lambda h: h.kills.clear()),
    ("counted wrongly", lambda h: setattr(h.rows[2], "detail", "timeout")),
    ("left over", lambda h: h.leftovers.append("pid 5")),
    ("crashed", lambda h: h.crashes.append("ibroker: signal 11")),
]


class Checker(unittest.TestCase):
    def test_good(self):
        self.assertEqual([str(v) for v in check(good())], [])
        self.assertIn("lost                     0", summary(good(), [], 1))

    def test_unknown_outcome_may_exist_once(self):
        history = good()
        history.rows.append(Row("20260101-000005-a", "k3", "KILLED", "expired", 0))
        history.final_events.append(("20260101-000005-a", "KILLED"))
        self.assertEqual(check(history), [])

    def test_next_attempt_side_by_side_is_what_requeue_asks_for(self):
        history = good()
        next_attempt_too_early(history)
        history.submits["k0"].on_lost = "requeue"
        self.assertEqual(check(history), [])

    def test_a_kill_ends_the_attempts(self):
        history = good()
        given_up(history)
        history.kills.add("20260101-000001-a")
        self.assertEqual(check(history), [])

    def test_order_is_kept(self):
        history = good()
        waits_for_second("failure", 2001)(history)
        self.assertEqual(check(history), [])

    def test_harm_to_the_host_excuses_an_end_that_was_not_counted(self):
        history = good()
        set_first(status="FAILED", detail="lost", exit_code=None)(history)
        self.assertEqual(check(history), [])
        self.assertIn("not counted  1", summary(history, [], 1))
        lost_after("kill-tmux")(history)
        self.assertEqual(check(history), [])

    def test_a_restore_takes_back_what_came_after_its_backup_and_nothing_else(self):
        """Of the first session: acknowledged and seen final at 10, run at 1 (its note)."""
        def restored(begin, end, spoil):
            history = good()
            history.acked_at, history.seen_at = {FIRST: 10.0}, {FIRST: 10.0}
            history.forgotten = [(begin, end)]
            spoil(history)
            return {str(v).split(":")[0] for v in check(history)}

        def gone(history):
            history.rows.pop(0)
            history.final_events.pop(0)

        def anew(history):
            history.rows[0].attempt, history.notes[1].attempt = 2, 2
            history.notes.append(Note("start", FIRST, 2, 7, "k0", 1500))

        self.assertEqual(restored(0.5, 11.0, gone), set())
        self.assertEqual(restored(10.5, 11.0, gone), {"lost"})
        self.assertEqual(restored(0.5, 9.0, gone), {"lost"})
        self.assertEqual(restored(0.5, 11.0, anew), set())
        self.assertEqual(restored(0.5, 9.0, anew), {"counted twice"})
        self.assertEqual(restored(0.5, 11.0, note("start", FIRST, 1, 200, "k0", 1001)), {"started twice"})

    def test_bad(self):
        for number, (kind, spoil) in enumerate(BAD):
            with self.subTest(number=number, kind=kind):
                history = good()
                spoil(history)
                violations = check(history)
                self.assertIn(kind, {v.kind for v in violations}, [str(v) for v in violations])

    def test_reads_notes(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "truth"
            self.assertEqual(read_notes(path), [])
            path.write_text("start s 1 10 k 5\nend s 1 10 k 6 3\nstart cut sho")
            self.assertEqual(read_notes(path), [Note("start", "s", 1, 10, "k", 5), Note("end", "s", 1, 10, "k", 6, 3)])
            path.write_text("strat s 1 10 k 5\n")
            self.assertRaises(ValueError, read_notes, path)


if __name__ == "__main__":
    unittest.main(verbosity=2)
