"""The session contract, "What the agent gets": one test a rule."""

import unittest

from contract import ContractCase

DUMP = """#!/bin/bash
cat >"$IW_WORKSPACE/stdin"
env -0 >"$IW_WORKSPACE/env"
"""
# Makes one child by each program, with nothing said of a parent.
PARENT = """#!/bin/bash
cat >/dev/null
echo x >"$IW_WORKSPACE/child.md"
scripts/ops/session-manager.sh create done-agent "$IW_WORKSPACE/child.md" | awk 'NR==1 {print $3}' >"$IW_WORKSPACE/children"
ictl submit done-agent "$IW_WORKSPACE/child.md" >>"$IW_WORKSPACE/children"
ictl wait $(cat "$IW_WORKSPACE/children")
"""
PROFILE = """
default_profile = "plain-cli"
[agents.plain-cli]
command = ["{cli}", "{{agent}}"]
prompt = "stdin"
persona = "prepend"
compose = true
"""
CLI = """#!/bin/bash
cat >"$IW_WORKSPACE/input.txt"
echo "$1" >"$IW_WORKSPACE/agent.txt"
"""


class Environment(ContractCase):
    @classmethod
    def prepare(cls, fleet):
        cli = fleet.folder / "plain-cli"
        cli.write_text(CLI)
        cli.chmod(0o755)
        (fleet.root / "scripts/ops/project.toml").write_text(PROFILE.format(cli=cli))
        super().prepare(fleet)

    def read(self, session, name):
        return (self.workspace(session) / name).read_bytes()

    def test_a_script_agent_gets_the_prompt_as_its_standard_input(self):
        self.agent("dump-agent", DUMP)
        unit = "it's \"q\" $(touch pwned) `touch pwned` \\ %d #{pane_pid}\r\n\u00e9"
        text = unit.encode() * (1 + (2 << 20) // len(unit.encode()))
        text = text[:2 << 20].decode(errors="ignore").encode()
        session = self.create("dump-agent", self.prompt(text))
        self.assertEqual(self.wait(session), 0)
        self.assertEqual(self.read(session, "stdin"), text)
        self.assertEqual(self.read(session, "prompt.md"), text)
        self.assertEqual(list(self.folder.rglob("pwned")), [])

    def test_variables(self):
        self.agent("dump-agent", DUMP)
        session = self.ended("dump-agent")
        variables = dict(word.split("=", 1) for word in self.read(session, "env").decode().split("\0") if word)
        workspace = str(self.workspace(session))
        expected = {"IW_SESSION_ID": session, "IW_WORKSPACE": workspace, "IW_PROMPT_FILE": f"{workspace}/prompt.md",
                    "IW_RESULT_FILE": f"{workspace}/result.json", "IW_PARENT_SESSION": "", "IW_ATTEMPT": "1",
                    "IW_PROJECT_ROOT": str(self.root)}
        self.assertEqual({name: variables[name] for name in expected}, expected)
        self.assertTrue(variables["IW_SOCKET"].startswith("/"))
        self.assertEqual([name for name in variables if "KEY" in name or "SECRET" in name or "TOKEN" in name], [])

    def test_children_get_their_parent_by_themselves(self):
        self.agent("parent-agent", PARENT)
        session = self.ended("parent-agent")
        children = self.read(session, "children").decode().split()
        self.assertEqual(len(children), 2)
        for child in children:
            self.assertEqual(self.status(child)["parent_session"], session)
            self.assertEqual(self.state(child)["parent_session"], session)

    def test_a_persona_without_a_run_goes_to_the_default_profile(self):
        places = {"writer": "writer/writer-agent.md", "editor": "editor/editor.md", "reader-agent": "reader/reader-agent.md"}
        for agent, place in places.items():
            with self.subTest(agent=agent):
                persona = self.root / "agents" / place
                persona.parent.mkdir(parents=True)
                persona.write_text(f"You are the {agent}.\n")
                session = self.ended(agent)
                self.assertEqual(self.status(session)["status"], "COMPLETED", self.status(session)["reason"])
                self.assertEqual(self.read(session, "agent.txt").decode(), f"{agent}\n")
                text = self.read(session, "input.txt").decode()
                self.assertTrue(text.startswith(f"You are the {agent}.\n"), text)
                tail = text[text.index("do it\n"):]
                for words in (session, str(self.workspace(session)), f"{self.workspace(session)}/result.json"):
                    self.assertIn(words, tail)
                self.assertEqual(self.read(session, "prompt.md"), b"do it\n")


if __name__ == "__main__":
    unittest.main()
