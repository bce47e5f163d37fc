"""The five common patterns with scripts/ops/session-lib.sh; each placement is a test file that mixes this in."""

import json
import re

from examples import DEVOPS, ExampleProject
from fleet import wait_until

SPAWN_AND_WAIT = """
session=$(create_session grafana-agent "$TASK")
wait_for_completion "$session" && read_result "$session"
"""
SIDE_BY_SIDE = """
one=$(create_session grafana-agent "$TASK")
two=$(create_session prometheus-agent "$TASK")
three=$(create_session traefik-agent "$TASK")
wait_all "$one" "$two" "$three"
aggregate_results "$one" "$two" "$three"
"""
RECOVERY = """
session=$(create_session grafana-agent "$TASK")
if result_failed "$session"; then
  diagnose_error "$session"
  recovery=$(create_session recovery-agent "$TASK")
  wait_for_completion "$recovery"
  retry=$(create_session grafana-agent "$TASK")
fi
result_failed "$retry" || echo "recovered: $retry"
"""
LOOK_INSIDE = """
session=$(create_session researcher-agent "$TASK")
echo "session: $session"
sleep 30
attach_and_inspect "$session"
wait_for_completion "$session"; echo "ended: $?"
"""
BULK = """
list_sessions --status=FAILED | kill_all
list_sessions --status=COMPLETED | archive_all
"""


class Patterns(ExampleProject):
    def setUp(self):
        super().setUp()
        self.environment["TASK"] = str(self.prompt("# Task: a pattern\n"))
        self.example_agent("recovery-agent", DEVOPS)

    def pattern(self, body, **options):
        script = self.folder / "pattern.sh"
        script.write_text(f'source "{self.root}/scripts/ops/session-lib.sh"\n{body}')
        # From anywhere: the functions mean the project that the library stands in.
        return self.run_program(["bash", script], cwd="/", **options).stdout

    def test_pattern_1_spawn_and_wait(self):
        self.assertEqual(json.loads(self.pattern(SPAWN_AND_WAIT))["findings"]["grafana_version"], "9.5.2")
        self.assert_ran_once_each(1)

    def test_pattern_2_side_by_side(self):
        self.service("traefik", "stopped")
        found = json.loads(self.pattern(SIDE_BY_SIDE))
        self.assertEqual([(re.sub(r"^\d{8}-\d{6}-", "", session), each["status"], each["result_status"], each["result"]["status"])
                          for session, each in found.items()],
                         [("grafana-agent", "COMPLETED", "success", "success"),
                          ("prometheus-agent", "COMPLETED", "success", "success"),
                          ("traefik-agent", "COMPLETED", "failure", "failure")])
        self.assert_ran_once_each(3)

    def test_pattern_3_recovery(self):
        self.service("grafana", "stopped")
        output = self.pattern(RECOVERY)
        self.assertIn("grafana service is stopped", output)
        self.assertRegex(output, r"\nrecovered: \d{8}-\d{6}-grafana-agent(-2)?\n$")
        self.assert_ran_once_each(3)

    def test_pattern_4_look_inside(self):
        gate = self.researcher()
        script = self.folder / "pattern.sh"
        script.write_text(f"source scripts/ops/session-lib.sh\n{LOOK_INSIDE}")
        terminal = self.on_terminal("bash", script)
        self.assertTrue(terminal.read(b"reading about alerting"), terminal.output)
        session = re.search(rb"session: (\S+)\r", terminal.output)[1].decode()
        self.assertTrue(wait_until(terminal.leave), terminal.output)
        gate.open()
        self.assertTrue(terminal.read(b"ended: 0"), terminal.output)
        self.assertEqual(terminal.finish(), 0)
        self.assertTrue((self.workspace(session) / "research-findings.md").exists())

    def test_pattern_5_bulk(self):
        self.service("prometheus", "missing")
        gate = self.researcher()
        done, failed, running = (self.create(f"{name}-agent") for name in ("grafana", "prometheus", "researcher"))
        self.wait(done, failed)
        self.pattern(BULK)
        self.assertTrue((self.archived(done) / "result.json").exists())
        self.assertEqual({path.name for path in (self.root / "docs/.scratch/sessions").iterdir()}, {failed, running})
        self.assertEqual(self.status(failed)["status"], "FAILED")
        gate.open()
        self.assertEqual(self.wait(running), 0)
