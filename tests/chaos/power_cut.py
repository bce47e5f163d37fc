#!/usr/bin/env python3
"""What a disk forgets at a power cut: undoes the changes that no sync had made durable.

usage: power_cut.py LOG_FOLDER SAVED_FOLDER [--seed N] [--forget all|some]

The log is that of tests/support/faults/undo_log.h; everybody who wrote it must be dead. Model of the disk:
- Data: a sync of a file makes all earlier writes to it durable. Of later ones any sector of 512 bytes may have
  reached the disk or not, in any order, and so may the new size.
- Names: a sync of a folder makes all earlier changes of names in it durable. Later ones reach the disk in the order
  in which they were made (a journal of metadata), up to a random one. A rename belongs to its target's folder.
`all` forgets everything that may be forgotten, `some` a random part.
"""

import argparse
import dataclasses
import os
import pathlib
import random
import shutil
import sys

SECTOR = 512
MARK = b"\1IW\t"
HEAD_MAX = 16384
DATA = ("write", "resize")


@dataclasses.dataclass
class Record:
    place: int
    kind: str
    fields: list
    data: bytes

    @property
    def inode(self):
        """Of the file whose sync makes this durable: a folder for names."""
        return int(self.fields[0])


def read_log(path):
    """All records. One that kill -9 cut short is passed over: its change had not been made yet."""
    text = path.read_bytes() if path.exists() else b""
    records, place = [], 0
    while (place := text.find(MARK, place)) >= 0:
        start = place + len(MARK)
        head, newline, _ = text[start:start + HEAD_MAX].partition(b"\n")
        following = text.find(MARK, start)
        size = head.rpartition(b"\t")[2]
        if newline and size.isdigit():
            data_at = start + len(head) + 1
            end = data_at + int(size)
            if end == len(text) or text.startswith(MARK, end):
                kind, *fields = head.decode().split("\t")[:-1]
                records.append(Record(place, kind, fields, text[data_at:end]))
                following = end
        if following < 0:
            break
        place = following
    return records


def not_durable(records):
    """The changes that no sync reached, in order."""
    synced = {}
    for record in records:
        if record.kind == "sync":
            synced[record.inode] = max(synced.get(record.inode, 0), int(record.fields[1]))
    return [r for r in records if r.kind != "sync" and r.place >= synced.get(r.inode, 0)]


class Disk:
    """One power cut. `keep`: chance that a sector or size of the latest state has reached the disk."""

    def __init__(self, folder, rng, keep):
        self.folder = folder
        self.rng = rng
        self.keep = keep
        self.kept_sectors = set()
        self.kept_sizes = set()

    def undo_write(self, record):
        inode, offset, size, old_size = map(int, record.fields)
        path = self.folder / str(inode)
        if not path.exists():
            return
        old = record.data.ljust(size, b"\0")
        with open(path, "r+b") as file:
            end_now = os.fstat(file.fileno()).st_size
            for start in range(offset - offset % SECTOR, offset + size, SECTOR):
                if self.stays(self.kept_sectors, (inode, start)):
                    continue
                first, last = max(start, offset), min(start + SECTOR, offset + size, end_now)
                if first < last:
                    file.seek(first)
                    file.write(old[first - offset:last - offset])
            file.flush()
            if end_now > old_size and offset + size > old_size and not self.stays(self.kept_sizes, inode):
                os.ftruncate(file.fileno(), old_size)

    def undo_resize(self, record):
        inode, new_size, old_size = map(int, record.fields)
        path = self.folder / str(inode)
        if not path.exists() or self.stays(self.kept_sizes, inode):
            return
        with open(path, "r+b") as file:
            os.ftruncate(file.fileno(), old_size)
            if record.data:
                file.seek(new_size)
                file.write(record.data)

    def stays(self, kept, what):
        """Once the newest version of it has reached the disk, older ones are not brought back."""
        if what in kept:
            return True
        if self.rng.random() < self.keep:
            kept.add(what)
            return True
        return False

    def saved(self, inode):
        return self.folder / str(inode)

    def undo_create(self, record):
        remove(pathlib.Path(record.fields[1]))

    def undo_mkdir(self, record):
        path = pathlib.Path(record.fields[1])
        if path.is_dir():
            shutil.rmtree(path)

    def undo_rmdir(self, record):
        path = pathlib.Path(record.fields[1])
        if path.parent.is_dir() and not path.exists():
            path.mkdir(mode=0o700)

    def undo_link(self, record):
        _, inode, path = record.fields
        if inode_of(path) == int(inode):
            remove(pathlib.Path(path))

    def undo_unlink(self, record):
        _, inode, path = record.fields
        bring_back(self.saved(inode), pathlib.Path(path))

    def undo_rename(self, record):
        _, inode, replaced, source, target = record.fields
        if inode_of(target) != int(inode) or os.path.lexists(source) or not os.path.isdir(os.path.dirname(source)):
            return
        os.rename(target, source)
        if replaced != "0":
            bring_back(self.saved(replaced), pathlib.Path(target))


def inode_of(path):
    try:
        return os.lstat(path).st_ino
    except OSError:
        return 0


def remove(path):
    if path.is_symlink() or path.is_file():
        path.unlink()


def bring_back(saved, path):
    if os.path.lexists(saved) and path.parent.is_dir() and not os.path.lexists(path):
        os.link(saved, path, follow_symlinks=False)


def power_cut(log, saved, seed, forget="some"):
    """Undoes, empties both folders; the number of forgotten changes (of data, of names)."""
    rng = random.Random(seed)
    keep = 0.0 if forget == "all" else rng.choice((0.0, 0.1, 0.5, 0.9))
    changes = not_durable(read_log(pathlib.Path(log) / "undo.log"))
    names = [r for r in changes if r.kind not in DATA]
    first_forgotten = 0 if keep == 0.0 else rng.randint(0, len(names))
    forgotten = {r.place for r in names[first_forgotten:]}
    disk = Disk(pathlib.Path(saved), rng, keep)
    data = 0
    for record in reversed(changes):
        if record.kind in DATA or record.place in forgotten:
            getattr(disk, "undo_" + record.kind)(record)
            data += record.kind in DATA
    for folder in (log, saved):
        for entry in pathlib.Path(folder).iterdir():
            entry.unlink()
    return data, len(forgotten)


def main():
    parser = argparse.ArgumentParser(description="forget what no sync has made durable")
    parser.add_argument("log", type=pathlib.Path)
    parser.add_argument("saved", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forget", choices=("all", "some"), default="some")
    options = parser.parse_args()
    for folder in (options.log, options.saved):
        if not folder.is_dir():
            sys.exit(f"power_cut.py: {folder} is no folder")
    data, names = power_cut(options.log, options.saved, options.seed, options.forget)
    print(f"forgot {data} writes, {names} names")


if __name__ == "__main__":
    main()
