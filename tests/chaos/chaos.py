#!/usr/bin/env python3
"""Harms a real fleet under load and checks what became of every session. See scripts/chaos for the usage."""

import argparse
import os
import pathlib
import random
import sys
import time

from checker import check, summary
from history import FINAL, Recorder, Row, read_notes
from live import CannotRun, Client, LiveFleet, pause, wait_until
from load import Load, probe
from nemesis import KINDS, NEED_TMPFS, Nemesis

RECOVERY_MAX = 60.0
SETTLE_MAX = 180.0


def say(text):
    print(text, file=sys.stderr, flush=True)


class Round:
    """One fleet, one load, faults one after the other, and the verdict."""

    def __init__(self, build, seed, kinds):
        self.seed = seed
        self.kinds = kinds
        self.rng = random.Random(f"{seed}/kinds")
        self.begin = time.monotonic()
        self.fleet = LiveFleet(build, tmpfs=any(kind in NEED_TMPFS for kind in kinds),
                               on_crash=lambda what: self.recorder.crashed(what))  # pylint: disable=unnecessary-lambda
        self.recorder = Recorder(self.fleet.folder / "history.jsonl")
        self.nemesis = Nemesis(self.fleet, self.recorder, seed)
        self.load = Load(self.fleet, self.recorder, seed)
        self.order = []

    def next_kind(self):
        """Each kind once before any comes again."""
        if not self.order:
            self.order = self.rng.sample(self.kinds, len(self.kinds))
        return self.order.pop()

    def harm(self, number, kind, patient):
        """The seconds until a session could be run again, None when none could; 0 unless `patient`."""
        self.recorder.fault(kind)
        self.nemesis.inject(kind)
        if not patient:
            pause(self.rng.uniform(0.0, 4.0))
            return 0.0
        healed = probe(self.fleet, self.recorder, number, RECOVERY_MAX)
        if healed is None:
            self.recorder.history.not_recovered.append(kind)
            self.recorder.write("not-recovered", kind=kind)
        else:
            self.recorder.recovered(kind, healed)
        return healed

    def settle(self):
        """No more faults, no more submissions: everything must come to its end."""
        self.load.stopping.set()

        def all_final():
            with Client(self.fleet.broker_socket, patience=5.0) as client:
                return not any(True for _ in client.list(status=["CREATED", "RUNNING"]))
        settled = wait_until(all_final, SETTLE_MAX)
        self.load.stop()
        return settled

    def collect(self):
        history = self.recorder.history
        with Client(self.fleet.broker_socket, patience=20.0) as client:
            for view in client.list(rows_max=500):
                history.rows.append(Row(view["id"], (view.get("tags") or ["?"])[0], view["status"], view["detail"],
                                        view.get("attempt", 0), view.get("exit_code")))
            history.final_events += read_events(client)
        history.notes += read_notes(self.fleet.truth)
        # What is on its way out when the last session is final has a moment.
        wait_until(lambda: not self.fleet.agents() and not self.fleet.launchers(), 15)
        history.leftovers += [f"pid {pid} {' '.join(argv)}" for pid, argv in self.fleet.agents()]
        history.leftovers += [f"pid {pid} iexec" for pid in self.fleet.launchers()]

    def verdict(self, keep):
        """Prints; true when no promise was broken. What is needed to look into a failure is kept."""
        violations = check(self.recorder.history)
        print(summary(self.recorder.history, violations, time.monotonic() - self.begin), flush=True)
        for violation in violations[:50]:
            print(f"VIOLATION {violation}")
        self.recorder.close()
        self.fleet.down(keep=keep or bool(violations))
        print(f"{len(violations)} violations with --seed {self.seed}" if violations else "no violation")
        if keep or violations:
            print(f"history, logs and state are kept in {self.fleet.folder}")
        return not violations


def read_events(client):
    """(id, status) of every final event since the beginning."""
    epoch, after = client.hello()["epoch"], 0
    while True:
        page = client.events(epoch, after)
        yield from ((e["id"], e["status"]) for e in page["events"] if e.get("id") and e["status"] in FINAL)
        if not page["events"] and page["next"] >= page["head"]:
            return
        after = page["next"]


def run_round(options):
    round_ = Round(options.build, options.seed, options.kinds)
    try:
        round_.fleet.up()
        round_.load.start()
        number = 0
        while more(options, number, round_.begin):
            kind = round_.next_kind()
            # Power cuts fall at random points, into recoveries, too; now and then all is awaited.
            patient = not options.power_cuts or number % 10 == 9
            healed = round_.harm(number, kind, patient)
            number += 1
            word = "NOT RECOVERED" if healed is None else f"recovered in {healed:.1f} s" if patient else ""
            say(f"{time.monotonic() - round_.begin:6.0f} s  {number:4}  {kind:<22} {word}")
        say("healed; waiting for every session to end")
        round_.settle()
        round_.collect()
    except BaseException:
        round_.load.stopping.set()
        round_.fleet.down(keep=True)
        say(f"the round was broken off; what it left is in {round_.fleet.folder}")
        raise
    return round_.verdict(options.keep)


def more(options, number, begin):
    if options.faults:
        return number < options.faults
    return time.monotonic() - begin < options.minutes * 60


def parse(argv):
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="inject faults for so long (default 1)")
    parser.add_argument("--faults", type=int, default=0, help="instead of --minutes: so many faults")
    parser.add_argument("--power-cuts", type=int, default=0, metavar="N", help="nothing but N power cuts")
    parser.add_argument("--seed", type=int, default=None, help="chooses faults and load (default: the time)")
    parser.add_argument("--only", default="", metavar="KIND,...", help=f"of: {', '.join(KINDS)}")
    parser.add_argument("--keep", action="store_true", help="keep history, logs and state of a good run, too")
    parser.add_argument("--build", type=pathlib.Path, default=os.environ.get("IW_TEST_BUILD"))
    options = parser.parse_args(argv)
    if options.seed is None:
        options.seed = int(time.time())
    options.kinds = [kind for kind in options.only.split(",") if kind] or list(KINDS)
    unknown = [kind for kind in options.kinds if kind not in KINDS]
    if unknown:
        parser.error(f"no fault is called {unknown[0]!r}; there are {', '.join(KINDS)}")
    if options.power_cuts:
        options.kinds, options.faults = ["power-cut"], options.power_cuts
    if not options.only and not options.power_cuts and os.geteuid() != 0:
        options.kinds = [kind for kind in options.kinds if kind not in NEED_TMPFS]
        say(f"left out, since only root may mount a small file system: {', '.join(NEED_TMPFS)}")
    if options.build is None or not (options.build / "faults/truth_agent").exists():
        parser.error("--build must name a folder in which everything is built, tests/chaos.cmake included")
    return options


def main(argv):
    options = parse(argv)
    say(f"seed {options.seed}")
    try:
        return 0 if run_round(options) else 1
    except CannotRun as reason:
        say(f"scripts/chaos: {reason}")
        return 69


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
