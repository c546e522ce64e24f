"""One reader of several: read random ranges of the files below MOUNT in every way there is, and
compare them with those below SOURCE.

    random_reader.py MOUNT SOURCE SEED SECONDS

Prints a line when it is ready, begins when it is given one, and prints what it did as JSON. Ends
with the first difference. Run as a process of its own."""

import json
import math
import mmap
import os
import random
import sys
import time
from pathlib import Path

LARGEST = 1 << 20
WAYS = ("pread", "mmap", "O_DIRECT")


class File:
    """One file in both places, open for every way of reading."""

    def __init__(self, path, source):
        self.name, self.size = source.name, source.stat().st_size
        self.plain = os.open(source, os.O_RDONLY)
        self.fd = os.open(path, os.O_RDONLY)
        self.direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
        # A file of its own: the kernel keeps account of what is read through each.
        with open(path, "rb", buffering=0) as file:
            self.view = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)

    def read(self, way, offset, length):
        """The bytes, and the seconds of the slowest request: a call, or the touch of a page."""
        if way != "mmap":
            start = time.monotonic()
            got = os.pread(self.direct if way == "O_DIRECT" else self.fd, length, offset)
            return got, time.monotonic() - start
        parts, slowest, end = [], 0.0, offset + length
        while offset < end:
            stop = min((offset // mmap.PAGESIZE + 1) * mmap.PAGESIZE, end)
            start = time.monotonic()
            parts.append(self.view[offset:stop])
            slowest = max(slowest, time.monotonic() - start)
            offset = stop
        return b"".join(parts), slowest

    def forget(self, offset, length):
        """Or soon nothing would reach the file system any more."""
        # Pages that somebody maps stay in memory.
        start = offset // mmap.PAGESIZE * mmap.PAGESIZE
        self.view.madvise(mmap.MADV_DONTNEED, start, offset + length - start)
        os.posix_fadvise(self.fd, start, offset + length - start, os.POSIX_FADV_DONTNEED)


def open_all(mount, source):
    paths = sorted(p.relative_to(source) for p in source.rglob("*") if p.is_file())
    return [File(mount / p, source / p) for p in paths if (source / p).stat().st_size > 0]


def soak(files, seed, seconds):
    draw = random.Random(seed)
    weights = [f.size for f in files]
    slowest = dict.fromkeys(WAYS, 0.0)
    counts = dict.fromkeys(WAYS, 0)
    total = late = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        # Mostly by size; now and then any, or a small file would never be read.
        file = draw.choices(files, weights)[0] if draw.random() < 0.95 else draw.choice(files)
        offset = draw.randrange(file.size)
        # As many short ranges as long ones.
        length = min(int(math.exp(draw.uniform(0, math.log(LARGEST)))), file.size - offset)
        way = draw.choice(WAYS)
        file.forget(offset, length)
        got, took = file.read(way, offset, length)
        if got != os.pread(file.plain, length, offset):
            wrong = f"{way}: {length} bytes of {file.name} at {offset} differ"
            return dict(requests=counts, bytes=total, slowest=slowest, late=late, wrong=wrong)
        slowest[way] = max(slowest[way], took)
        counts[way] += 1
        late += took > 1
        total += length
    return dict(requests=counts, bytes=total, slowest=slowest, late=late, wrong=None)


if __name__ == "__main__":
    found = open_all(Path(sys.argv[1]), Path(sys.argv[2]))
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(soak(found, int(sys.argv[3]), float(sys.argv[4]))))
