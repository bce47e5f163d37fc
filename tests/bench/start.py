#!/usr/bin/env python3
"""How long a broker takes to serve again with many sessions queued, and what each costs in memory.

A data directory is filled with queued sessions; then the broker is started and killed with -9 some times. "ready" is from
its start to its word that it serves; "answer" to the first answer of `ictl workers`.

usage: IW_TEST_BUILD=build/release tests/bench/start.py SESSIONS...     (ROUNDS=3)
"""

import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import time

BUILD = pathlib.Path(os.environ.get("IW_TEST_BUILD", "build/release")).resolve()
READY_MAX = 120


def find(name):
    for folder in ("bin", "tests", "."):
        if (BUILD / folder / name).exists():
            return str(BUILD / folder / name)
    sys.exit(f"start.py: no {name} in {BUILD}: build it, or set IW_TEST_BUILD")


def memory(pid):
    """Resident bytes now and at the most, and CPU seconds so far."""
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return int(status["VmRSS"].split()[0]) * 1024, int(status["VmHWM"].split()[0]) * 1024, cpu


def wait_for_ready(broker):
    """Seconds until the log says ready."""
    begun = time.monotonic()
    while time.monotonic() - begun < READY_MAX:
        if not select.select([broker.stderr], [], [], 1)[0]:
            continue
        line = broker.stderr.readline()
        if "ready" in line:
            return time.monotonic() - begun
        if not line:
            break
    broker.kill()
    sys.exit("start.py: the broker did not get ready")


def one_round(folder):
    endpoint = f"ipc://{folder}/run/broker.sock"
    begun = time.monotonic()
    broker = subprocess.Popen([find("ibroker"), "--data-dir", folder + "/data", "--endpoint", endpoint],
                              stderr=subprocess.PIPE, text=True)
    try:
        ready = wait_for_ready(broker)
        subprocess.run([find("ictl"), "workers", "--broker", endpoint, "--json"], cwd=folder, check=True,
                       stdout=subprocess.DEVNULL, timeout=READY_MAX)
        answer = time.monotonic() - begun
        return ready, answer, *memory(broker.pid)
    finally:
        broker.send_signal(signal.SIGKILL)
        broker.wait()


def empty_memory(folder):
    os.makedirs(folder + "/data", mode=0o700)
    return one_round(folder)[2]


def main():
    counts = [int(count) for count in sys.argv[1:]]
    if not counts:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        base = empty_memory(folder)
    print(f"{'SESSIONS':>9} {'READY s':>8} {'ANSWER s':>9} {'CPU s':>6} {'RSS MiB':>8} {'PEAK MiB':>9} {'BYTES EACH':>11}")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(folder + "/data", mode=0o700)
            subprocess.run([find("start_store"), folder + "/data", str(count)], check=True)
            for _ in range(int(os.environ.get("ROUNDS", "3"))):
                ready, answer, resident, peak, cpu = one_round(folder)
                print(f"{count:>9} {ready:>8.2f} {answer:>9.2f} {cpu:>6.2f} {resident / 2**20:>8.1f} {peak / 2**20:>9.1f} "
                      f"{(resident - base) / count:>11.0f}", flush=True)


if __name__ == "__main__":
    main()
