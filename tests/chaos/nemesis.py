"""The faults. Each is a function of a Nemesis that injects, holds, heals and returns; what it did goes to the recorder."""

import random
import signal
import threading

from history import now
from live import HALVES, LOST, pause, send


class Nemesis:
    def __init__(self, fleet, recorder, seed):
        self.fleet = fleet
        self.recorder = recorder
        self.rng = random.Random(f"{seed}/nemesis")

    def inject(self, kind):
        getattr(self, kind.replace("-", "_"))()

    def _hold(self, low, high):
        seconds = self.rng.uniform(low, high)
        self.recorder.write("hold", seconds=round(seconds, 2))
        pause(seconds)

    # Kills

    def _kill(self, *halves):
        self.fleet.kill(*halves)
        self._hold(0.0, 1.5)
        for half in self.rng.sample(halves, len(halves)):
            self.fleet.start(half)

    def kill_broker(self):
        self._kill("broker")

    def kill_worker(self):
        self._kill("worker")

    def kill_both(self):
        self._kill("broker", "worker")

    def kill_again_and_again(self):
        """Restarts that are themselves killed, at once or in the middle of recovery."""
        half = self.rng.choice(HALVES)
        for _ in range(5):
            self.fleet.kill(half)
            self.fleet.start(half)
            self._hold(0.0, 0.2)

    def kill_iexec(self):
        launchers = self.fleet.launchers()
        for pid in self.rng.sample(launchers, min(len(launchers), self.rng.randint(1, 3))):
            send(pid, signal.SIGKILL)

    def kill_tmux(self):
        if pid := self.fleet.tmux_pid():
            send(pid, signal.SIGKILL)

    def kill_tmux_and_worker(self):
        pid = self.fleet.tmux_pid()
        self.fleet.kill("worker")
        if pid:
            send(pid, signal.SIGKILL)
        self._hold(0.0, 1.0)
        self.fleet.start("worker")

    def end_politely(self):
        """SIGTERM, as an upgrade does."""
        half = self.rng.choice(HALVES)
        self.fleet.leave(half)
        self._hold(0.0, 0.5)
        self.fleet.start(half)

    # Pauses

    def _freeze(self, half, low, high):
        self.fleet.signal(half, signal.SIGSTOP)
        self._hold(low, high)
        self.fleet.signal(half, signal.SIGCONT)

    def stop_broker(self):
        self._freeze("broker", 1.0, LOST + 2)

    def stop_worker(self):
        self._freeze("worker", 1.0, LOST + 2)

    def stop_and_kill_worker(self):
        """Frozen beyond its lease, then killed: its successor finds what it had in hand."""
        self.fleet.signal("worker", signal.SIGSTOP)
        self._hold(1.0, LOST + 1)
        self._kill("worker")

    def stop_iexec(self):
        pids = self.fleet.launchers()[:3]
        for pid in pids:
            send(pid, signal.SIGSTOP)
        self._hold(0.5, 3.0)
        for pid in pids:
            send(pid, signal.SIGCONT)

    def stop_tmux(self):
        pid = self.fleet.tmux_pid()
        if pid is None:
            return
        send(pid, signal.SIGSTOP)
        self._hold(0.5, 4.0)
        send(pid, signal.SIGCONT)

    # The link

    def _partition(self, state, ways, low=0.3, high=LOST + 2):
        link = self.fleet.worker_link
        link.set_ways(state, ways)
        self._hold(low, high)
        link.heal()

    def partition_hold(self):
        self._partition("hold", ("up", "down"))

    def partition_drop(self):
        self._partition("drop", ("up", "down"))

    def partition_one_way(self):
        self._partition(self.rng.choice(("hold", "drop")), (self.rng.choice(("up", "down")),))

    def link_delay(self):
        self.fleet.worker_link.delay = self.rng.uniform(0.05, 0.8)
        self._hold(1.0, 4.0)
        self.fleet.worker_link.heal()

    def link_cut(self):
        for _ in range(self.rng.randint(1, 6)):
            self.fleet.worker_link.cut()
            pause(self.rng.uniform(0.0, 0.4))

    def link_refused(self):
        self.fleet.worker_link.set_refuse(True)
        self.fleet.worker_link.cut()
        self._hold(0.5, LOST + 1)
        self.fleet.worker_link.heal()

    def clients_partitioned(self):
        self.fleet.client_link.set_ways(self.rng.choice(("hold", "drop")), self.rng.choice((("up", "down"), ("down",))))
        self._hold(0.3, 4.0)
        self.fleet.client_link.heal()

    def clients_cut(self):
        for _ in range(3):
            self.fleet.client_link.cut()
            self._hold(0.0, 0.3)

    def replay_to_broker(self):
        """Everything that earlier connections of the worker and of clients said, once more."""
        for link in (self.fleet.worker_link, self.fleet.client_link):
            for record in link.records()[-6:]:
                link.replay_up(record, 0.2)

    def replay_to_worker(self):
        """The worker's next connections are an earlier broker: old welcomes, old assignments, old answers."""
        link = self.fleet.worker_link
        records = [record for record in link.records() if record["down"]]
        for record in self.rng.sample(records, min(3, len(records))):
            link.replay_down(record)
            link.cut()
            self._hold(1.0, 1.5)
        link.heal()

    # Disk and clock

    def _failing(self, program, count):
        """The n-th sync fails; the program may end with the exit code for that, and is started again."""
        self.fleet.excused = True
        self.fleet.switch(f"{program}.sync-error", count)
        self._hold(1.0, 2.0)
        self.fleet.switch(f"{program}.sync-error", None)
        pause(0.5)  # who has just failed is noticed before the excuse ends
        self.fleet.excused = False

    def broker_sync_fails(self):
        self._failing("ibroker", self.rng.randint(1, 20))

    def worker_sync_fails(self):
        self._failing("iworker", self.rng.randint(1, 20))

    def iexec_sync_fails(self):
        self._failing("iexec", self.rng.randint(1, 10))

    def sync_stalls(self):
        program = self.rng.choice(("ibroker", "iworker", "iexec"))
        self.fleet.switch(f"{program}.sync-stall", f"{self.rng.uniform(0.2, 3.0):.2f}")
        self._hold(1.0, 4.0)
        self.fleet.switch(f"{program}.sync-stall", None)
        pause(3.0)  # who sleeps in a sync is not told that the stall is over

    def disk_full(self):
        self.fleet.excused = True
        for _ in range(self.rng.randint(1, 3)):
            self.fleet.fill_disk(self.rng.choice((0, 0, 4096, 65536, 1 << 20)))
            self._hold(0.5, 3.0)
            self.fleet.free_disk()
            pause(self.rng.uniform(0.0, 0.5))
        pause(0.5)
        self.fleet.excused = False

    def clock_jump(self):
        for hours in self.rng.sample((-24 * 365, -24, -1, 1, 24, 24 * 40), 2):
            self.fleet.set_clock(int(hours * 3600_000))
            self._hold(0.5, 2.0)
        self.fleet.set_clock(0)

    def power_cut(self):
        """At any moment of the work, at times once more while everything recovers."""
        pause(self.rng.uniform(0.0, 0.6))
        self._cut_power()
        if self.rng.random() < 0.3:
            pause(self.rng.uniform(0.0, 0.6))
            self._cut_power()

    def _cut_power(self):
        seed = self.rng.getrandbits(32)
        data, names = self.fleet.cut_power(seed, self.rng.choice(("all", "some", "some")))
        self.recorder.write("power-cut", seed=seed, data=data, names=names)
        for half in HALVES:
            self.fleet.start(half)

    def restore(self):
        """The store is lost, a backup takes its place; what was accepted or ended after the backup is forgotten."""
        begin = now()
        backup = self.fleet.backup()
        self._hold(0.2, 2.0)
        self.fleet.lose_store(backup)
        self.recorder.forgot(begin, now())
        self.fleet.start("broker")
        if not self.fleet.resume():
            self.recorder.crashed("the fleet never goes on after a restore")

    # Several at once

    def two_at_once(self):
        kinds = self.rng.sample(TOGETHER, 2)
        self.recorder.write("together", kinds=kinds)
        threads = [threading.Thread(target=self.inject, args=(kind,)) for kind in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


KINDS = ("kill-broker", "kill-worker", "kill-both", "kill-again-and-again", "kill-iexec", "kill-tmux",
         "kill-tmux-and-worker", "end-politely", "stop-broker", "stop-worker", "stop-and-kill-worker", "stop-iexec",
         "stop-tmux", "partition-hold", "partition-drop", "partition-one-way", "link-delay", "link-cut", "link-refused",
         "clients-partitioned", "clients-cut", "replay-to-broker", "replay-to-worker", "broker-sync-fails",
         "worker-sync-fails", "iexec-sync-fails", "sync-stalls", "disk-full", "clock-jump", "power-cut", "restore",
         "two-at-once")
# Of these any two may overlap: none needs what another takes away.
TOGETHER = ("kill-broker", "kill-worker", "kill-iexec", "kill-tmux", "partition-drop", "link-cut", "link-delay",
            "clients-cut", "clock-jump", "sync-stalls", "stop-iexec", "replay-to-broker")
# Needs a file system of its own.
NEED_TMPFS = ("disk-full",)
