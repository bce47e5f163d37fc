"""A user-space link between two unix sockets that can be partitioned, slowed, cut, and made to repeat the past.

`up` is from the one who connects (worker, client) to the broker, `down` the other way.
"""

import os
import socket
import threading
import time

CHUNK = 65536
RECORD_MAX = 4 << 20
RECORDS_KEPT = 16
DIRECTIONS = ("up", "down")


class Connection:
    def __init__(self, near, far):
        self.near = near
        self.far = far
        self.bytes = {way: bytearray() for way in DIRECTIONS}
        self.dropped = False
        self.closed = False

    def ends(self, way):
        return (self.near, self.far) if way == "up" else (self.far, self.near)

    def close(self):
        self.closed = True
        for end in (self.near, self.far):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Proxy:
    """Listens at once. Every way is in one of three states: `pass`; `hold`, nothing moves but nothing is lost, as in
    a partition that heals before anybody gives up; `drop`, what is sent is taken and lost, and the connection breaks
    when the way passes again, as in one that does not."""

    def __init__(self, listen_path, target_path):
        self.target_path = target_path
        self.delay = 0.0  # seconds that each chunk waits
        self._ways = {way: "pass" for way in DIRECTIONS}
        self._refuse = False
        self._replay_next = None
        self._changed = threading.Condition()
        self._connections = []
        self._records = []
        self._over = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(listen_path)
        os.chmod(listen_path, 0o700)
        self._listener.listen(64)
        self._start(self._accept)

    def _start(self, body, *arguments):
        threading.Thread(target=body, args=arguments, daemon=True).start()

    # What a test does to the link

    def set_ways(self, state, ways=DIRECTIONS):
        with self._changed:
            for way in ways:
                self._ways[way] = state
            if "drop" not in self._ways.values():
                for connection in self._connections:
                    if connection.dropped:
                        connection.close()
            self._changed.notify_all()

    def set_refuse(self, refuse):
        """New connections are closed at once."""
        self._refuse = refuse

    def heal(self):
        self.delay = 0.0
        self._refuse = False
        self._replay_next = None
        self.set_ways("pass")

    def cut(self):
        """Ends all connections; how many."""
        with self._changed:
            live = [c for c in self._connections if not c.closed]
        for connection in live:
            connection.close()
        return len(live)

    def records(self):
        """Of earlier and present connections, oldest first: ({way: bytes})."""
        with self._changed:
            return [{way: bytes(c.bytes[way]) for way in DIRECTIONS} for c in self._records]

    def replay_up(self, record, seconds=1.0):
        """Says to the target what an earlier connection said; the number of bytes that it answered."""
        answered = 0
        with socket.socket(socket.AF_UNIX) as far:
            far.settimeout(seconds)
            try:
                far.connect(self.target_path)
                far.sendall(record["up"])
                while data := far.recv(CHUNK):
                    answered += len(data)
            except OSError:
                pass
        return answered

    def replay_down(self, record):
        """The next one to connect hears what an earlier connection heard, once, and is then cut off."""
        self._replay_next = bytes(record["down"])

    def close(self):
        self._over = True
        self._listener.close()
        self.heal()
        self.cut()

    # Threads

    def _accept(self):
        while not self._over:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._refuse:
                near.close()
            elif self._replay_next is not None:
                data, self._replay_next = self._replay_next, None
                self._start(self._play, near, data)
            else:
                self._start(self._join, near)

    def _play(self, near, data):
        end = time.monotonic() + 1.0
        near.settimeout(0.1)
        try:
            near.sendall(data)
            while time.monotonic() < end:
                try:
                    if not near.recv(CHUNK):
                        break
                except TimeoutError:
                    continue
        except OSError:
            pass
        near.close()

    def _join(self, near):
        """A half-open link is one that nobody at the far side has heard of yet."""
        self._await_way("up", None)
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(self.target_path)
        except OSError:
            near.close()
            far.close()
            return
        connection = Connection(near, far)
        with self._changed:
            self._connections = [c for c in self._connections if not c.closed] + [connection]
            self._records = (self._records + [connection])[-RECORDS_KEPT:]
        pumps = [threading.Thread(target=self._pump, args=(connection, way), daemon=True) for way in DIRECTIONS]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        near.close()
        far.close()

    def _await_way(self, way, connection):
        """Returns the state of a way once it is not `hold`."""
        with self._changed:
            while self._ways[way] == "hold" and not self._over and not (connection and connection.closed):
                self._changed.wait(1.0)
            return self._ways[way]

    def _pump(self, connection, way):
        source, sink = connection.ends(way)
        try:
            while data := source.recv(CHUNK):
                if self.delay:
                    time.sleep(self.delay)
                if self._await_way(way, connection) == "drop":
                    connection.dropped = True
                    continue
                if len(connection.bytes[way]) < RECORD_MAX:
                    connection.bytes[way] += data
                sink.sendall(data)
        except OSError:
            pass
        # An end of one that was partitioned off is not seen at the other side either.
        self._await_way(way, None)
        connection.close()
