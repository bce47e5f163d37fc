"""What the contract tests share: one fleet for all rules of a file, and agents that end as a test wants them to."""

import itertools
import pathlib
import re

from fleet import Gate, SharedFleetCase, alive, wait_until
from on_terminal import OnTerminal

STAMP = r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\]"
UTC = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
ID = re.compile(r"\d{8}-\d{6}-[a-z0-9][a-z0-9_-]*")

DONE = "#!/bin/bash\ncat >/dev/null\n"
FAILS = "#!/bin/bash\ncat >/dev/null\necho \"cannot go on\"\nexit 3\n"
# Waits at the named pipe that its prompt names; then ends as the second line says.
GATED = """#!/bin/bash
{ read -r gate; read -r code; }
echo "waiting"
read -r _ <"$gate"
exit "${code:-0}"
"""
# Ends well when it is told to stop.
POLITE = """#!/bin/bash
cat >/dev/null
trap 'exit 0' TERM
touch "$IW_WORKSPACE/ready"
until false; do /bin/sleep 0.05; done
"""


def processes_of(session):
    """Command lines of what still runs with this session in its environment."""
    needle = f"IW_SESSION_ID={session}".encode()
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and needle in (entry / "environ").read_bytes() and alive(entry.name):
                found.append((entry / "cmdline").read_bytes())
        except OSError:
            continue
    return found


class ContractCase(SharedFleetCase):
    numbers = itertools.count()

    @classmethod
    def prepare(cls, fleet):
        fleet.agent("done-agent", DONE)
        fleet.agent("fail-agent", FAILS)
        fleet.agent("gate-agent", GATED)
        fleet.agent("polite-agent", POLITE)
        if not fleet.placement:
            fleet.ictl("up")

    def gated(self, agent="gate-agent", code=0, running=True):
        """A session that ends with `code` once its gate is opened; at the latest it is killed after the test."""
        number = next(self.numbers)
        gate = Gate(self.folder / f"gate-{number}")
        session = self.create(agent, self.prompt(f"{gate.path}\n{code}\n", f"task-{number}.md"))
        self.addCleanup(self.end, session)
        if running:
            self.wait_for(session, "RUNNING")
        return session, gate

    def polite(self):
        session = self.create("polite-agent")
        self.addCleanup(self.end, session)
        self.assertTrue(wait_until((self.workspace(session) / "ready").exists))
        self.wait_for(session, "RUNNING")
        return session

    def end(self, session):
        self.ictl("kill", session, "--force", check=False)

    def ended(self, agent="done-agent"):
        session = self.create(agent)
        self.wait(session)
        return session

    def wait_for(self, session, *statuses):
        self.assertTrue(wait_until(lambda: self.state(session)["status"] in statuses), self.state(session))

    def refused(self, code, words, *arguments, **options):
        done = self.manager(*arguments, check=False, **options)
        self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
        self.assertIn(words, done.stderr)
        return done.stderr

    def log(self, session):
        return (self.workspace(session) / "session.log").read_text()

    def global_log(self):
        return (self.root / "logs/orchestrator.log").read_text()

    def on_terminal(self, *argv):
        program = OnTerminal(list(map(str, argv)), self.root, self.environment)
        self.addCleanup(program.close)
        return program

    def rows(self, *options):
        """`list`'s rows, each as its cells."""
        lines = self.manager("list", *options).stdout.splitlines()
        self.assertEqual(re.split(r"  +", lines[0]), ["SESSION ID", "AGENT", "STATUS", "STARTED", "ELAPSED"])
        return [re.split(r"  +", line) for line in lines[1:]]
