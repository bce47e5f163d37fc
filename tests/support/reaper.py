"""Ends what a test leaves running, and removes its folder, whatever becomes of the test itself.

As a program: reaper.py FOLDER, with the reading end of a pipe from the test as stdin. The pipe closes when the test
is done and when it is killed; all that belongs to FOLDER is ended then: who runs in it, or names it in arguments or
environment. "keep" on the pipe leaves the folder where it is.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

QUIET_LOOKS = 3  # what is just being started is seen by the next look
CAP = 60.0


class Reaper:
    """Of one test's folder, which exists already."""

    def __init__(self, folder):
        self._process = subprocess.Popen(  # pylint: disable=consider-using-with
            [sys.executable, __file__, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            start_new_session=True, cwd="/")

    def finish(self, keep=False):
        """Returns when nothing of the folder runs any more. May be repeated."""
        if self._process.stdin.closed:
            return
        if keep:
            self._process.stdin.write(b"keep")
        self._process.stdin.close()
        self._process.wait()


def belongs(entry, folder):
    for part in ("environ", "cmdline"):
        if folder in (entry / part).read_bytes():
            return True
    here = os.readlink(os.fsencode(entry / "cwd"))
    return here == folder or here.startswith(folder + b"/")


def processes_of(folder):
    """Pids of living processes, those of the reapers left out."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            if state not in "ZX" and belongs(entry, folder) and os.fsencode(__file__) not in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (OSError, IndexError):
            continue
    return found


def end_all(folder):
    quiet, deadline = 0, time.monotonic() + CAP
    while quiet < QUIET_LOOKS and time.monotonic() < deadline:
        found = processes_of(folder)
        quiet = 0 if found else quiet + 1
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)


def unmount_all(folder):
    places = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    for place in places:
        if place.startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", place], check=False)


def main(folder):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    keep = b"keep" in sys.stdin.buffer.read()
    end_all(os.fsencode(folder))
    unmount_all(folder)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
