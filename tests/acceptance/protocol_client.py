"""A client of the broker, written from common/PROTOCOL.md alone: what an implementer in another language would do.

It shares no code with the programs, so a test that passes through it also says that the text is enough. One Client is
one connection, for one thread.
"""

import os
import time

import msgpack
import zmq

VERSION = 1
FINAL = ("COMPLETED", "FAILED", "KILLED")
MESSAGE_MAX = 4 << 20
# How long an answer is waited for before the request is repeated; a repeat of these verbs changes nothing.
ANSWER_SECONDS = 3.0
REPEATABLE = ("hello", "status", "list", "result", "events", "workers", "kill")


class ProtocolError(Exception):
    """An `err` of the broker, or UNREACHABLE and UNKNOWN_OUTCOME of this side."""

    def __init__(self, code, message, retryable=False, retry_ms=0, matches=()):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_ms = retry_ms
        self.matches = list(matches)

    @classmethod
    def of(cls, err):
        return cls(err["code"], err.get("msg") or "", bool(err.get("retryable")), err.get("retry_ms") or 0,
                   err.get("matches") or ())


class Client:
    def __init__(self, endpoint, patience=60.0):
        """Connects in the background. `patience`: seconds after which a request without an answer is given up."""
        self.endpoint = endpoint
        self.patience = patience
        self.welcome = None
        self.repeats = 0
        self._context = zmq.Context()
        self._socket = None
        self._number = 0
        self._connect()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._context.destroy(linger=0)

    def _connect(self):
        """A fresh connection: what waited in the old one is dropped instead of arriving late."""
        if self._socket is not None:
            self._socket.close(linger=0)
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MESSAGE_MAX)
        self._socket.connect(self.endpoint)
        self.welcome = None

    # Frames

    def exchange(self, frame, seconds=ANSWER_SECONDS):
        """Sends the bytes of one frame and returns the next reply as it came, or None: for frames that are wrong."""
        self._socket.send(frame)
        return self._receive(time.monotonic() + seconds)

    def _receive(self, end):
        while True:
            left = end - time.monotonic()
            if left <= 0 or not self._socket.poll(int(left * 1000) + 1):
                return None
            frames = self._socket.recv_multipart()
            if len(frames) == 1:
                return msgpack.unpackb(frames[0], strict_map_key=True)

    def ask(self, verb, body, key=None, seconds=ANSWER_SECONDS):
        """One request and its reply's `ok`; None without an answer. Replies to earlier requests are passed over."""
        self._number += 1
        request = f"{os.getpid():x}-{self._number}"
        frame = {"v": VERSION, "m": verb, "id": request, "b": body}
        if key is not None:
            frame["k"] = key
        self._socket.send(msgpack.packb(frame))
        end = time.monotonic() + seconds
        while (reply := self._receive(end)) is not None:
            if reply.get("id") != request:
                continue
            if reply.get("err") is not None:
                raise ProtocolError.of(reply["err"])
            return reply["ok"]
        return None

    def call(self, verb, body, key=None, held=0.0, repeatable=None):
        """`ask` that outlasts a broker that is away: says hello where that is needed, repeats what may be repeated.

        `held`: seconds for which the broker may hold the answer. A request that may not be repeated and has no
        answer raises UNKNOWN_OUTCOME.
        """
        if repeatable is None:
            repeatable = verb in REPEATABLE
        end = time.monotonic() + self.patience + held
        while time.monotonic() < end:
            try:
                if self.welcome is None and not self._say_hello():
                    continue
                answer = self.ask(verb, body, key, ANSWER_SECONDS + held)
            except ProtocolError as error:
                if not self._pass_over(error):
                    raise
                continue
            if answer is not None:
                return answer
            if not repeatable:
                raise ProtocolError("UNKNOWN_OUTCOME", f"{verb} was sent, but no answer came")
            self.repeats += 1
            self._connect()
        raise ProtocolError("UNREACHABLE", f"no answer from {self.endpoint} in {self.patience:.0f} s", True)

    def _pass_over(self, error):
        """True when the request is to be repeated: the broker is a new one, or asked for patience."""
        if error.code == "NO_SESSION":
            self.welcome = None
            return True
        if error.retryable:
            self._receive(time.monotonic() + max(error.retry_ms, 100) / 1000)
        return error.retryable

    def _say_hello(self):
        self.welcome = self.ask("hello", {"role": "client", "software": "protocol_client.py", "protocol_min": VERSION,
                                          "protocol_max": VERSION})
        if self.welcome is None:
            self._connect()
        return self.welcome is not None

    # Verbs

    def hello(self):
        if self.welcome is None:
            self.call("workers", {})
        return self.welcome

    def submit_many(self, submissions):
        """Each with a `key` of its own; the answers in the same order."""
        has_keys = all("key" in submission for submission in submissions)
        answers = self.call("submit", {"sessions": submissions}, repeatable=has_keys)["sessions"]
        return [{"duplicate": False, **answer} for answer in answers]

    def submit(self, agent, prompt, key=None, **fields):
        """{`id`, `duplicate`} of one session. Without a key, a submission that gets no answer is not repeated."""
        submission = {"agent": agent, "prompt": prompt, **fields}
        entry = self.call("submit", {"sessions": [submission]}, key, repeatable=key is not None)["sessions"][0]
        if entry.get("error") is not None:
            raise ProtocolError.of(entry["error"])
        return {"duplicate": False, **entry}

    def status(self, session, exact=True):
        return self.call("status", {"id": session, "exact": exact})

    def list(self, rows_max=100, **filters):
        """Every session that the filters let pass, page by page."""
        after = None
        while True:
            page = self.call("list", {**filters, "rows_max": rows_max, "after": after})
            yield from page["sessions"]
            after = page.get("next")
            if not after:
                return

    def result(self, session):
        return {"held": False, **self.call("result", {"id": session})}

    def kill(self, session, reason=None):
        return {"already_final": False, **self.call("kill", {"id": session, "reason": reason, "exact": True})}

    def retry(self, session, key):
        return {"duplicate": False, **self.call("retry", {"id": session}, key, repeatable=True)}

    def workers(self):
        return self.call("workers", {})["workers"]

    def events(self, epoch, after, wait_ms=0, **filters):
        request = {"epoch": epoch, "after": after, "wait": wait_ms, **filters}
        return {"gap": False, **self.call("events", request, held=wait_ms / 1000)}

    def follow(self, *sessions, seconds=120.0):
        """Events of the sessions, until each is final. What was so before is one status answer, not events."""
        end = time.monotonic() + seconds
        epoch = self.hello()["epoch"]
        looks = [self.status(session) for session in sessions]
        open_ones = {look["session"]["id"] for look in looks if look["session"]["status"] not in FINAL}
        after = min((look["seq"] for look in looks), default=0)
        while open_ones:
            if time.monotonic() > end:
                raise ProtocolError("UNREACHABLE", f"not final after {seconds:.0f} s: {', '.join(sorted(open_ones))}")
            page = self.events(epoch, after, 2000, ids=sorted(sessions))
            if page["gap"]:
                looks = [self.status(session) for session in open_ones]
                open_ones = {look["session"]["id"] for look in looks if look["session"]["status"] not in FINAL}
                epoch, after = page["epoch"], min((look["seq"] for look in looks), default=0)
                continue
            for event in page["events"]:
                if event["status"] in FINAL:
                    open_ones.discard(event["id"])
                yield event
            epoch, after = page["epoch"], page["next"]
