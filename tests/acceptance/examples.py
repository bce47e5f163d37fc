"""The agents that the examples name, as scripts that do real work, and a project in which the examples run.

Services are files of the test: a validator reads one, the devops agent writes it. Every agent notes where it ran.
"""

import json
import os
import pathlib
import subprocess

from fleet import Gate, wait_until
from on_terminal import OnTerminal

HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = HERE / "scripts"
SHIMS = HERE / "shims"

NOTE = """#!/bin/bash
echo "$IW_SESSION_ID $IW_PROJECT_ROOT" >>"{folder}/ran"
"""
VALIDATOR = NOTE + """cat >"$IW_WORKSPACE/seen.md"
service=$(cat "{folder}/services/{name}")
echo "{name}: $service"
{pause}
jq -n --arg service "$service" '{{
  task: "validate-{name}-deployment",
  status: (if $service == "running" then "success" else "failure" end),
  findings: {{service_status: $service, dashboard_accessible: ($service == "running"), prometheus_connected: true,
             dashboard_count: 3, grafana_version: "9.5.2"}},
  errors: (if $service == "running" then [] else ["{name} service is " + $service] end),
  warnings: [],
  recommendations: ["Enable alerting for Prometheus connection failures", "Consider upgrading Grafana to v10.x"],
  execution_time_seconds: 1,
  completed_at: (now | todate)}}' >"$IW_RESULT_FILE"
[[ $service != missing ]]
"""
# All three are there before one goes on.
TOGETHER = """echo {name} >>"{folder}/arrived"
until [[ $(wc -l <"{folder}/arrived") -ge 3 ]]; do /bin/sleep 0.05; done"""
DEVOPS = NOTE + """cat >/dev/null
echo running >"{folder}/services/grafana"
echo '{{"status": "success", "service": "running"}}' >"$IW_RESULT_FILE"
"""
RESEARCHER = NOTE + """cat >/dev/null
echo "reading about alerting"
read -r _ <"{folder}/research-gate"
printf '# Findings\\n\\nAlert on symptoms.\\n' >"$IW_WORKSPACE/research-findings.md"
"""
BACKEND = NOTE + """cat >/dev/null
export TASKS=$IW_WORKSPACE BACKEND={backend}
"{scripts}/handoff.sh" | tee "$IW_WORKSPACE/handoff.txt"
jq -n --arg used "$(cat "$IW_WORKSPACE/handoff.txt")" '{{status: "success", used: $used}}' >"$IW_RESULT_FILE"
"""
FRONTEND = NOTE + """cat >/dev/null
echo '{{"status": "success", "component_code": "export const UserList = () => <table/>"}}' >"$IW_RESULT_FILE"
"""


class ExampleProject:
    """What the tests of all placements share; mixed into a FleetCase."""

    def setUp(self):
        super().setUp()
        (self.folder / "services").mkdir()
        (self.folder / "tasks").mkdir()
        self.environment["PATH"] = f"{SHIMS}:{self.environment['PATH']}"
        self.environment["TASKS"] = str(self.folder / "tasks")
        for name in ("grafana", "prometheus", "traefik"):
            self.validator(name, "running")
        self.example_agent("devops-agent", DEVOPS)
        self.example_agent("frontend-agent", FRONTEND)

    def example_agent(self, name, body, /, **words):
        self.agent(name, body.format(folder=self.folder, scripts=SCRIPTS, **words))

    def validator(self, name, service, pause=""):
        self.service(name, service)
        self.example_agent(f"{name}-agent", VALIDATOR, name=name, pause=pause.format(folder=self.folder, name=name))

    def service(self, name, state):
        (self.folder / "services" / name).write_text(f"{state}\n")

    def run_side_by_side(self):
        """Example 2's behaviour with validators that wait for one another."""
        for name in ("grafana", "prometheus", "traefik"):
            self.validator(name, "running", pause=TOGETHER)
        lines = self.script("validate_stack.sh")
        sessions = lines[0].split()[1:]
        self.assertEqual(lines[1:], [f"result: {session} success" for session in sessions] + ["good: 3 of 3"])
        self.assert_ran_once_each(3)

    def researcher(self):
        gate = Gate(self.folder / "research-gate")
        self.example_agent("researcher-agent", RESEARCHER)
        return gate

    def script(self, name, *arguments, check=True):
        """Runs one of scripts/; its output's lines."""
        done = self.run_program(["bash", SCRIPTS / name, *arguments], check=check)
        return done.stdout.splitlines()

    def on_terminal(self, *argv):
        program = OnTerminal(list(map(str, argv)), self.root, self.environment)
        self.addCleanup(program.close)
        return program

    def start_in_background(self, *argv):
        """A process of the test's own, ended with the test."""
        process = subprocess.Popen(  # pylint: disable=consider-using-with
            list(map(str, argv)), cwd=self.root, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

        def end():
            process.kill()
            process.wait()

        self.addCleanup(end)
        return process

    def archived(self, session):
        return self.root / "docs/.scratch/archive/sessions" / session

    def result(self, session):
        return json.loads((self.workspace(session) / "result.json").read_text())

    def wait_for_status(self, session, *statuses):
        found = wait_until(lambda: self.status(session)["status"] in statuses)
        self.assertTrue(found, f"{session} is {self.status(session)['status']}, not one of {statuses}")

    def roots_that_ran(self):
        """Session id -> roots in which an agent of it started."""
        ran = {}
        path = self.folder / "ran"
        for line in path.read_text().splitlines() if path.exists() else []:
            session, root = line.split(" ", 1)
            ran.setdefault(session, []).append(root)
        return ran

    def assert_ran_once_each(self, count):
        """Each of `count` sessions started one agent, and did so where this placement has workers."""
        ran = self.roots_that_ran()
        self.assertEqual(len(ran), count, ran)
        self.assertTrue(all(len(roots) == 1 for roots in ran.values()), ran)
        if self.placement:
            workers = {os.fspath(self.folder / name) for name in self.placement.names}
            self.assertLessEqual({roots[0] for roots in ran.values()}, workers)
