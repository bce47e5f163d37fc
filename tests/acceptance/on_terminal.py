"""A program on a pseudo terminal of its own, and the keys of a person who sits there."""

import os
import pty
import select
import signal
import time

from fleet import wait_until

CTRL_B = b"\x02"
CTRL_C = b"\x03"


class OnTerminal:
    """One program on a pseudo terminal of its own."""

    def __init__(self, argv, folder, environment):
        self.output = b""
        self.code = None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(folder)
                os.execvpe(argv[0], argv, environment)
            finally:
                os._exit(127)

    def read(self, until, cap=60.0):
        """Reads until `until` shows (None: until the program closes its terminal)."""
        end = time.monotonic() + cap
        while until is None or until not in self.output:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return False
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # how Linux tells that the other side is closed
                data = b""
            if not data:
                return until is None
            self.output += data
        return True

    def write(self, keys):
        os.write(self.fd, keys)

    def leave(self):
        """Ctrl+B D as a person types it: tmux takes keys that come within a millisecond for pasted text."""
        self.write(CTRL_B)
        select.select([], [], [], 0.05)
        self.write(b"d")
        return self.read(b"left running", cap=2.0)

    def finish(self):
        """Reads to the end; the exit code."""
        if not (self.read(None) and wait_until(self.ended)):
            raise AssertionError(f"it does not end: {self.output!r}")
        return self.code

    def ended(self):
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def close(self):
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)
