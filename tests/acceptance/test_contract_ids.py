"""The session contract, "Ids": one test a rule."""

import json
import subprocess
import time
import unittest

from contract import DONE, ID, ContractCase
from fleet import FleetCase, wait_until
from protocol_client import Client


class Ids(ContractCase):
    def workers(self):
        return json.loads(self.ictl("workers", "--json").stdout)["workers"]

    def batch(self, *agents):
        """Submitted in one message, so decided in one moment."""
        with Client(f"ipc://{self.fleet_folder()}/broker.sock") as client:
            origin = {"host": self.workers()[0]["host"], "root": str(self.root)}
            # A plain client is refused for an agent that no worker has told of yet.
            self.assertTrue(wait_until(lambda: set(agents) <= set(self.workers()[0]["agents"])), self.workers())
            answers = client.submit_many([{"agent": agent, "prompt": "x\n", "origin": origin} for agent in agents])
        return [answer["id"] for answer in answers]

    def test_an_id_is_the_utc_second_of_creation_and_the_agent(self):
        session = self.ended()
        created = time.strptime(self.status(session)["created_at"], "%Y-%m-%dT%H:%M:%SZ")
        self.assertEqual(session, time.strftime("%Y%m%d-%H%M%S-done-agent", created))

    def test_later_ones_of_a_second_are_numbered_and_the_agent_is_read_from_the_record(self):
        for agent in ("foo", "foo-2"):
            self.agent(agent, DONE)
        ids = self.batch("foo-2", "foo", "foo", "foo-2")
        second = ids[0][:15]
        self.assertEqual(ids, [f"{second}-foo-2", f"{second}-foo", f"{second}-foo-3", f"{second}-foo-2-2"])
        self.wait(*ids)
        self.assertEqual([self.status(each)["agent"] for each in ids], ["foo-2", "foo", "foo", "foo-2"])

    def test_names_of_agents(self):
        for name in ("Foo", "-foo", "_foo", "foo.bar", "foo/bar", "../foo", "f" * 65, "fo o", ""):
            with self.subTest(name=name):
                self.refused(1, "", "create", name, self.prompt())
        for name in ("7zip", "a_b-c", "f" * 64):
            with self.subTest(name=name):
                self.agent(name, DONE)
                session = self.create(name)
                self.assertTrue(ID.fullmatch(session) and session.endswith(f"-{name}"), session)
                self.assertEqual(self.wait(session), 0)

    def test_the_tmux_session_is_named_after_it(self):
        session, _ = self.gated()
        self.assertEqual(self.state(session)["tmux_session"], f"iw-{session}")
        socket = self.fleet_folder() / "worker/tmux.sock"
        names = subprocess.run(["tmux", "-S", socket, "list-sessions", "-F", "#{session_name}"], check=True,
                               capture_output=True, text=True).stdout.split()
        self.assertIn(f"iw-{session}", names)

    def test_a_prefix_finds_one_the_exact_id_wins_and_several_are_listed(self):
        self.agent("pre", DONE)
        first, second = self.batch("pre", "pre")
        self.assertEqual(second, f"{first}-2")
        self.assertEqual(self.status(first)["session_id"], first)
        self.assertEqual(self.status(second[:-1])["session_id"], second)
        told = self.refused(1, first, "status", first[:-1])
        self.assertIn(second, told)

    def test_an_empty_id_is_an_error(self):
        words = "no session id given; did create fail? see logs/orchestrator.log"
        for command in ("status", "attach", "kill"):
            for arguments in ([command, ""], [command]):
                if command == "kill":
                    arguments.append("--force")
                self.refused(1, words, *arguments)

    def test_kill_force_takes_full_ids_only(self):
        session, _ = self.gated()
        self.refused(1, session[:-1], "kill", session[:-1], "--force")
        self.assertEqual(self.status(session)["status"], "RUNNING")


class IdsOverRestarts(FleetCase):
    def test_the_second_never_goes_back_over_a_restart(self):
        self.agent("done-agent", DONE)
        ids = []
        for _ in range(3):
            ids += [self.create("done-agent") for _ in range(3)]
            self.kill_half("broker")
        self.ictl("up")
        self.assertEqual(self.wait(*ids), 0)
        self.assertEqual(len(set(ids)), len(ids))
        self.assertEqual([each[:15] for each in ids], sorted(each[:15] for each in ids))


if __name__ == "__main__":
    unittest.main()
