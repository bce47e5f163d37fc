"""A project and its embedded fleet in temporary folders, driven through the programs as a user would."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

BUILD = pathlib.Path(os.environ["IW_TEST_BUILD"])
SOURCE = pathlib.Path(__file__).resolve().parents[2]
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


class FleetCase(unittest.TestCase):
    """One project and one fleet a test; whatever the test left running is ended."""

    slots = 5

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="iw."))
        self.root = self.folder / "project"
        self.root.mkdir()
        (self.folder / "state").mkdir(mode=0o700)
        self.environment = {
            "PATH": f"{BUILD}/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "IW_CFG_STATE_DIR": str(self.folder / "state"),
        }
        self.ictl("init")
        config = self.root / "scripts/ops/config.sh"
        config.write_text(config.read_text().replace("MAX_CONCURRENT_SESSIONS=5", f"MAX_CONCURRENT_SESSIONS={self.slots}"))

    def tearDown(self):
        self.run_program(["ictl", "down", "--kill"], check=False)
        for program in ("worker", "broker"):
            pid = self.pid_of(program)
            if pid:
                os.kill(pid, signal.SIGKILL)
        for socket in self.folder.glob("state/fleets/*/worker/tmux.sock"):
            subprocess.run(["tmux", "-S", str(socket), "kill-server"], check=False, capture_output=True)
        if self._outcome_failed():
            for log in self.folder.glob("state/fleets/*/*.log"):
                print(f"--- {log.name}\n{log.read_text()[-4000:]}")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _outcome_failed(self):
        result = getattr(self._outcome, "result", None)
        return bool(result and (result.failures or result.errors))

    def run_program(self, argv, check=True, cap=120, **options):
        done = subprocess.run(argv, cwd=options.pop("cwd", self.root), env=options.pop("env", self.environment),
                              stdin=options.pop("stdin", subprocess.DEVNULL), capture_output=True, text=True,
                              timeout=cap, check=False, **options)
        if check and done.returncode != 0:
            self.fail(f"{argv} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def ictl(self, *arguments, **options):
        return self.run_program(["ictl", *map(str, arguments)], **options)

    def manager(self, *arguments, **options):
        return self.run_program(["scripts/ops/session-manager.sh", *map(str, arguments)], **options)

    def bash(self, script, **options):
        return self.run_program(["bash", "-c", script], **options)

    def agent(self, name, body, mode=0o755):
        folder = self.root / "agents" / name
        folder.mkdir(parents=True, exist_ok=True)
        run = folder / "run"
        run.write_text(body)
        run.chmod(mode)
        return run

    def prompt(self, text="do it\n", name="task.md"):
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def create(self, agent, prompt=None):
        output = self.manager("create", agent, prompt or self.prompt()).stdout
        lines = [line for line in output.splitlines() if line.startswith("Session created: ")]
        self.assertEqual(len(lines), 1, output)
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
        self.assertEqual(len(found), 1)
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
        self.assertIsNotNone(pid, f"no {half} runs")
        os.kill(pid, signal.SIGKILL)
        self.assertTrue(wait_until(lambda: not alive(pid)))
        return pid


