"""A fleet of real processes that can be harmed: broker, worker and launchers under the fault shim, in one folder.

Started directly, not by `ictl up`, so that each program gets its environment and nobody but us starts it again.
Every process is ended by its pid; ours are those that we started, and those whose environment names our folder. That
also happens when whoever uses the fleet is killed.
"""

import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid

from power_cut import power_cut
from proxy import Proxy

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests/acceptance"))
from fleet import Reaper, alive, wait_until  # noqa: E402  pylint: disable=wrong-import-position
from protocol_client import Client, ProtocolError  # noqa: E402  pylint: disable=wrong-import-position

HALVES = ("broker", "worker")
EXIT_IO = 74
# Short leases: a fault that outlasts them must fit a round.
HEARTBEAT, UNREACHABLE, LOST = 0.25, 1.5, 5.0
TMPFS_MB = 800
AGENTS = {"truth-agent": "", "other-agent": ""}

WRAPPER = """#!/bin/sh
LD_PRELOAD={shim} IW_FAULTS_FOLDER={fleet} IW_FAULTS_LOG={undo} IW_FAULTS_SAVED={saved}
IW_FAULTS_SWITCHES={switches}
export LD_PRELOAD IW_FAULTS_FOLDER IW_FAULTS_LOG IW_FAULTS_SAVED IW_FAULTS_SWITCHES
exec {program} "$@"
"""


class CannotRun(Exception):
    """This machine cannot do what the round needs; the text says why."""


class LiveFleet:
    """Not started yet. `tmpfs`: everything the programs write stands on a small file system of its own."""

    def __init__(self, build, slots=8, tmpfs=False, on_crash=lambda what: None, settings=None):
        self.build = pathlib.Path(build).resolve()
        self.on_crash = on_crash
        self.slots = slots
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="iwc."))
        self._reaper = Reaper(self.folder)
        self.disk = self.folder / "disk"
        self.fleet = self.disk / "fleet"
        self.store = self.fleet / "broker"
        self.root = self.disk / "project"
        self.undo = self.folder / "undo"
        self.saved = self.disk / "saved"
        self.switches = self.folder / "switches"
        self.run = self.folder / "run"
        self.truth = self.folder / "truth"
        self.processes = {}
        self.wanted = {half: False for half in HALVES}
        self.excused = False  # an end with EXIT_IO is what the present fault asks for
        self.settings = settings or {}
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._mounted = False
        self._make_folders(tmpfs)
        self.broker_socket = f"ipc://{self.run}/b"
        self.worker_link = Proxy(f"{self.run}/w", f"{self.run}/b")
        self.client_link = Proxy(f"{self.run}/c", f"{self.run}/b")
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)

    # Folders and programs

    def _make_folders(self, tmpfs):
        self.disk.mkdir()
        if tmpfs:
            self._mount()
        for made in (self.run, self.switches, self.undo, self.saved, self.fleet, self.fleet / "state", self.root):
            made.mkdir(mode=0o700)
        self.boot()
        (self.switches / "all.clock").write_bytes(struct.pack("<q", 0))
        prefix = self.folder / "prefix"
        (prefix / "bin").mkdir(parents=True)
        for half in HALVES:
            self._put(self.build / f"bin/i{half}", prefix / f"bin/i{half}")
        self._put(self.build / "bin/ictl", prefix / "bin/ictl")
        libexec = prefix / "libexec/native-orchestrator"
        libexec.mkdir(parents=True)
        for name in ("iexec", "ilogd"):
            program = self.build / "libexec/native-orchestrator" / name
            wrapper = libexec / name
            wrapper.write_text(WRAPPER.format(shim=self.shim, fleet=self.fleet, undo=self.undo, saved=self.saved,
                                              switches=self.switches, program=program))
            wrapper.chmod(0o755)
        (prefix / "share").symlink_to(self.build / "share")
        for agent in AGENTS:
            run = self.root / "agents" / agent / "run"
            run.parent.mkdir(parents=True)
            run.write_text(f"#!/bin/sh\nexec {self.build}/faults/truth_agent {self.truth}\n")
            run.chmod(0o755)
        self.prefix = prefix

    @staticmethod
    def _put(source, target):
        """The program finds its installation by its own path, so a link that can be followed will not do."""
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    def _mount(self):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MB}m,mode=700", "none", self.disk], check=False,
                              capture_output=True, text=True)
        if done.returncode != 0:
            shutil.rmtree(self.folder)
            raise CannotRun(f"a small file system needs the right to mount one: {done.stderr.strip()}")
        self._mounted = True

    @property
    def shim(self):
        return self.build / "faults/libiw_faults.so"

    def environment(self, faulty=True):
        shim = {"LD_PRELOAD": str(self.shim), "IW_FAULTS_FOLDER": str(self.fleet), "IW_FAULTS_LOG": str(self.undo), "IW_FAULTS_SAVED": str(self.saved),
                "IW_FAULTS_SWITCHES": str(self.switches)}
        return {"PATH": f"{self.prefix}/bin:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.folder), "LANG": "C.UTF-8",
                "TERM": "xterm", "IW_CFG_STATE_DIR": str(self.fleet / "state"), **(shim if faulty else {})}

    def client_environment(self):
        return {**self.environment(faulty=False), "IW_CFG_BROKER_ENDPOINT": f"ipc://{self.run}/c"}

    def _command(self, half):
        if half == "broker":
            return [self.prefix / "bin/ibroker", "--data-dir", self.store, "--endpoint", self.broker_socket,
                    "--segment-size", str(16 << 20)]
        return [self.prefix / "bin/iworker", "--root", self.root, "--state-dir", self.fleet / "worker", "--broker",
                f"ipc://{self.run}/w", "--slots", str(self.slots)]

    def _variables(self, half):
        if half == "worker":
            return {"IW_CFG_WORKER_STOP_GRACE": "500ms"}
        settings = {"HEARTBEAT": f"{HEARTBEAT * 1000:.0f}ms", "UNREACHABLE": f"{UNREACHABLE * 1000:.0f}ms",
                    "LOST": f"{LOST * 1000:.0f}ms", "STORAGE_RESERVE": str(4 << 20), **self.settings}
        return {f"IW_CFG_BROKER_{name}": value for name, value in settings.items()}

    # Life

    def up(self):
        self._supervisor.start()
        for half in HALVES:
            self.start(half)
        if not wait_until(self.ready, 30):
            raise CannotRun(f"the fleet does not come up; see {self.folder}/*.log")

    def start(self, half):
        with self._lock:
            self.wanted[half] = True
            if half not in self.processes:
                self._launch(half)

    def _launch(self, half):
        with open(self.folder / f"{half}.log", "ab") as log:
            self.processes[half] = subprocess.Popen(  # pylint: disable=consider-using-with
                self._command(half), env={**self.environment(), **self._variables(half)}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, cwd="/")

    def _supervise(self):
        """Starts again what ended by itself, as a service manager does."""
        while not self._over.wait(0.3):
            with self._lock:
                for half in HALVES:
                    self._look_after(half)

    def _look_after(self, half):
        process = self.processes.get(half)
        if process is None or process.poll() is None:
            return
        del self.processes[half]
        if not (self.excused and process.returncode == EXIT_IO):
            self.on_crash(f"i{half} ended by itself with {process.returncode}; see {self.folder}/{half}.log")
        if self.wanted[half]:
            self._launch(half)

    def pid(self, half):
        with self._lock:
            process = self.processes.get(half)
            return process.pid if process is not None and process.poll() is None else None

    def signal(self, half, number):
        with self._lock:
            process = self.processes.get(half)
            if process is not None and process.poll() is None:
                process.send_signal(number)

    def kill(self, *halves):
        """-9 at once, before any of them is waited for; they stay down until start()."""
        with self._lock:
            gone = [self.processes.pop(half) for half in halves if half in self.processes]
            for half in halves:
                self.wanted[half] = False
            for process in gone:
                process.kill()
            for process in gone:
                process.wait()

    def leave(self, half):
        """SIGTERM; returns once it has ended. It stays down until start()."""
        with self._lock:
            process = self.processes.pop(half, None)
            self.wanted[half] = False
        if process is None:
            return
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            self.on_crash(f"i{half} has not ended 20 s after SIGTERM")
            process.kill()
            process.wait()

    def ready(self):
        try:
            with Client(self.broker_socket, patience=1.0) as client:
                return any(worker["state"] == "up" for worker in client.workers())
        except ProtocolError:
            return False

    # Processes of sessions

    def _pids_of(self, variable):
        needle = variable.encode()
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and needle in (entry / "environ").read_bytes().split(b"\0") and alive(entry.name):
                    yield int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue

    def launchers(self):
        """Pids of the living iexec."""
        mark = f"IW_WORKER_STATE={self.fleet}/worker"
        return [pid for pid, argv in self._pids_of(mark) if argv[0].endswith("iexec")]

    def agents(self):
        return [(pid, argv) for pid, argv in self._pids_of(f"IW_PROJECT_ROOT={self.root}")]

    def tmux_pid(self):
        try:
            pid = int((self.fleet / "worker/tmux.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None
        mine = {found for found, _ in self._pids_of(f"IW_WORKER_STATE={self.fleet}/worker")}
        return pid if pid in mine else None

    def kill_sessions(self):
        """Everything that the worker has started, until nothing is left."""
        def left():
            found = [pid for mark in (f"IW_WORKER_STATE={self.fleet}/worker", f"IW_PROJECT_ROOT={self.root}")
                     for pid, _ in self._pids_of(mark)]
            for pid in found:
                send(pid, signal.SIGKILL)
            return found
        return wait_until(lambda: not left(), 20)

    # Faults that are the fleet's own business

    def boot(self):
        (self.switches / "all.boot-id").write_text(f"{uuid.uuid4()}\n")

    def set_clock(self, ahead_ms):
        with open(self.switches / "all.clock", "r+b") as file:
            file.write(struct.pack("<q", ahead_ms))

    def switch(self, name, value):
        """None: off. By rename, so that nobody reads half of it."""
        path = self.switches / name
        if value is None:
            path.unlink(missing_ok=True)
            return
        fresh = self.switches / f".{name}"
        fresh.write_text(str(value))
        fresh.rename(path)

    def cut_power(self, seed, forget="some"):
        """All processes end, the disk forgets; (writes, names) forgotten. Everything is down then."""
        self.kill(*HALVES)
        self.kill_sessions()
        forgotten = power_cut(self.undo, self.saved, seed, forget)
        self.boot()
        return forgotten

    def backup(self):
        """A backup of the store while it serves; its folder."""
        with Client(self.broker_socket, patience=20.0) as client:
            return client.call("backup", {"folder": str(self.fleet / "backups")}, held=20.0, repeatable=True)["folder"]

    def lose_store(self, backup):
        """The broker's disk is gone; a new one gets the backup. The broker is down then."""
        self.kill("broker")
        gone, self.store = self.store, self.fleet / f"broker-{uuid.uuid4().hex[:8]}"
        done = subprocess.run([*self._command("broker"), "--restore", backup], check=False, capture_output=True, text=True,
                              env={**self.environment(), **self._variables("broker")}, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            self.on_crash(f"ibroker --restore ended with {done.returncode}: {done.stderr.strip()}")
        shutil.rmtree(gone)
        shutil.rmtree(backup)

    def resume(self):
        """Lets go what a restore holds back, once every worker has been heard; false when that never is."""
        argv = ["ictl", "resume", "--after-restore"]
        return wait_until(lambda: subprocess.run(argv, env=self.client_environment(), cwd=self.root, check=False,
                                                 stdin=subprocess.DEVNULL, capture_output=True).returncode == 0)

    def fill_disk(self, leave):
        """Until about `leave` bytes are free, while others write, too; needs tmpfs."""
        step = 16 << 20
        with open(self.disk / "ballast", "ab") as file:
            end = os.fstat(file.fileno()).st_size
            while step >= 4096:
                stats = os.statvfs(self.disk)
                step = min(step, stats.f_bavail * stats.f_frsize - leave)
                try:
                    if step > 0:
                        os.posix_fallocate(file.fileno(), end, step)
                        end += step
                except OSError:
                    step //= 2

    def free_disk(self):
        (self.disk / "ballast").unlink(missing_ok=True)

    # End

    def down(self, keep=False):
        self._over.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        self.kill(*HALVES)
        self.kill_sessions()
        self.worker_link.close()
        self.client_link.close()
        if keep and self._mounted:
            shutil.copytree(self.disk, self.folder / "kept", symlinks=True, ignore=not_to_keep)
        if self._mounted:
            subprocess.run(["umount", "-l", self.disk], check=True)
        self._reaper.finish(keep)


def not_to_keep(folder, names):
    """Sockets cannot be copied, and the undo log says nothing any more."""
    return [name for name in names if name in ("ballast", "saved") or (pathlib.Path(folder) / name).is_socket()]


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def pause(seconds):
    """A fault takes its time: nothing is waited for here."""
    time.sleep(seconds)
