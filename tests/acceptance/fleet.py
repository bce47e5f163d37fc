"""A project and its fleet in temporary folders, driven through the programs as a user would."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = pathlib.Path(os.environ["IW_TEST_BUILD"]).resolve()
SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests/support"))
from reaper import Reaper  # noqa: E402  pylint: disable=wrong-import-position

FINAL = ("COMPLETED", "FAILED", "KILLED")


def wait_until(condition, cap=60.0):
    """True once `condition` holds; looks again after pauses that grow up to 0.2 s, for `cap` seconds."""
    end = time.monotonic() + cap
    pause = 0.005
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(pause)
        pause = min(pause * 2, 0.2)
    return bool(condition())


def alive(pid):
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rsplit(")", 1)[1].split()[0] != "Z"


class Fleet:
    """One project and what runs its sessions, in temporary folders of its own; what is left of it is ended, also when
    whoever uses it is killed. `placement`: who runs them (placement.py)."""

    slots = 5
    placement = None
    variables = {}

    def open(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="iw."))
        self._reaper = Reaper(self.folder)
        self.root = self.folder / "project"
        self.roots = [self.root]
        self.root.mkdir()
        (self.folder / "state").mkdir(mode=0o700)
        self.environment = {
            "PATH": f"{BUILD}/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "IW_CFG_STATE_DIR": str(self.folder / "state"),
            **self.variables,
        }
        self.ictl("init")
        self.configure(MAX_CONCURRENT_SESSIONS=self.slots)
        if self.placement:
            try:
                self.placement.start(self)
            except BaseException:
                self.close(failed=True)
                raise

    def close(self, failed=False):
        if self.placement:
            self.placement.stop(self)
        else:
            self.run_program(["ictl", "down", "--kill"], check=False)
        if failed:
            for log in (*self.folder.glob("state/fleets/*/*.log"), *self.folder.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-4000:]}")
        self._reaper.finish()

    def configure(self, **values):
        """Sets variables of the project's config.sh, as a user edits them."""
        config = self.root / "scripts/ops/config.sh"
        text = config.read_text()
        for name, value in values.items():
            text = re.sub(rf"^{name}=.*$", f"{name}={value}", text, flags=re.M)
        config.write_text(text)

    def run_program(self, argv, check=True, cap=120, **options):
        done = subprocess.run(argv, cwd=options.pop("cwd", self.root), env=options.pop("env", self.environment),
                              stdin=options.pop("stdin", subprocess.DEVNULL), capture_output=True, text=True,
                              timeout=cap, check=False, **options)
        if check and done.returncode != 0:
            raise AssertionError(f"{argv} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def ictl(self, *arguments, **options):
        return self.run_program(["ictl", *map(str, arguments)], **options)

    def manager(self, *arguments, **options):
        return self.run_program(["scripts/ops/session-manager.sh", *map(str, arguments)], **options)

    def bash(self, script, **options):
        return self.run_program(["bash", "-c", script], **options)

    def agent(self, name, body, mode=0o755):
        """The same script in every root of the placement."""
        for root in self.roots:
            folder = root / "agents" / name
            folder.mkdir(parents=True, exist_ok=True)
            run = folder / "run"
            run.write_text(body)
            run.chmod(mode)
        return self.root / "agents" / name / "run"

    def prompt(self, text="do it\n", name="task.md"):
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def create(self, agent, prompt=None):
        output = self.manager("create", agent, prompt or self.prompt()).stdout
        lines = [line for line in output.splitlines() if line.startswith("Session created: ")]
        if len(lines) != 1:
            raise AssertionError(f"one line begins with \"Session created: \", not so in:\n{output}")
        return lines[0].split()[2]

    def workspace(self, session):
        return self.root / "docs/.scratch/sessions" / session

    def state(self, session):
        return json.loads((self.workspace(session) / "state.json").read_text())

    def status(self, session):
        return json.loads(self.manager("status", session, "--json").stdout)

    def wait(self, *sessions, check=False, cap=120):
        return self.ictl("wait", *sessions, check=check, cap=cap).returncode

    def fleet_folder(self):
        found = list((self.folder / "state/fleets").glob("*"))
        if len(found) != 1:
            raise AssertionError(f"{len(found)} fleets")
        return found[0]

    def pid_of(self, half):
        """Of "broker" or "worker", from its lock file; None when it does not run."""
        for lock in self.folder.glob(f"state/fleets/*/{half}/lock"):
            text = lock.read_text().strip()
            if text.isdigit() and alive(int(text)):
                return int(text)
        return None

    def kill_half(self, half):
        pid = self.pid_of(half)
        if pid is None:
            raise AssertionError(f"no {half} runs")
        os.kill(pid, signal.SIGKILL)
        if not wait_until(lambda: not alive(pid)):
            raise AssertionError(f"the {half} outlives SIGKILL")
        return pid


def outcome_failed(case):
    result = getattr(case._outcome, "result", None)
    return any(test is case for test, _ in (*result.failures, *result.errors)) if result else False


class FleetCase(Fleet, unittest.TestCase):
    """One project and one fleet a test; whatever the test left running is ended."""

    def setUp(self):
        self.open()

    def tearDown(self):
        self.close(outcome_failed(self))


class SharedFleetCase(Fleet, unittest.TestCase):
    """One project and one fleet for all tests of the class, which leave alone what is not theirs."""

    @classmethod
    def setUpClass(cls):
        cls.shared = Fleet()
        cls.shared.slots, cls.shared.placement, cls.shared.variables = cls.slots, cls.placement, cls.variables
        cls.failed = False
        cls.shared.open()
        cls.prepare(cls.shared)

    @classmethod
    def prepare(cls, fleet):
        """Agents that several tests use."""

    @classmethod
    def tearDownClass(cls):
        cls.shared.close(cls.failed)

    def setUp(self):
        self.__dict__.update(vars(self.shared))

    def tearDown(self):
        type(self).failed = type(self).failed or outcome_failed(self)


class Gate:
    """A named pipe before which an agent stops (`read -r _ <"PATH"`) until the test lets it go."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        os.mkfifo(self.path)

    def open(self):
        """Lets go whoever waits; waits until somebody does."""
        if not wait_until(self._let_go):
            raise AssertionError(f"nobody waits at {self.path}")

    def _let_go(self):
        try:
            os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody has it open for reading
            return False
        return True
