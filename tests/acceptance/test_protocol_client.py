"""A client in another language, written from the protocol's text, against a fleet as a user has it."""

import hashlib
import json
import pathlib
import threading
import unittest

import msgpack
import zmq

from fleet import FleetCase, wait_until
from protocol_client import FINAL, Client, ProtocolError

# The result names the prompt, so that each session's is its own.
ECHO = """#!/bin/bash
jq -Rs '{status: "success", prompt: .}' >"$IW_RESULT_FILE"
"""
GATE = """#!/bin/bash
until [[ -e $IW_PROJECT_ROOT/go ]]; do sleep 0.1; done
echo '{"status": "success"}' >"$IW_RESULT_FILE"
"""


def frame(verb, body=None, **changes):
    """A well-formed request; a change to None leaves the key out."""
    request = {"v": 1, "m": verb, "id": "t", "b": body, **changes}
    return msgpack.packb({key: value for key, value in request.items() if value is not None})


def submission(**changes):
    one = {"agent": "echo-agent", "prompt": "p", **changes}
    return {key: value for key, value in one.items() if value is not None}


class ClientCase(FleetCase):
    def setUp(self):
        super().setUp()
        self.agent("echo-agent", ECHO)
        self.agent("gate-agent", GATE)
        self.endpoint = json.loads(self.ictl("up", "--json").stdout)["endpoint"]

    def client(self):
        client = Client(self.endpoint)
        self.addCleanup(client.close)
        return client

    def assert_code(self, code, call, *arguments, **options):
        with self.assertRaises(ProtocolError) as caught:
            call(*arguments, **options)
        self.assertEqual(caught.exception.code, code, caught.exception)
        self.assertTrue(caught.exception.message)
        return caught.exception


class Sessions(ClientCase):
    def run_one(self, client, **fields):
        prompt = "what is asked: \u00e4 \U0001F600\n"
        answer = client.submit("echo-agent", prompt, key="one", **fields)
        self.assertFalse(answer["duplicate"])
        session = answer["id"]
        for _ in client.follow(session):
            pass
        found = client.result(session)
        self.assertTrue(found["held"])
        self.assertEqual(json.loads(found["result"]), {"status": "success", "prompt": prompt})
        view = found["session"]
        self.assertEqual((view["status"], view["detail"], view["exit_code"]), ("COMPLETED", "done", 0))
        self.assertEqual((view["result_status"], view["result_size"]), ("success", len(found["result"])))
        self.assertEqual(view["result_sha256"], hashlib.sha256(found["result"]).hexdigest())
        self.assertLessEqual(view["created_at"], view["started_at"])
        self.assertLessEqual(view["started_at"], view["completed_at"])
        folder = pathlib.Path(view["workspace"])
        self.assertEqual((folder / "result.json").read_bytes(), found["result"])
        self.assertEqual((folder / "prompt.md").read_text(), prompt)
        return session, view

    def test_submits_follows_events_and_reads_the_result(self):
        client = self.client()
        self.assertEqual(client.hello()["protocol"], 1)
        session, _ = self.run_one(client)
        # From the oldest event on, the whole life stands there in order.
        page = client.events(client.welcome["epoch"], 0, ids=[session])
        self.assertFalse(page["gap"])
        statuses = list(dict.fromkeys(event["status"] for event in page["events"]))
        self.assertEqual(statuses, ["CREATED", "RUNNING", "COMPLETED"])
        for event in page["events"]:
            self.assertEqual(event["topic"], f"session.{event['status'].lower()}.echo-agent.{session}")
            self.assertNotIn("prompt", event)
        seqs = [event["seq"] for event in page["events"]]
        self.assertEqual(seqs, sorted(set(seqs)))

    def test_with_an_origin_the_workspace_stands_there(self):
        client = self.client()
        worker = client.workers()[0]
        self.assertIn("echo-agent", worker["agents"])
        origin = {"host": worker["host"], "root": str(self.root.resolve())}
        session, view = self.run_one(client, origin=origin, project=worker["project"])
        self.assertEqual(view["origin"], origin)
        self.assertEqual(pathlib.Path(view["workspace"]), self.workspace(session).resolve())
        self.assertEqual(self.state(session)["status"], "COMPLETED")

    def test_a_key_makes_one_session(self):
        client = self.client()
        first = client.submit("echo-agent", "p", key="k1", tags=["a"])
        again = client.submit("echo-agent", "p", key="k1", tags=["a"])
        self.assertEqual((again["id"], again["duplicate"]), (first["id"], True))
        self.assertEqual(self.client().submit("echo-agent", "p", key="k1", tags=["a"])["id"], first["id"])
        self.assert_code("IDEM_MISMATCH", client.submit, "echo-agent", "other", key="k1", tags=["a"])
        mixed = client.submit_many([submission(key="k1", tags=["a"]), submission(key="k2"),
                                    submission(key="k1", agent="gate-agent")])
        self.assertEqual((mixed[0]["id"], mixed[0]["duplicate"]), (first["id"], True))
        self.assertNotEqual(mixed[1]["id"], first["id"])
        self.assertEqual(mixed[2]["error"]["code"], "IDEM_MISMATCH")

    def test_list_in_pages(self):
        client = self.client()
        answers = client.submit_many([submission(key=f"k{n}", tags=["paged"]) for n in range(7)])
        ids = [answer["id"] for answer in answers]
        self.assertEqual([row["id"] for row in client.list(rows_max=3, tag="paged")], ids)
        self.assertEqual([row["id"] for row in client.list(rows_max=3, ids=ids[2:4])], ids[2:4])
        for _ in client.follow(*ids):
            pass
        self.assertEqual([row["id"] for row in client.list(rows_max=2, status=["COMPLETED"])], ids)
        self.assertEqual(list(client.list(status=["KILLED"])), [])

    def test_kill_status_and_retry(self):
        client = self.client()
        session = client.submit("gate-agent", "p", key="one")["id"]
        other = client.submit("gate-agent", "p", key="two", delay=3600000)["id"]
        self.assertTrue(wait_until(lambda: client.status(session)["session"]["status"] == "RUNNING"))
        self.assertEqual(client.status(other)["session"]["detail"], "delayed")
        self.assertCountEqual(self.assert_code("AMBIGUOUS", client.status, session[:8], exact=False).matches,
                              [session, other])
        self.assert_code("NOT_FOUND", client.status, session[:-1])
        self.assert_code("CONFLICT", client.retry, session, "three")
        for one in (session, other):
            self.assertFalse(client.kill(one, "enough")["already_final"])
            for _ in client.follow(one):
                pass
            answer = client.kill(one)
            self.assertTrue(answer["already_final"])
            view = answer["session"]
            self.assertEqual((view["status"], view["detail"], view["kill_reason"]), ("KILLED", "killed", "enough"))
        self.assertFalse(client.result(session)["held"])
        again = client.retry(session, "three")
        self.assertFalse(again["duplicate"])
        self.assertEqual(client.status(again["id"])["session"]["retry_of"], session)
        self.assertEqual(client.retry(session, "three"), {"id": again["id"], "duplicate": True})

    def test_two_clients_at_once(self):
        seen = {}

        def work(name):
            with Client(self.endpoint) as client:
                ids = [client.submit("echo-agent", f"{name} {n}", key=f"{name}{n}")["id"] for n in range(10)]
                for _ in client.follow(*ids):
                    pass
                seen[name] = {one: json.loads(client.result(one)["result"])["prompt"] for one in ids}

        threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        self.assertEqual(sorted(seen["a"].values()), sorted(f"a {n}" for n in range(10)))
        self.assertEqual(sorted(seen["b"].values()), sorted(f"b {n}" for n in range(10)))
        self.assertEqual(len(seen["a"].keys() | seen["b"].keys()), 20)


class Connections(ClientCase):
    def test_nothing_before_hello(self):
        client = self.client()
        for verb, body in (("list", {}), ("submit", {"sessions": [submission()]}), ("events", {"after": 0})):
            error = self.assert_code("NO_SESSION", client.ask, verb, body)
            self.assertTrue(error.retryable)
        self.assertIsNotNone(client.ask("hello", {"role": "client"}))
        self.assertEqual(client.ask("list", {})["sessions"], [])

    def test_broker_killed_between_submit_and_result(self):
        client = self.client()
        before = client.hello()
        session = client.submit("gate-agent", "p", key="one")["id"]
        self.assertTrue(wait_until(lambda: client.status(session)["session"]["status"] == "RUNNING"))
        self.kill_half("broker")
        (self.root / "go").touch()
        self.ictl("up")
        # The old connection, which ZeroMQ made again, has no hello yet.
        self.assert_code("NO_SESSION", client.ask, "status", {"id": session}, seconds=30)
        for _ in client.follow(session):
            pass
        for name in ("epoch", "generation"):
            self.assertEqual(client.welcome[name], before[name])
        self.assertGreater(client.welcome["seq"], before["seq"])
        found = client.result(session)
        self.assertEqual((found["session"]["status"], found["held"]), ("COMPLETED", True))
        self.assertEqual(json.loads(found["result"]), {"status": "success"})
        self.assertEqual(client.submit("gate-agent", "p", key="one"), {"id": session, "duplicate": True})

    def test_submissions_outlast_a_broker_that_is_killed_meanwhile(self):
        ids = []

        def work():
            with Client(self.endpoint) as client:
                for number in range(60):
                    ids.append(client.submit("echo-agent", f"{number}", key=f"k{number}")["id"])

        thread = threading.Thread(target=work)
        thread.start()
        for count in (10, 30):
            self.assertTrue(wait_until(lambda: len(ids) >= count))
            self.kill_half("broker")
            self.ictl("up")
        thread.join(120)
        self.assertEqual(len(set(ids)), 60)
        client = self.client()
        self.assertEqual({row["id"] for row in client.list()}, set(ids))
        for _ in client.follow(*ids):
            pass
        self.assertEqual({row["status"] for row in client.list()}, {"COMPLETED"})


class BadInput(ClientCase):
    """Each is refused by name, changes nothing, and the broker goes on."""

    def frames(self):
        good = frame("list", {})
        return [
            ("nothing", b"", "BAD_REQUEST"),
            ("no msgpack", b"\xc1\xc1", "BAD_REQUEST"),
            ("truncated", good[:-1], "BAD_REQUEST"),
            ("bytes behind it", good + b"\x00", "BAD_REQUEST"),
            ("not a map", msgpack.packb([1, "list"]), "BAD_REQUEST"),
            ("key twice", b"\x85" + good[1:] + msgpack.packb("m") + msgpack.packb("list"), "BAD_REQUEST"),
            ("key that is no text", msgpack.packb({"v": 1, "m": "list", "id": "t", 7: 7}), "BAD_REQUEST"),
            ("not UTF-8", frame("status", {"id": b"?"}).replace(b"\xc4\x01?", b"\xa1\xff"), "BAD_REQUEST"),
            ("too deep", frame("list", {"x": [[[[[[[[[]]]]]]]]]}), "BAD_REQUEST"),
            ("extension", frame("list", {"status": msgpack.ExtType(4, b"x")}), "BAD_REQUEST"),
            ("float", frame("list", {"rows_max": 5.0}), "BAD_REQUEST"),
            ("no version", frame("list", {}, v=None), "BAD_REQUEST"),
            ("other version", frame("list", {}, v=2), "VERSION"),
            ("no verb", frame(None), "BAD_REQUEST"),
            ("unknown verb", frame("lst"), "UNKNOWN_VERB"),
            ("no request id", frame("list", {}, id=None), "BAD_REQUEST"),
            ("long request id", frame("list", {}, id="i" * 33), "BAD_REQUEST"),
            ("body of a wrong type", frame("list", [1]), "BAD_REQUEST"),
            ("verb of workers", frame("heartbeat", {"attempts": []}), "FORBIDDEN"),
            ("no id", frame("status", {}), "BAD_REQUEST"),
            ("unknown id", frame("status", {"id": "20990101-000000-x"}), "NOT_FOUND"),
            ("unknown id of a result", frame("result", {"id": "20990101-000000-x"}), "NOT_FOUND"),
            ("unknown id of a kill", frame("kill", {"id": "20990101-000000-x"}), "NOT_FOUND"),
            ("status that is none", frame("list", {"status": ["DONE"]}), "BAD_REQUEST"),
            ("too many rows", frame("list", {"rows_max": 501}), "BAD_REQUEST"),
            ("long wait", frame("events", {"epoch": "e", "after": 0, "wait": 30001}), "BAD_REQUEST"),
            ("no sessions", frame("submit", {"sessions": []}), "BAD_REQUEST"),
            ("too many sessions", frame("submit", {"sessions": [submission()] * 501}), "TOO_LARGE"),
            ("a key for two", frame("submit", {"sessions": [submission(), submission()]}, k="k"), "BAD_REQUEST"),
            ("two keys for one", frame("submit", {"sessions": [submission(key="a")]}, k="b"), "BAD_REQUEST"),
        ]

    def submissions(self):
        return [
            ("no agent", submission(agent=None), "BAD_REQUEST", "sessions[0].agent"),
            ("agent that is no name", submission(agent="Echo Agent"), "BAD_REQUEST", "sessions[0].agent"),
            ("unknown agent", submission(agent="eco-agent"), "UNKNOWN_AGENT", "eco-agent"),
            ("no prompt", submission(prompt=None), "BAD_REQUEST", "sessions[0].prompt"),
            ("empty prompt", submission(prompt=""), "BAD_REQUEST", "sessions[0].prompt"),
            ("long prompt", submission(prompt="x" * ((2 << 20) + 1)), "TOO_LARGE", "sessions[0].prompt"),
            ("priority", submission(priority=101), "BAD_REQUEST", "sessions[0].priority"),
            ("delay", submission(delay=-1), "BAD_REQUEST", "sessions[0].delay"),
            ("timeout", submission(timeout=0), "BAD_REQUEST", "sessions[0].timeout"),
            ("rule", submission(on_lost="hope"), "BAD_REQUEST", "sessions[0].on_lost"),
            ("root", submission(origin={"root": "here"}), "BAD_REQUEST", "sessions[0].origin.root"),
            ("long key", submission(key="k" * 129), "TOO_LARGE", "sessions[0].key"),
            ("many tags", submission(tags=["t"] * 33), "TOO_LARGE", "sessions[0].tags"),
            ("metadata", submission(metadata="[1]"), "BAD_REQUEST", "sessions[0].metadata"),
            ("unknown parent", submission(parent="20990101-000000-x"), "NOT_FOUND", "20990101-000000-x"),
        ]

    def test_frames(self):
        client = self.client()
        client.hello()
        for name, bytes_, code in self.frames():
            with self.subTest(name):
                reply = client.exchange(bytes_)
                self.assertIsNotNone(reply, "no answer")
                self.assertEqual((reply.get("err") or {}).get("code"), code, reply)
                self.assertTrue(reply["err"]["msg"])
                self.assertIn(reply["id"], ("t", ""))
        self.assertEqual(client.ask("list", {})["sessions"], [])

    def test_submissions(self):
        client = self.client()
        client.hello()
        for name, body, code, word in self.submissions():
            with self.subTest(name):
                reply = client.exchange(frame("submit", {"sessions": [body]}))
                self.assertIsNotNone(reply, "no answer")
                error = reply.get("err") or reply["ok"]["sessions"][0].get("error")
                self.assertIsNotNone(error, reply)
                self.assertEqual(error["code"], code, error)
                self.assertIn(word, error["msg"])
        self.assertEqual(client.ask("list", {})["sessions"], [])

    def test_what_is_no_frame_is_dropped(self):
        client = self.client()
        client.hello()
        context = zmq.Context()
        self.addCleanup(context.destroy, 0)
        rude = context.socket(zmq.DEALER)
        self.addCleanup(rude.close, 0)
        rude.connect(self.endpoint)
        rude.send_multipart([frame("hello", {"role": "client"}), b"more"])
        rude.send(frame("hello", {"role": "client"}, id="second"))
        self.assertTrue(rude.poll(10000))
        self.assertEqual(msgpack.unpackb(rude.recv())["id"], "second")
        rude.send(b"\x00" * ((4 << 20) + 1))
        self.assertEqual(client.ask("list", {})["sessions"], [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
