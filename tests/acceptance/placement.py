"""Who runs the sessions of a test's project. Without a placement: its embedded fleet, started by session-manager.sh.

Else a broker that is configured, and workers whose roots carry the project's name: `Workers("project", "second")` are
two, one of them in the project's own root; in `Workers("elsewhere")` the project's root has none, so that every file
of a session has to travel. State folders are the usual ones of each root, so ictl finds terminals on this host.
"""

import json
import signal
import subprocess

from fleet import BUILD, wait_until

TERM_MAX = 10.0


class Workers:
    def __init__(self, *roots):
        self.names = roots

    def start(self, fleet):
        fleet.roots = sorted({fleet.root, *(fleet.folder / name for name in self.names)})
        fleet.processes = {}
        endpoint = f"ipc://{fleet.folder}/state/b.sock"
        for name in self.names:
            if fleet.folder / name != fleet.root:
                fleet.ictl("init", fleet.folder / name, "--name", fleet.root.name)
        fleet.environment["IW_CFG_BROKER_ENDPOINT"] = endpoint
        self.launch(fleet, "broker", "--data-dir", fleet.folder / "state/broker", "--endpoint", endpoint,
                    "--segment-size", 16 << 20)
        for name in self.names:
            self.start_worker(fleet, name)
        if not wait_until(lambda: self.all_up(fleet)):
            raise AssertionError("the workers do not come up")

    def start_worker(self, fleet, name):
        self.launch(fleet, "worker", "--root", fleet.folder / name, "--name", name, "--slots", fleet.slots, "--broker",
                    fleet.environment["IW_CFG_BROKER_ENDPOINT"], key=name)

    def restart_worker(self, fleet, name):
        process = fleet.processes[name]
        process.send_signal(signal.SIGTERM)
        process.wait(TERM_MAX)
        self.start_worker(fleet, name)

    @staticmethod
    def launch(fleet, half, *arguments, key=None):
        key = key or half
        with open(fleet.folder / f"{key}.log", "ab") as log:
            fleet.processes[key] = subprocess.Popen(  # pylint: disable=consider-using-with
                [f"{BUILD}/bin/i{half}", *map(str, arguments)], env=fleet.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, cwd="/")

    def all_up(self, fleet):
        done = fleet.ictl("workers", "--json", check=False)
        workers = json.loads(done.stdout)["workers"] if done.returncode == 0 else []
        return {worker["name"] for worker in workers if worker["state"] == "up"} == set(self.names)

    @staticmethod
    def stop(fleet):
        for process in reversed(list(getattr(fleet, "processes", {}).values())):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(TERM_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
