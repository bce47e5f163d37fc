"""Submitters, a killer and a watcher: the mixed load under which faults are injected."""

import random
import subprocess
import threading
import time

from history import FINAL
from live import Client, ProtocolError

OUTSTANDING_MAX = 40
# A refusal with one of these is the end of a submission; all else is repeated under the same key.
DEFINITE = ("BAD_REQUEST", "TOO_LARGE", "UNKNOWN_AGENT", "NOT_FOUND", "CONFLICT", "IDEM_MISMATCH", "FORBIDDEN", "UNAUTHORIZED")


class Mix:
    """What a submission is drawn from."""

    def __init__(self, seed, name):
        self.rng = random.Random(f"{seed}/{name}")
        self.name = name
        self.number = 0

    def next(self):
        """(key, prompt, fields of the submission)."""
        rng = self.rng
        self.number += 1
        key = f"{self.name}.{self.number}"
        run = rng.choice((0.0, 0.02, 0.1, 0.3)) if rng.random() < 0.85 else rng.uniform(1.0, 4.0)
        words = {"key": key, "run": f"{run:.2f}"}
        fields = {"tags": [key], "on_lost": rng.choice(("wait", "wait", "requeue", "fail"))}
        if rng.random() < 0.15:
            words["exit"] = str(rng.randint(1, 80))
            if rng.random() < 0.5:
                fields["retry"] = {"attempts_max": rng.randint(2, 3), "backoff": 100, "backoff_max": 400}
                words["good"] = str(rng.choice((2, 3, 9)))
        elif rng.random() < 0.06:
            words["child"] = f"{rng.uniform(0.0, 1.0):.2f}"
        if rng.random() < 0.5:
            words["result"] = "1"
        if rng.random() < 0.05:
            words["deaf"] = "1"
        if rng.random() < 0.1:
            fields["timeout"] = 1500
        if rng.random() < 0.2:
            fields["priority"] = rng.randint(-5, 5)
        return key, " ".join(f"{word}={value}" for word, value in words.items()), fields


class Load:
    def __init__(self, fleet, recorder, seed, submitters=3, pace=0.12):
        self.fleet = fleet
        self.recorder = recorder
        self.seed = seed
        self.pace = pace
        self.stopping = threading.Event()
        self._open = set()
        self._ended = set()
        self._lock = threading.Lock()
        names = [f"s{n}" for n in range(submitters)]
        self._threads = [threading.Thread(target=self._submit_all, args=(name,), daemon=True) for name in names]
        self._threads += [threading.Thread(target=body, daemon=True) for body in (self._use_ictl, self._kill, self._watch)]

    def start(self):
        for thread in self._threads:
            thread.start()

    def stop(self):
        self.stopping.set()
        for thread in self._threads:
            thread.join()

    def outstanding(self):
        with self._lock:
            return len(self._open)

    def _acked(self, key, session):
        self.recorder.submitted(key, session)
        with self._lock:
            if session not in self._ended:
                self._open.add(session)

    def _wait_for_room(self):
        while self.outstanding() >= OUTSTANDING_MAX and not self.stopping.is_set():
            self.stopping.wait(0.1)

    def _client(self, patience):
        return Client(f"ipc://{self.fleet.run}/c", patience=patience)

    def _submit_all(self, name):
        mix = Mix(self.seed, name)
        with self._client(4.0) as client:
            while not self.stopping.wait(mix.rng.expovariate(1 / self.pace)):
                self._wait_for_room()
                key, prompt, fields = mix.next()
                self._depend(mix, fields)
                self._record(key, prompt, fields)
                self._submit(client, mix, key, prompt, fields)

    def _depend(self, mix, fields):
        """At times on a session that is not final yet, when last heard of."""
        with self._lock:
            candidates = sorted(self._open)
        if candidates and mix.rng.random() < 0.08:
            fields["after"] = [{"id": mix.rng.choice(candidates), "on": mix.rng.choice(("success", "failure", "end"))}]

    def _record(self, key, prompt, fields):
        rules = fields.get("retry", {"attempts_max": 1})
        self.recorder.submitting(key, on_lost=fields["on_lost"], timeout_ms=fields.get("timeout", 0),
                                 attempts_max=rules["attempts_max"],
                                 after=tuple((d["id"], d["on"]) for d in fields.get("after", ())))
        if "child=" in prompt:
            self.recorder.submitting(f"child.{key}")

    def _submit(self, client, mix, key, prompt, fields):
        agent = mix.rng.choice(("truth-agent", "other-agent"))
        while True:
            try:
                self._acked(key, client.submit(agent, prompt, key=key, **fields)["id"])
                # Now and then once more, as a script would that lost the answer.
                if mix.rng.random() < 0.1:
                    self._acked(key, client.submit(agent, prompt, key=key, **fields)["id"])
                return
            except ProtocolError as error:
                if error.code in DEFINITE:
                    self.recorder.refused(key, error.code)
                    return
                # Given up at times: the outcome stays unknown.
                if self.stopping.is_set() or mix.rng.random() < 0.1:
                    return

    def _use_ictl(self):
        mix = Mix(self.seed, "ictl")
        prompt_file = self.fleet.folder / "prompt"
        while not self.stopping.wait(mix.rng.expovariate(1 / 1.0)):
            self._wait_for_room()
            key, prompt, _ = mix.next()
            prompt_file.write_text(prompt)
            self._record(key, prompt, {"on_lost": "wait"})
            argv = ["ictl", "submit", "truth-agent", prompt_file, "--key", key, "--tag", key]
            done = subprocess.run(argv, env=self.fleet.client_environment(), cwd=self.fleet.root, text=True, check=False,
                                  stdin=subprocess.DEVNULL, capture_output=True)
            if done.returncode == 0:
                self._acked(key, done.stdout.split()[0])
            else:
                self.recorder.write("ictl", key=key, code=done.returncode, said=done.stderr[-300:])

    def _kill(self):
        rng = random.Random(f"{self.seed}/killer")
        with self._client(4.0) as client:
            while not self.stopping.wait(rng.expovariate(1 / 1.5)):
                with self._lock:
                    candidates = sorted(self._open)
                if not candidates:
                    continue
                session = rng.choice(candidates)
                self.recorder.killing(session)
                try:
                    client.kill(session, reason="chaos")
                except ProtocolError as error:
                    self.recorder.write("kill-failed", id=session, code=error.code)

    def _watch(self):
        """Follows all events; what it sees final must stay so."""
        after, epoch = 0, None
        with self._client(4.0) as client:
            while not self.stopping.is_set() or self.outstanding():
                try:
                    epoch = epoch or client.hello()["epoch"]
                    page = client.events(epoch, after, 300)
                except ProtocolError as error:
                    self.recorder.write("watch", code=error.code)
                    if self.stopping.wait(0.2):
                        return
                    continue
                if page["gap"]:
                    self.recorder.write("gap", epoch=page["epoch"], after=after)
                    self._look_again(client)
                for event in page["events"]:
                    self._take(event)
                epoch, after = page["epoch"], page["next"]

    def _look_again(self, client):
        """What ended unseen, or is not known any more, is waited for no longer."""
        with self._lock:
            candidates = set(self._open)
        try:
            alive = {view["id"] for view in client.list(status=["CREATED", "RUNNING"])}
        except ProtocolError as error:
            self.recorder.write("look-again", code=error.code)
            return
        with self._lock:
            self._open -= candidates - alive

    def _take(self, event):
        if not event.get("id") or event["status"] not in FINAL:
            return
        self.recorder.saw(event["id"], event["status"], event["detail"], event.get("attempt", 0))
        with self._lock:
            self._ended.add(event["id"])
            self._open.discard(event["id"])


def probe(fleet, recorder, name, seconds):
    """One more session, ahead of all others; the seconds until it is COMPLETED, or None."""
    begin = time.monotonic()
    key = f"probe.{name}"
    recorder.submitting(key)
    with Client(fleet.broker_socket, patience=seconds) as client:
        while (left := seconds - (time.monotonic() - begin)) > 0:
            try:
                client.patience = left
                session = client.submit("truth-agent", f"key={key}", key=key, tags=[key], priority=100)["id"]
                recorder.submitted(key, session)
                if any(event["status"] == "COMPLETED" for event in client.follow(session, seconds=left)) or \
                        client.status(session)["session"]["status"] == "COMPLETED":
                    return time.monotonic() - begin
                return None
            except ProtocolError as error:
                recorder.write("probe", code=error.code, said=error.message)
    return None
