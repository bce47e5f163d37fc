"""The proxy by itself, between a client and a server that answers in capitals."""

import pathlib
import shutil
import socket
import tempfile
import threading
import unittest

from proxy import Proxy


class ProxyCase(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="iw."))
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(self.folder / "server"))
        self.server.listen()
        self.heard = []
        threading.Thread(target=self.serve, daemon=True).start()
        self.proxy = Proxy(str(self.folder / "proxy"), str(self.folder / "server"))
        self.clients = []

    def tearDown(self):
        self.proxy.close()
        self.server.close()
        for client in self.clients:
            client.close()
        shutil.rmtree(self.folder)

    def serve(self):
        while True:
            try:
                peer, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(peer,), daemon=True).start()

    def answer(self, peer):
        try:
            while data := peer.recv(100):
                self.heard.append(data)
                peer.sendall(data.upper())
        except OSError:
            pass
        peer.close()

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(self.folder / "proxy"))
        client.settimeout(5)
        self.clients.append(client)
        return client

    def assert_silent(self, client):
        client.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            client.recv(100)
        client.settimeout(5)

    def test_passes_and_records(self):
        client = self.connect()
        client.sendall(b"one")
        self.assertEqual(client.recv(100), b"ONE")
        self.assertEqual(self.proxy.records(), [{"up": b"one", "down": b"ONE"}])

    def test_hold_loses_nothing(self):
        client = self.connect()
        client.sendall(b"one")
        client.recv(100)
        self.proxy.set_ways("hold")
        client.sendall(b"two")
        self.assert_silent(client)
        self.proxy.heal()
        self.assertEqual(client.recv(100), b"TWO")

    def test_drop_loses_and_breaks(self):
        client = self.connect()
        client.sendall(b"one")
        client.recv(100)
        self.proxy.set_ways("drop", ["down"])
        client.sendall(b"two")
        self.assert_silent(client)
        self.assertIn(b"two", self.heard)
        self.proxy.heal()
        self.assertEqual(client.recv(100), b"")

    def test_cut_and_refuse(self):
        client = self.connect()
        client.sendall(b"one")
        client.recv(100)
        self.proxy.set_refuse(True)
        self.assertEqual(self.proxy.cut(), 1)
        self.assertEqual(client.recv(100), b"")
        self.assertEqual(self.connect().recv(100), b"")

    def test_replays(self):
        client = self.connect()
        client.sendall(b"one")
        client.recv(100)
        record = self.proxy.records()[0]
        self.assertEqual(self.proxy.replay_up(record, 0.3), 3)
        self.assertEqual(self.heard, [b"one", b"one"])
        self.proxy.replay_down(record)
        again = self.connect()
        self.assertEqual(again.recv(100), b"ONE")
        self.assertEqual(len(self.heard), 2)
        fresh = self.connect()
        fresh.sendall(b"new")
        self.assertEqual(fresh.recv(100), b"NEW")


if __name__ == "__main__":
    unittest.main(verbosity=2)
