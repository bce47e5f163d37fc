#!/usr/bin/env python3
"""Hands seeds to simulator processes, shows how far they are, says how to replay what broke."""

import argparse
import os
import pathlib
import queue
import subprocess
import sys
import threading
import time

SIMULATOR = pathlib.Path(os.environ["IW_SIM_BUILD"]) / "tests" / "simulator"
BAR_WIDTH = 40
PLAIN_EVERY_S = 10


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(64, f"scripts/simulate: {message}\n")


def options():
    parser = Parser(prog="scripts/simulate")
    parser.add_argument("first", type=int, metavar="FROM")
    parser.add_argument("last", type=int, nargs="?", metavar="TO")
    parser.add_argument("--plant", default="", metavar="NAME")
    parser.add_argument("-j", dest="jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--trace", action="store_true")
    chosen = parser.parse_args()
    if chosen.last is None:
        chosen.last = chosen.first
    if chosen.first < 1 or chosen.last < chosen.first or chosen.jobs < 1:
        parser.error("seeds are numbers from 1, FROM is not after TO, N is at least 1")
    return chosen


def share(first, last, stride, extra, results):
    """Every stride-th seed; a broken assumption ends the process, and the next one goes on behind it."""
    seed = first
    while seed <= last:
        process = subprocess.Popen([SIMULATOR, str(seed), str(last), "--stride", str(stride), *extra],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in process.stdout:
            words = line.split(" ", 2)
            if len(words) < 3 or words[0] != "seed":
                continue
            seed = int(words[1])
            # Nothing behind it: the process ended there.
            if words[2].strip():
                results.put((seed, words[2].strip()))
                seed += stride
        said = process.stderr.read().strip().splitlines()
        if process.wait() in (0, 1):
            break
        if process.returncode == 64:
            results.put((0, "\n".join(said)))
            break
        results.put((seed, "broken: " + (said[-1] if said else f"ended with {process.returncode}")))
        seed += stride
    results.put(None)


class Progress:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, total):
        self.total = total
        self.is_terminal = sys.stderr.isatty()
        self.started = time.monotonic()
        self.shown_at = self.started

    def text(self, done, broken):
        rate = done / max(time.monotonic() - self.started, 0.001)
        left = (self.total - done) / rate if rate else 0
        return f"{done}/{self.total} seeds, {broken} broken, {rate:.0f} a second, {left:.0f} s left"

    def show(self, done, broken):
        now = time.monotonic()
        if now - self.shown_at < (0.1 if self.is_terminal else PLAIN_EVERY_S) and done < self.total:
            return
        self.shown_at = now
        if not self.is_terminal:
            print(self.text(done, broken), file=sys.stderr, flush=True)
            return
        filled = BAR_WIDTH * done // self.total
        bar = "#" * filled + "-" * (BAR_WIDTH - filled)
        print(f"\r\033[K[{bar}] {self.text(done, broken)}", end="", file=sys.stderr, flush=True)

    def line(self, text):
        if self.is_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        print(text, flush=True)

    def end(self):
        if self.is_terminal:
            print(file=sys.stderr)


def main():
    chosen = options()
    extra = ["--plant", chosen.plant] if chosen.plant else []
    if chosen.trace:
        return subprocess.run([SIMULATOR, str(chosen.first), str(chosen.last), "--trace", *extra],
                              check=False).returncode != 0
    results = queue.Queue()
    total = chosen.last - chosen.first + 1
    jobs = min(chosen.jobs, total)
    for job in range(jobs):
        threading.Thread(target=share, daemon=True,
                         args=(chosen.first + job, chosen.last, jobs, extra, results)).start()
    progress = Progress(total)
    done = broken = 0
    while jobs:
        result = results.get()
        if result is None:
            jobs -= 1
            continue
        seed, what = result
        if seed == 0:
            print(what, file=sys.stderr)
            return 64
        done += 1
        if not what.startswith("ok "):
            broken += 1
            progress.line(f"seed {seed} {what}")
            progress.line(f"  replay: scripts/simulate {seed} --trace" + "".join(f" {word}" for word in extra))
        elif total == 1:
            progress.line(f"seed {seed} {what}")
        progress.show(done, broken)
    progress.end()
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
