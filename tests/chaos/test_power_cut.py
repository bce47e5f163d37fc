"""The fault shim and the power cut, tried on small programs: what was not synced is forgotten, all else stays."""

import contextlib
import os
import pathlib
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import unittest

from power_cut import power_cut

FAULTS = pathlib.Path(os.environ["IW_TEST_BUILD"]) / "faults"


class ShimCase(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="iw."))
        names = ("disk", "log", "saved", "switches")
        self.disk, self.log, self.saved, self.switches = (self.folder / name for name in names)
        for made in (self.disk / "a", self.log, self.saved, self.switches):
            made.mkdir(parents=True)
        self.environment = {"PATH": "/usr/bin:/bin", "LD_PRELOAD": str(FAULTS / "libiw_faults.so"),
                            "IW_FAULTS_FOLDER": str(self.disk), "IW_FAULTS_LOG": str(self.log), "IW_FAULTS_SAVED": str(self.saved),
                            "IW_FAULTS_SWITCHES": str(self.switches), "PYTHONDONTWRITEBYTECODE": "1"}

    def tearDown(self):
        shutil.rmtree(self.folder)

    def command(self, body):
        return [sys.executable, "-c", "import os, sys, time, sqlite3\nos.chdir(sys.argv[1])\n" + body, str(self.disk)]

    def run_code(self, body, **variables):
        return subprocess.run(self.command(body), env={**self.environment, **variables}, check=True, timeout=60,
                              capture_output=True, text=True).stdout

    def cut(self, forget="all", seed=0):
        return power_cut(self.log, self.saved, seed, forget)

    def file(self, name):
        path = self.disk / name
        return path.read_bytes() if path.exists() else None


WRITE = """
def put(path, data, sync, flags=os.O_WRONLY | os.O_CREAT):
    fd = os.open(path, flags, 0o600)
    os.write(fd, data)
    if sync: os.fsync(fd)
    os.close(fd)
def sync(folder):
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)
"""


class Files(ShimCase):
    def test_unsynced_is_forgotten_and_synced_stays(self):
        self.run_code(WRITE + "put('a/x', b'old', True); sync('a'); put('a/y', b'lost', True); put('a/x', b'NEW', False)")
        self.assertEqual((self.file("a/x"), self.file("a/y")), (b"NEW", b"lost"))
        self.assertEqual(self.cut(), (1, 1))
        self.assertEqual((self.file("a/x"), self.file("a/y")), (b"old", None))

    def test_a_name_without_data(self):
        self.run_code(WRITE + "put('a/x', b'data', False); sync('a')")
        self.cut()
        self.assertEqual(self.file("a/x"), b"")

    def test_replacing_by_rename(self):
        code = WRITE + "put('a/x', b'old', True); sync('a'); put('a/t', b'new', True); os.rename('a/t', 'a/x')"
        self.run_code(code)
        self.assertEqual(self.file("a/x"), b"new")
        self.cut()
        self.assertEqual((self.file("a/x"), self.file("a/t")), (b"old", None))
        self.run_code(code + "; sync('a')")
        self.cut()
        self.assertEqual((self.file("a/x"), self.file("a/t")), (b"new", None))

    def test_link_and_unlink(self):
        self.run_code(WRITE + "put('a/t', b'new', True); sync('a'); os.link('a/t', 'a/x'); os.unlink('a/t')")
        self.assertEqual((self.file("a/x"), self.file("a/t")), (b"new", None))
        self.cut()
        self.assertEqual((self.file("a/x"), self.file("a/t")), (None, b"new"))

    def test_a_symlink_is_replaced(self):
        self.run_code(WRITE + "os.symlink('/nowhere/old', 'a/x'); sync('a'); os.symlink('/etc/passwd', 'a/t'); os.rename('a/t', 'a/x')")
        self.assertEqual(os.readlink(self.disk / "a/x"), "/etc/passwd")
        self.cut()
        self.assertEqual(os.readlink(self.disk / "a/x"), "/nowhere/old")

    def test_truncation_comes_back(self):
        self.run_code(WRITE + "put('a/x', b'long text', True); sync('a'); os.truncate; fd = os.open('a/x', os.O_WRONLY | os.O_TRUNC)")
        self.assertEqual(self.file("a/x"), b"")
        self.cut()
        self.assertEqual(self.file("a/x"), b"long text")
        self.run_code("fd = os.open('a/x', os.O_RDWR); os.ftruncate(fd, 4); os.posix_fallocate(fd, 0, 100000)")
        self.cut()
        self.assertEqual(self.file("a/x"), b"long text")

    def test_a_folder_takes_its_files_along(self):
        self.run_code(WRITE + "os.mkdir('a/b'); put('a/b/x', b'1', True); sync('a/b')")
        self.cut()
        self.assertFalse((self.disk / "a/b").exists())
        self.run_code(WRITE + "os.mkdir('a/b'); sync('a'); put('a/b/x', b'1', True); sync('a/b')")
        self.cut()
        self.assertEqual(self.file("a/b/x"), b"1")

    def test_names_in_the_watched_folder_itself(self):
        self.run_code(WRITE + "os.mkdir('lost'); put('lost.txt', b'1', True)")
        self.cut()
        self.run_code(WRITE + "os.mkdir('kept'); sync('.'); sync(sys.argv[1]); os.mkdir('lost')")
        self.cut()
        self.assertEqual(sorted(os.listdir(self.disk)), ["a", "kept"])

    def test_a_record_cut_short_is_passed_over(self):
        self.run_code(WRITE + "put('a/x', b'old', True); sync('a')")
        log = self.log / "undo.log"
        with log.open("ab") as file:
            file.write(b"\1IW\twrite\t12\t0\t9000\t9000\t9000\nhalf of it")
        self.run_code(WRITE + "put('a/x', b'NEW', False)")
        self.assertEqual(self.cut(), (1, 0))
        self.assertEqual(self.file("a/x"), b"old")
        log.write_bytes(b"\1IW\tcreate\t1\t/no")
        self.assertEqual(self.cut(), (0, 0))

    def test_sectors_tear(self):
        self.run_code(WRITE + "put('a/x', b'o' * 8192, True); sync('a')")
        torn = 0
        for seed in range(12):
            self.run_code(WRITE + "put('a/x', b'n' * 8192, False)")
            self.cut("some", seed)
            sectors = {self.file("a/x")[i:i + 512] for i in range(0, 8192, 512)}
            self.assertLessEqual(sectors, {b"o" * 512, b"n" * 512})
            torn += len(sectors) == 2
            self.run_code(WRITE + "put('a/x', b'o' * 8192, True)")
            self.cut()
        self.assertGreater(torn, 0)

    def test_survives_kill(self):
        process = subprocess.Popen(self.command(WRITE + "put('a/x', b'1', False); print('go', flush=True); time.sleep(60)"),
                                   env=self.environment, stdout=subprocess.PIPE)
        self.assertEqual(process.stdout.readline(), b"go\n")
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        self.assertEqual(self.file("a/x"), b"1")
        self.cut()
        self.assertIsNone(self.file("a/x"))

    def test_sqlite_keeps_what_it_committed_and_only_with_syncs(self):
        self.assertEqual(self.lost_by_sqlite("FULL"), 0)
        self.assertGreater(self.lost_by_sqlite("OFF"), 0)

    def lost_by_sqlite(self, synchronous):
        """How many of eight power cuts cost a committed row, or the whole database."""
        shutil.rmtree(self.disk / "a")
        (self.disk / "a").mkdir()
        setup = f"""
db = sqlite3.connect('a/d.db', isolation_level=None)
db.execute('PRAGMA locking_mode=EXCLUSIVE'); db.execute('PRAGMA journal_mode=WAL')
db.execute('PRAGMA synchronous={synchronous}')
"""
        self.run_code(WRITE + setup + "db.execute('CREATE TABLE t (n INTEGER PRIMARY KEY, x TEXT)'); db.close(); sync('a')")
        loop = setup + """
first = db.execute('SELECT coalesce(max(n), 0) FROM t').fetchone()[0]
for n in range(first + 1, 100000):
    db.execute('INSERT INTO t VALUES (?, ?)', (n, 'x' * (n % 3000)))
    if n % 40 == 0: db.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    print(n, flush=True)
    if n == first + 55: os.kill(os.getpid(), 9)
"""
        lost = 0
        for seed in range(8):
            done = subprocess.run(self.command(loop), env=self.environment, capture_output=True, text=True, check=False)
            self.cut("some" if seed % 2 else "all", seed)
            try:
                with contextlib.closing(sqlite3.connect(self.disk / "a/d.db")) as db:
                    there = db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
                    lost += not there or db.execute("SELECT max(n) FROM t").fetchone()[0] < int(done.stdout.split()[-1])
            except (sqlite3.DatabaseError, TypeError):
                return lost + 1
        return lost


class Switches(ShimCase):
    def test_third_sync_fails_and_forgets(self):
        (self.switches / "all.sync-error").write_text("1")  # another program's name: nothing
        name = pathlib.Path(sys.executable).name
        (self.switches / f"{name}.sync-error").write_text("3")
        said = self.run_code(WRITE + """
for n in range(4):
    try: put('a/%d' % n, b'x', True); print('ok')
    except OSError as error: print(error.errno)
sync('a')
""")
        self.assertEqual(said.split(), ["ok", "ok", "5", "ok"])
        self.cut()
        self.assertEqual([self.file(f"a/{n}") for n in range(4)], [b"x", b"x", b"", b"x"])

    def test_stall(self):
        name = pathlib.Path(sys.executable).name
        (self.switches / f"{name}.sync-stall").write_text("0.3")
        said = self.run_code(WRITE + "before = time.monotonic(); put('a/x', b'x', True); print(time.monotonic() - before >= 0.3)")
        self.assertEqual(said.strip(), "True")

    def test_wall_clock_jumps_alone(self):
        clock = self.switches / "all.clock"
        clock.write_bytes(struct.pack("<q", -3600_500))
        code = """
import struct
def ahead(): return round(time.time() - float(sys.stdin.readline()))
print(round(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)), round(time.monotonic()), flush=True)
with open(sys.argv[1] + '/../switches/all.clock', 'r+b') as f: f.write(struct.pack('<q', 86400000))
print(round(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)), round(time.monotonic()), flush=True)
"""
        offset = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        before, mono, after, mono_after = map(int, self.run_code(code).split())
        self.assertAlmostEqual(before, offset - 3600.5, delta=2)
        self.assertAlmostEqual(after, offset + 86400, delta=2)
        self.assertAlmostEqual(mono, mono_after, delta=5)

    def test_another_boot(self):
        (self.switches / "all.boot-id").write_text("other\n")
        read = "fd = os.open('/proc/sys/kernel/random/boot_id', os.O_RDONLY); print(os.read(fd, 64).decode().strip())"
        self.assertEqual(self.run_code(read).strip(), "other")


if __name__ == "__main__":
    unittest.main(verbosity=2)
