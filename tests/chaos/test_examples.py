"""The user's own first three examples, with the broker killed -9 again and again while they run."""

import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "acceptance"))
from fleet import SOURCE, FleetCase, alive, wait_until  # noqa: E402  pylint: disable=wrong-import-position

DOCUMENT = SOURCE.parent / "shared/seed/native-orchestrator-examples.md"

VALIDATOR = """#!/bin/bash
cat >/dev/null
until [[ -e $IW_PROJECT_ROOT/harmed ]]; do sleep 0.1; done
cat >"$IW_RESULT_FILE" <<'JSON'
{"status": "success", "findings": {"service_status": "running", "dashboard_accessible": true,
 "prometheus_connected": true}, "errors": [], "recommendations": ["Enable alerting"]}
JSON
"""
# Says that its service is stopped until somebody has started it.
BROKEN_VALIDATOR = """#!/bin/bash
cat >/dev/null
until [[ -e $IW_PROJECT_ROOT/harmed ]]; do sleep 0.1; done
if [[ -e $IW_PROJECT_ROOT/service-runs ]]; then
  echo '{"status": "success", "findings": {"service_status": "running"}, "errors": []}' >"$IW_RESULT_FILE"
else
  echo '{"status": "failure", "findings": {"service_status": "stopped"}, "errors": ["stopped"]}' >"$IW_RESULT_FILE"
fi
"""
DEVOPS = """#!/bin/bash
cat >/dev/null
sleep 3
touch "$IW_PROJECT_ROOT/service-runs"
echo '{"status": "success"}' >"$IW_RESULT_FILE"
"""


@unittest.skipUnless(DOCUMENT.exists(), "the user's document is not at hand here")
class Examples(FleetCase):
    def block(self, first, end):
        text = DOCUMENT.read_text()
        block = text[text.index(first):]
        block = block[:block.index(end)].rstrip().removesuffix("```")
        return block.replace("/tmp/", f"{self.folder}/").replace("sleep 5", "sleep 0.2")

    def run_harmed(self, script):
        """The script's output; meanwhile the broker is killed every other second. Agents end after two of them."""
        over = threading.Event()
        killed = []

        def harm():
            rng = random.Random(script)
            while not over.wait(rng.uniform(1.0, 3.0)):
                pid = self.pid_of("broker")
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
                    wait_until(lambda: not alive(pid))
                    killed.append(pid)
                if len(killed) == 2:
                    (self.root / "harmed").touch()
        self.ictl("up")
        thread = threading.Thread(target=harm)
        thread.start()
        try:
            output = self.bash(script, cap=240).stdout
        finally:
            over.set()
            thread.join()
        self.assertGreaterEqual(len(killed), 2, "the broker was not killed while the example ran")
        return output

    def assert_ran_once(self, agents):
        ids = re.findall(r"Session created: (\S+)", (self.root / "logs/orchestrator.log").read_text())
        self.assertEqual(sorted(id.split("-", 2)[2] for id in map(str, set(ids))), sorted(agents))

    def test_first(self):
        self.agent("grafana-agent", VALIDATOR)
        output = self.run_harmed(self.block("# Step 1: Planning Agent identifies", "**Expected Output**"))
        for line in ("Validation complete: COMPLETED", "Grafana validation passed", "- Service: running",
                     "- Enable alerting", "Session archived: docs/.scratch/archive"):
            self.assertIn(line, output)
        self.assert_ran_once(["grafana-agent"])

    def test_second(self):
        for agent in ("grafana-agent", "prometheus-agent", "traefik-agent"):
            self.agent(agent, VALIDATOR)
        output = self.run_harmed(self.block("#!/bin/bash\n# Planning Agent: Parallel", "**Expected Output**"))
        for line in ("- Grafana: success", "- Prometheus: success", "- Traefik: success",
                     "All infrastructure components validated successfully"):
            self.assertIn(line, output)
        self.assert_ran_once(["grafana-agent", "prometheus-agent", "traefik-agent"])

    def test_third(self):
        self.agent("grafana-agent", BROKEN_VALIDATOR)
        self.agent("devops-agent", DEVOPS)
        (self.folder / "grafana-task.md").write_text("validate\n")
        output = self.run_harmed(self.block("#!/bin/bash\n# Planning Agent: Error handling", "\n---") + '\necho "retry $RETRY_SESSION"\n')
        self.assertIn("Grafana service restarted - retrying validation", output)
        retry = output.split("retry ")[-1].split()[0]
        self.assertEqual(self.wait(retry), 0)
        result = (self.workspace(retry) / "result.json").read_text()
        self.assertIn('"status": "success"', result)


class Revival(FleetCase):
    def test_create_starts_the_broker_again_that_dies_while_it_waits(self):
        self.agent("a-agent", "#!/bin/bash\nexit 0\n")
        self.ictl("up")
        broker = self.pid_of("broker")
        os.kill(broker, signal.SIGSTOP)
        argv = ["scripts/ops/session-manager.sh", "create", "a-agent", str(self.prompt())]
        create = subprocess.Popen(argv, cwd=self.root, env=self.environment, text=True, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        endpoint = str(self.fleet_folder() / "broker.sock")
        # Connected, so its request is under way or about to be.
        connections = lambda: pathlib.Path("/proc/net/unix").read_text().count(endpoint)  # noqa: E731
        before = connections()
        self.assertTrue(wait_until(lambda: connections() > before, 20))
        os.kill(broker, signal.SIGKILL)
        out, err = create.communicate(timeout=100)
        self.assertEqual(create.returncode, 0, err)
        session = re.search(r"^Session created: (\S+)", out, re.M).group(1)
        self.assertNotEqual(self.pid_of("broker"), broker)
        self.assertEqual(self.wait(session), 0)
        self.assertEqual(len(list((self.root / "docs/.scratch/sessions").iterdir())), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
