"""The user's own document: its shell blocks run as they stand, in every placement that mixes this in.

What is changed: /tmp/ is the test's own folder, and where the document shows the id of a session of its own (Examples 6
and 7) stands that of ours. `sleep`, `pkill` and `tail -f` are those of shims/. Without the document the tests say that
they were skipped; their behaviour is also covered by example_tests.py.
"""

import json
import os
import pathlib
import re
import unittest

from examples import DEVOPS, FRONTEND, NOTE, ExampleProject
from fleet import SOURCE, wait_until

PLACE = os.environ.get("IW_EXAMPLES_DOC", SOURCE.parent / "shared/seed/native-orchestrator-examples.md")
ID_START = re.compile(r"\d{8}-\d{6}-")
# The inner part of Example 8, as the agent's own program.
INNER = NOTE + """cat >/dev/null
bash "{folder}/inner.sh" | tee "$IW_WORKSPACE/handoff.txt"
echo '{{"status": "success"}}' >"$IW_RESULT_FILE"
"""


def read_blocks(text):
    """Heading -> [(language, block)]. A fence inside a here-document belongs to the block."""
    sections, heading, language, lines, inside = {}, "", None, [], False
    for line in text.splitlines():
        if language is None:
            if line.startswith("## "):
                heading = line[3:].split(":")[0]
            elif line.startswith("```"):
                language, lines = line[3:], []
        elif line == "```" and not inside:
            sections.setdefault(heading, []).append((language, "\n".join(lines) + "\n"))
            language = None
        else:
            inside = line != "EOF" if inside else line.endswith("<< 'EOF'")
            lines.append(line)
    return sections


class Document(ExampleProject):
    def setUp(self):
        place = pathlib.Path(PLACE)
        if not place.exists():
            raise unittest.SkipTest(f"the document is not at hand: {place} (IW_EXAMPLES_DOC names it)")
        self.sections = read_blocks(place.read_text())
        super().setUp()

    def block(self, heading, number=0, language="bash", session=None):
        blocks = [text for kind, text in self.sections[heading] if kind == language]
        text = blocks[number].replace("/tmp/", f"{self.folder}/tasks/")
        return re.sub(r"\b2025\d{4}-\d{6}-[a-z-]+-agent\b", session, text) if session else text

    def written(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def run_block(self, heading, **options):
        script = self.written("block.sh", self.block(heading))
        return self.run_program(["bash", script], **options)

    def assert_shown_as_expected(self, heading, shown):
        expected = self.block(heading, language="")
        self.assertEqual(ID_START.sub("ID-", shown).rstrip("\n"), ID_START.sub("ID-", expected).rstrip("\n"))

    def test_example_1(self):
        self.assert_shown_as_expected("Example 1", self.run_block("Example 1").stdout)
        self.assert_ran_once_each(1)

    def test_example_2(self):
        (self.folder / "tasks/grafana-task.md").write_text("x\n")
        self.assert_shown_as_expected("Example 2", self.run_block("Example 2").stdout)
        self.assert_ran_once_each(3)

    def test_example_3(self):
        self.service("grafana", "stopped")
        (self.folder / "tasks/grafana-task.md").write_text("# Task: Validate Grafana\n")
        shown = ID_START.sub("ID-", self.run_block("Example 3").stdout)
        self.assertEqual(shown.splitlines(), [
            "❌ Grafana validation failed", "⚠️  Grafana service not running - attempting recovery",
            "🔧 DevOps agent spawned for recovery: ID-devops-agent", "✅ Grafana service restarted - retrying validation"])

    def test_example_4(self):
        gate = self.researcher()
        terminal = self.on_terminal("bash", self.written("block.sh", self.block("Example 4")))
        self.assertTrue(terminal.read(b"reading about alerting"), terminal.output)
        session = re.search(rb"Research session started: (\S+)", terminal.output)[1].decode()
        self.assertTrue(wait_until(terminal.leave), terminal.output)
        gate.open()
        self.wait_for_status(session, "COMPLETED")
        (self.folder / "awake").touch()
        self.assertEqual(terminal.finish(), 0, terminal.output)
        shown = terminal.output.decode().split("left running", 1)[1].replace("\r\n", "\n")
        for line in (f"Session: {session}", "Status: COMPLETED", f"Tmux: iw-{session} (inactive)", "# Findings"):
            self.assertIn(f"{line}\n", shown)
        self.assertTrue((self.archived(session) / "research-findings.md").exists())

    def test_example_5_twice(self):
        self.service("prometheus", "missing")
        done, failed = self.create("grafana-agent"), self.create("prometheus-agent")
        self.wait(done, failed)
        for _ in range(2):
            shown = self.run_block("Example 5").stdout
            self.assertIn(f"🗑️  Killing failed session: {failed}\nalready terminated (status: FAILED)\n", shown)
        self.assertTrue((self.archived(done) / "result.json").exists())
        self.assertTrue((self.workspace(failed) / "result.json").exists())

    def test_example_6(self):
        self.service("prometheus", "missing")
        failed = self.create("prometheus-agent")
        self.wait(failed)
        terminal = self.on_terminal("bash", self.written("block.sh", self.block("Example 6", session=failed)))
        self.assertEqual(terminal.finish(), 0)
        shown = terminal.output.decode().replace("\r\n", "\n")
        for words in ('"status": "FAILED"', "[ERROR] Exit code: 1", "📄 Result JSON found:", "prometheus service is missing",
                      "📄 tmux output log:\n", "Status: FAILED"):
            self.assertIn(words, shown)

    def test_example_7(self):
        gate = self.researcher()
        session = self.create("researcher-agent")
        self.wait_for_status(session, "RUNNING")
        self.configure(MAX_SESSION_LIFETIME_SECONDS=0)
        watchdog = self.root / "scripts/ops/session-watchdog.sh"
        watchdog.write_text(self.block("Example 7"))
        watchdog.chmod(0o755)
        self.start_in_background("scripts/ops/session-watchdog.sh")
        user, edit = self.block("Example 7", 1, session=session).split("# User decides if")
        shown = self.run_program(["bash", self.written("user.sh", user)]).stdout
        self.assertRegex(shown, rf"\[WARN\] Session timeout: {session} \(\d+s > 0s\)\n")
        self.assertIn(f"Session created: {session}", shown)
        self.wait_for_status(session, "KILLED")
        self.assertRegex(self.status(session)["kill_reason"], r"^Timeout \(\d+s\)$")
        self.configure(MAX_SESSION_LIFETIME_SECONDS=3600)
        self.run_program(["bash", self.written("edit.sh", "#" + edit)])
        longer = self.create("researcher-agent")
        gate.open()
        self.assertEqual(self.wait(longer), 0)
        self.bash("pkill -f session-watchdog.sh")

    def test_example_8_inside_the_backend_agent(self):
        _, inner = self.block("Example 8").split("# Backend Agent (running in tmux session):")
        self.written("inner.sh", "#" + inner)
        self.example_agent("backend-agent", INNER)
        session = self.create("backend-agent")
        self.assertEqual(self.wait(session), 0)
        ran = self.roots_that_ran()
        child = next(each for each in ran if each != session)
        self.assertEqual(self.status(child)["parent_session"], session)
        self.assertIn("✅ Frontend component received", (self.workspace(session) / "handoff.txt").read_text())

    def test_a_failed_create_and_the_rest_of_examples_1_4_and_6(self):
        """The id is empty then; nothing is moved or attached that is not theirs. Example 1 would poll for ever."""
        gate = self.researcher()
        finished, running = self.create("grafana-agent"), self.create("researcher-agent")
        self.wait(finished)
        self.wait_for_status(running, "RUNNING")
        folder = self.root / "docs/.scratch/sessions"
        before = {path: sorted(each.name for each in path.iterdir()) for path in folder.iterdir()}
        (self.folder / "awake").touch()
        first, rest = self.block("Example 1").split("# Step 4: ")
        for text, words in ((first + "# Step 5: " + rest.split("# Step 5: ")[1], "No result.json found"),
                            (self.block("Example 4"), "no session id given"),
                            (self.block("Example 6", session="20251118-151000-nobody"), "no session id given")):
            text = text.replace(" create ", " create no-such-")
            terminal = self.on_terminal("bash", self.written("block.sh", text))
            terminal.finish()
            shown = terminal.output.decode()
            self.assertIn(words, shown)
            self.assertNotIn("reading about alerting", shown)
        self.assertEqual({path: sorted(each.name for each in path.iterdir()) for path in folder.iterdir()}, before)
        self.assertEqual(self.status(running)["status"], "RUNNING")
        gate.open()
        self.assertEqual(self.wait(running), 0)

    def pattern(self, number):
        """One of the five, with the names of agents and tasks that it leaves open."""
        for name in ("agent1", "agent2", "agent3"):
            self.example_agent(name, FRONTEND)
        self.example_agent("recovery-agent", DEVOPS)
        for name in ("task", "task1", "task2", "task3", "recovery-task"):
            (self.root / name).write_text("# Task\n")
        body = self.block("Common Patterns Summary", number - 1).replace("<task>", "task")
        agent = "researcher-agent" if number == 4 else "grafana-agent"
        return self.written("pattern.sh", "source scripts/ops/session-lib.sh\n" + body.replace("<agent>", agent))

    def test_pattern_1(self):
        self.assertEqual(json.loads(self.bash(f"bash {self.pattern(1)}").stdout)["status"], "success")

    def test_pattern_2(self):
        found = json.loads(self.bash(f"bash {self.pattern(2)}").stdout)
        self.assertEqual([each["result"]["status"] for each in found.values()], ["success"] * 3)

    def test_pattern_3(self):
        self.service("grafana", "stopped")
        output = self.bash(f"bash {self.pattern(3)}").stdout
        self.assertIn("grafana service is stopped", output)
        self.assertTrue(wait_until(lambda: len(self.roots_that_ran()) == 3))
        self.wait(*self.roots_that_ran())
        self.assert_ran_once_each(3)

    def test_pattern_4(self):
        gate = self.researcher()
        terminal = self.on_terminal("bash", self.pattern(4))
        self.assertTrue(terminal.read(b"reading about alerting"), terminal.output)
        self.assertTrue(wait_until(terminal.leave), terminal.output)
        gate.open()
        self.assertEqual(terminal.finish(), 0, terminal.output)

    def test_pattern_5(self):
        self.service("prometheus", "missing")
        done, failed = self.create("grafana-agent"), self.create("prometheus-agent")
        self.wait(done, failed)
        self.bash(f"bash {self.pattern(5)}")
        self.assertTrue((self.archived(done) / "result.json").exists())
        self.assertTrue((self.workspace(failed) / "result.json").exists())
