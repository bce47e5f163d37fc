"""What was asked of a fleet, what it answered, and what its agents themselves say: the checker's whole world."""

import dataclasses
import json
import pathlib
import threading
import time

FINAL = ("COMPLETED", "FAILED", "KILLED")
HANDED_OUT = 10.0  # so long after a broker is gone its worker may start what it was given


def now():
    """Seconds on the agents' clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclasses.dataclass
class Submit:
    """One submission under one key, however often it was sent. `outcome`: acked, refused, unknown."""

    key: str
    outcome: str = "unknown"
    ids: set = dataclasses.field(default_factory=set)  # of every acknowledgement
    on_lost: str = "wait"
    attempts_max: int = 1
    timeout_ms: int = 0  # 0: longer than any test
    after: tuple = ()  # (id, condition) of what it waits for: success, failure, end


@dataclasses.dataclass
class Row:
    """A session as the fleet lists it at the end."""

    id: str
    key: str
    status: str
    detail: str = ""
    attempt: int = 0
    exit_code: int | None = None


@dataclasses.dataclass
class Note:
    """A line of an agent's own: `start`, or `end` with its exit code."""

    what: str
    session: str
    attempt: int
    pid: int
    key: str
    at_ms: int
    exit_code: int | None = None


@dataclasses.dataclass
class History:
    submits: dict = dataclasses.field(default_factory=dict)  # key -> Submit
    kills: set = dataclasses.field(default_factory=set)  # ids for which a kill was sent, whatever came of it
    seen: dict = dataclasses.field(default_factory=dict)  # id -> {(status, detail, attempt)} of final answers
    final_events: list = dataclasses.field(default_factory=list)  # (id, status) of each final event
    rows: list = dataclasses.field(default_factory=list)
    notes: list = dataclasses.field(default_factory=list)
    leftovers: list = dataclasses.field(default_factory=list)  # what still runs of sessions that are over
    crashes: list = dataclasses.field(default_factory=list)  # ends of programs that nobody caused
    faults: dict = dataclasses.field(default_factory=dict)  # kind -> how often
    recoveries: list = dataclasses.field(default_factory=list)  # (seconds, kind)
    not_recovered: list = dataclasses.field(default_factory=list)  # kinds
    acked_at: dict = dataclasses.field(default_factory=dict)  # id -> first acknowledgement
    seen_at: dict = dataclasses.field(default_factory=dict)  # id -> first answer that showed it final
    forgotten: list = dataclasses.field(default_factory=list)  # (from, to) as of now(): what a restore may have taken back

    def may_be_forgotten(self, moment):
        """Whether what was answered at this moment need not hold any more; none: it was not answered."""
        return moment is not None and any(begin <= moment <= end for begin, end in self.forgotten)

    def ran_unknown(self, at_ms):
        """Whether an agent that began then may be one of which the restored store knows nothing."""
        return any(begin <= at_ms / 1000 <= end + HANDED_OUT for begin, end in self.forgotten)


def read_notes(path):
    """The agents' file. A line that is cut short is not a note: its agent died while it wrote."""
    notes = []
    text = pathlib.Path(path).read_text() if pathlib.Path(path).exists() else ""
    for line in text.split("\n")[:-1]:
        words = line.split(" ")
        if words[0] not in ("start", "end") or len(words) != (6 if words[0] == "start" else 7):
            raise ValueError(f"{path}: not a note: {line!r}")
        code = int(words[6]) if words[0] == "end" else None
        notes.append(Note(words[0], words[1], int(words[2]), int(words[3]), words[4], int(words[5]), code))
    return notes


class Recorder:
    """Fills a History from several threads, and keeps it as JSON lines for whoever looks into a failure."""

    def __init__(self, path):
        self.history = History()
        self._lock = threading.Lock()
        self._file = open(path, "a", encoding="utf-8", buffering=1)  # pylint: disable=consider-using-with

    def close(self):
        self._file.close()

    def write(self, what, **fields):
        with self._lock:
            self._file.write(json.dumps({"t": round(time.monotonic(), 3), "what": what, **fields}) + "\n")

    def submitting(self, key, **rules):
        with self._lock:
            self.history.submits.setdefault(key, Submit(key, **rules))
        self.write("submit", key=key)

    def submitted(self, key, session):
        with self._lock:
            submit = self.history.submits[key]
            submit.outcome = "acked"
            submit.ids.add(session)
            self.history.acked_at.setdefault(session, now())
        self.write("acked", key=key, id=session)

    def refused(self, key, code):
        with self._lock:
            submit = self.history.submits[key]
            if submit.outcome == "unknown":
                submit.outcome = "refused"
        self.write("refused", key=key, code=code)

    def killing(self, session):
        with self._lock:
            self.history.kills.add(session)
        self.write("kill", id=session)

    def saw(self, session, status, detail, attempt):
        if status not in FINAL:
            return
        with self._lock:
            known = self.history.seen.setdefault(session, set())
            fresh = (status, detail, attempt) not in known
            known.add((status, detail, attempt))
            self.history.seen_at.setdefault(session, now())
        if fresh:
            self.write("saw", id=session, status=status, detail=detail, attempt=attempt)

    def fault(self, kind, **fields):
        with self._lock:
            self.history.faults[kind] = self.history.faults.get(kind, 0) + 1
        self.write("fault", kind=kind, **fields)

    def forgot(self, begin, end):
        with self._lock:
            self.history.forgotten.append((begin, end))
        self.write("forgot", since=round(begin, 3))

    def recovered(self, kind, seconds):
        with self._lock:
            self.history.recoveries.append((seconds, kind))
        self.write("recovered", kind=kind, seconds=round(seconds, 2))

    def crashed(self, what):
        with self._lock:
            if what not in self.history.crashes:
                self.history.crashes.append(what)
        self.write("crashed", program=what)
