"""Judges a History. It believes the agents about what ran, the fleet only about what it promised."""

import collections
import dataclasses

from history import FINAL

# What the fleet may take for the end of an attempt that says of itself that it ended well: its host was harmed.
HARMED = ("lost", "disk-limit", "start-failed", "dependency-failed")
# None of these faults takes anything away from a running agent.
HARMLESS = ("kill-broker", "kill-worker", "kill-both", "kill-again-and-again", "end-politely", "stop-broker", "stop-worker",
            "stop-and-kill-worker", "stop-iexec", "partition-hold", "partition-drop", "partition-one-way", "link-delay",
            "link-cut", "link-refused", "clients-partitioned", "clients-cut", "replay-to-broker", "replay-to-worker",
            "clock-jump", "restore")


@dataclasses.dataclass
class Violation:
    kind: str
    text: str

    def __str__(self):
        return f"{self.kind}: {self.text}"


def check(history):
    """All violations, in the order of the promises."""
    rows = {row.id: row for row in history.rows}
    found = []
    for rule in (lost, accepted_twice, ids_of_keys, stuck, started_twice, counted_twice, changed_final, unfounded_ends,
                 unknown_runs, side_by_side, given_up_early, out_of_order, unwished_ends, lost_unharmed, remains):
        found += [Violation(kind, text) for kind, text in rule(history, rows)]
    return found


def lost(history, rows):
    for submit in history.submits.values():
        for session in submit.ids:
            if session not in rows and not history.may_be_forgotten(history.acked_at.get(session)):
                yield "lost", f"{session} was acknowledged under key {submit.key} and is not known any more"


def accepted_twice(history, rows):
    by_key = collections.defaultdict(list)
    for row in rows.values():
        by_key[row.key].append(row.id)
    if len(rows) != len(history.rows):
        yield "accepted twice", "the fleet lists a session twice"
    for key, ids in by_key.items():
        submit = history.submits.get(key)
        if submit is None:
            yield "unknown session", f"{', '.join(ids)}: nobody submitted key {key!r}"
        elif len(ids) > 1:
            yield "accepted twice", f"key {key}: {', '.join(sorted(ids))}"
        elif submit.outcome == "refused":
            yield "accepted twice", f"{ids[0]}: key {key} was refused, so the caller may have submitted it elsewhere"


def ids_of_keys(history, rows):
    for submit in history.submits.values():
        kept = [session for session in submit.ids if not history.may_be_forgotten(history.acked_at.get(session))]
        if len(kept) > 1:
            yield "accepted twice", f"key {submit.key} was answered with {', '.join(sorted(kept))}"
        for session in submit.ids:
            if session in rows and rows[session].key != submit.key:
                yield "wrong session", f"key {submit.key} was answered with {session}, which is of key {rows[session].key}"


def stuck(history, rows):
    for row in rows.values():
        if row.status not in FINAL:
            yield "stuck", f"{row.id} is still {row.status}/{row.detail} (attempt {row.attempt})"
    for kind in history.not_recovered:
        yield "stuck", f"no session could be run after {kind}"


def started_twice(history, _):
    starts = collections.Counter((n.session, n.attempt) for n in history.notes if n.what == "start")
    for (session, attempt), count in starts.items():
        if count > 1:
            yield "started twice", f"{session} attempt {attempt} was started {count} times"


def counted_twice(history, rows):
    events = collections.Counter(session for session, _ in history.final_events)
    for session, count in events.items():
        if count > 1:
            yield "counted twice", f"{session} has {count} final events"
    for row in rows.values():
        if row.status in FINAL and history.final_events and not events[row.id]:
            yield "event missing", f"{row.id} is {row.status}, but no event said so"
    for session, status in history.final_events:
        if session in rows and rows[session].status != status:
            yield "counted twice", f"{session} is {rows[session].status}, an event said {status}"


def changed_final(history, rows):
    for session, answers in history.seen.items():
        if history.may_be_forgotten(history.seen_at.get(session)):
            continue
        if len(answers) > 1:
            yield "counted twice", f"{session} changed after its end: {sorted(answers)}"
        row = rows.get(session)
        if row is not None and (row.status, row.detail, row.attempt) not in answers:
            yield "counted twice", f"{session} was {sorted(answers)[0]}, is {row.status}/{row.detail} attempt {row.attempt}"


def unfounded_ends(history, rows):
    """An outcome that the agent itself does not bear out."""
    ends = {(n.session, n.attempt): n for n in history.notes if n.what == "end"}
    for row in rows.values():
        end = ends.get((row.id, row.attempt))
        if row.status == "COMPLETED" and (end is None or end.exit_code != 0):
            said = "never said that it ended" if end is None else f"ended with {end.exit_code}"
            yield "counted wrongly", f"{row.id} is COMPLETED, its attempt {row.attempt} {said}"
        if row.status == "FAILED" and row.detail == "exited":
            if end is None or end.exit_code == 0 or end.exit_code != row.exit_code:
                said = "no end" if end is None else end.exit_code
                yield "counted wrongly", f"{row.id} is FAILED with exit code {row.exit_code}, its agent noted {said}"
        if row.status == "FAILED" and row.detail not in HARMED and end is not None and end.exit_code == 0:
            yield "counted wrongly", f"{row.id} is FAILED/{row.detail}, its agent ended well"


def unknown_runs(history, rows):
    starts = [n for n in history.notes if n.what == "start" and not history.ran_unknown(n.at_ms)]
    for session in sorted({n.session for n in starts} - set(rows)):
        yield "lost", f"{session} ran, but is not known any more"
    for note in starts:
        row = rows.get(note.session)
        if row is not None and note.attempt > row.attempt:
            yield "lost", f"{note.session}: attempt {note.attempt} ran, the fleet knows of {row.attempt}"


def side_by_side(history, rows):
    """Under `wait` a next attempt begins only when the one before is surely over."""
    ends = {(n.session, n.attempt): n.at_ms for n in history.notes if n.what == "end"}
    for note in history.notes:
        row = rows.get(note.session)
        submit = history.submits.get(row.key) if row is not None else None
        if note.what != "start" or submit is None or submit.on_lost != "wait":
            continue
        before = ends.get((note.session, note.attempt - 1))
        if before is not None and before > note.at_ms:
            yield "started twice", f"{note.session}: attempt {note.attempt} began before attempt {note.attempt - 1} ended"


def given_up_early(history, rows):
    """FAILED by its own exit code only when every attempt that its rules grant has failed by its own word, or when
    a kill was wished meanwhile."""
    for row in rows.values():
        submit = history.submits.get(row.key)
        if submit is None or submit.attempts_max <= 1 or row.id in history.kills or (row.status, row.detail) != ("FAILED", "exited"):
            continue
        failed = {n.attempt for n in history.notes if n.what == "end" and n.session == row.id and n.exit_code != 0}
        if len(failed) < submit.attempts_max:
            yield "counted wrongly", f"{row.id} was given up after {len(failed)} of {submit.attempts_max} attempts"


def out_of_order(history, rows):
    """What waits for another starts after that one's end, and only after the right one."""
    ends = {(n.session, n.attempt): n.at_ms for n in history.notes if n.what == "end"}
    starts = {}
    for note in history.notes:
        if note.what == "start":
            starts[note.session] = min(note.at_ms, starts.get(note.session, note.at_ms))
    wanted = {"success": ("COMPLETED",), "failure": ("FAILED", "KILLED"), "end": FINAL}
    for row in rows.values():
        submit = history.submits.get(row.key)
        for other, condition in submit.after if submit is not None else ():
            if row.id not in starts or other not in rows:
                continue
            if starts[row.id] < ends.get((other, rows[other].attempt), 0):
                yield "out of order", f"{row.id} started before {other}, for which it was to wait, ended"
            if rows[other].status not in wanted[condition] and not history.ran_unknown(starts[row.id]):
                yield "out of order", f"{row.id} started after the {condition} of {other}, which is {rows[other].status}"


def unwished_ends(history, rows):
    for row in rows.values():
        submit = history.submits.get(row.key)
        if row.status != "KILLED" or submit is None:
            continue
        if row.detail == "killed" and row.id not in history.kills:
            yield "counted wrongly", f"{row.id} is KILLED, nobody asked for it"
        if row.detail == "timeout" and submit.timeout_ms == 0:
            yield "counted wrongly", f"{row.id} is KILLED/timeout without having one"


def lost_unharmed(history, rows):
    """Under `wait` silence alone ends nothing."""
    if not history.faults or set(history.faults) - set(HARMLESS):
        return
    for row in rows.values():
        submit = history.submits.get(row.key)
        if submit is not None and submit.on_lost == "wait" and row.detail in ("lost", "disk-limit", "start-failed"):
            yield "counted wrongly", f"{row.id} is {row.status}/{row.detail}, though no fault has harmed its host"


def remains(history, _):
    for what in history.leftovers:
        yield "left over", what
    for what in history.crashes:
        yield "crashed", what


def summary(history, violations, seconds):
    """The table that a person reads."""
    count = collections.Counter(v.kind for v in violations)
    rows = history.rows
    outcomes = collections.Counter(f"{r.status}/{r.detail}" for r in rows)
    unlucky = sorted({(r.id, r.attempt) for r in rows if r.status == "FAILED"} &
                     {(n.session, n.attempt) for n in history.notes if n.what == "end" and n.exit_code == 0})
    submits = collections.Counter(s.outcome for s in history.submits.values())
    slowest = max(history.recoveries, default=(0.0, "none"))
    faults = ", ".join(f"{kind} {n}" for kind, n in sorted(history.faults.items())) or "none"
    lines = [
        ("seconds", f"{seconds:.0f}"),
        ("faults injected", f"{sum(history.faults.values())}: {faults}"),
        ("sessions submitted", f"{len(history.submits)}: {submits['acked']} acknowledged, {submits['refused']} refused, "
                               f"{submits['unknown']} with unknown outcome"),
        ("sessions at the end", f"{len(rows)}: " + ", ".join(f"{word} {n}" for word, n in sorted(outcomes.items()))),
        ("agents started", str(sum(n.what == "start" for n in history.notes))),
        ("ended well, not counted", f"{len(unlucky)} (their host was harmed before it could be told)"),
        ("lost", str(count["lost"])),
        ("accepted twice", str(count["accepted twice"])),
        ("counted twice", str(count["counted twice"] + count["counted wrongly"])),
        ("started twice", str(count["started twice"])),
        ("stuck", str(count["stuck"])),
        ("left over, crashed", f"{count['left over']}, {count['crashed']}"),
        ("other violations", str(sum(count.values()) - sum(count[k] for k in (
            "lost", "accepted twice", "counted twice", "counted wrongly", "started twice", "stuck", "left over",
            "crashed")))),
        ("slowest recovery", f"{slowest[0]:.1f} s after {slowest[1]}"),
    ]
    return "\n".join(f"{name:<24} {value}" for name, value in lines)
