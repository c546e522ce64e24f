"""Random sequences of operations. A sequence is a function of its seed and of the plain
directory, and of nothing that happens: so any part of it can be run again."""

import mmap
import os
import random

from .model_operations import SLOTS
from .syscalls import Mapping

PAGE = mmap.PAGESIZE
LARGEST = 700_000
#: How often each is drawn.
WEIGHTS = {
    "lookup": 8, "access": 2, "readdir": 1, "getdents": 1, "xattrs": 3, "open_for_writing": 2,
    "open": 10, "open_below": 3, "dup": 1, "close": 2, "getattr": 5, "pread": 20, "read": 15,
    "readv": 5, "preadv": 5, "seek": 8, "sendfile": 6, "fadvise": 4, "map": 6, "touch": 25,
    "scribble": 3, "madvise": 5, "unmap": 1,
}  # fmt: skip
FLAGS = (
    0, 0, 0, 0, os.O_DIRECT, os.O_DIRECT, os.O_PATH, os.O_NOFOLLOW, os.O_DIRECTORY, os.O_NONBLOCK,
)  # fmt: skip
FOR_WRITING = (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_RDONLY | os.O_TRUNC)
WHENCE = (os.SEEK_SET, os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE)
FADVICE = range(6)  # all of them
# NORMAL, RANDOM, SEQUENTIAL, WILLNEED, DONTNEED (twice as often), COLD, PAGEOUT, POPULATE_READ
MADVICE = (0, 1, 2, 3, 4, 4, 20, 21, 22)


def catalogue(root):
    """[(path, size of a file or None)] of everything below."""
    found = [(".", None)]
    for directory, directories, files in os.walk(root):
        below = os.path.relpath(directory, root)
        found += [(os.path.join(below, name), None) for name in directories]
        for name in files:
            path = os.path.join(below, name)
            found.append((path, os.path.getsize(os.path.join(root, path))))
    return sorted(found)


class Sequence:
    """An endless iterator over operations, as Tree.apply takes them."""

    def __init__(self, seed, known):
        self.draw = random.Random(seed)
        self.all = known
        self.files = [entry for entry in known if entry[1]]
        self.directories = [entry for entry in known if entry[1] is None]
        self.large = sorted(self.files, key=lambda entry: -entry[1])[:5]
        self.sizes = [0] * SLOTS

    def __iter__(self):
        return self

    def __next__(self):
        name = self.draw.choices(list(WEIGHTS), WEIGHTS.values())[0]
        return (name, *getattr(self, "for_" + name, self.for_slot)())

    def slot(self):
        return self.draw.randrange(SLOTS)

    def file(self):
        return self.draw.choice(self.draw.choice((self.files, self.large)))

    def anything(self):
        """A path; one of ten leads nowhere, by any of the ways there are."""
        path, size = self.draw.choice(self.draw.choice((self.all, self.directories, self.large)))
        if self.draw.random() < 0.1:
            tails = ("", "x", "x" * 255, "x" * 256, "\udcff", "a/b", ".." if path != "." else "")
            path += "/" + self.draw.choice(tails)
        elif self.draw.random() < 0.1:
            path = "./" + path + ("/." if size is None else "")
        return path, size or 0

    def offset(self, size):
        """Anywhere, at an edge of pages or blocks, near the end, and behind it."""
        ways = (
            lambda: self.draw.randrange(size + 1),
            lambda: self.draw.randrange(size + 1) // PAGE * PAGE,
            lambda: max(0, (self.draw.randrange(size + 1) >> 18 << 18) - self.draw.randrange(9)),
            lambda: max(0, size - self.draw.randrange(5000)),
            lambda: size + self.draw.randrange(10_000),
        )
        return self.draw.choices(ways, (6, 3, 2, 2, 1))[0]()

    def length(self):
        return min(int(40 * self.draw.paretovariate(0.35)) - 40, LARGEST)

    def lengths(self):
        return [self.length() // 4 for _ in range(self.draw.randrange(1, 6))]

    def for_slot(self):
        return (self.slot(),)

    def for_lookup(self):
        return (self.anything()[0],)

    for_access = for_lookup

    def for_readdir(self):
        return (self.draw.choice((self.anything(), *self.directories))[0],)

    def for_getdents(self):
        size = self.draw.choice((280, 1000, 5000, 1 << 16))
        return *self.for_readdir(), size, self.draw.getrandbits(32)

    def for_xattrs(self):
        return self.anything()[0], self.draw.randrange(100)

    def for_open_for_writing(self):
        return self.anything()[0], self.draw.choice(FOR_WRITING)

    def for_open(self):
        slot = self.slot()
        path, self.sizes[slot] = self.anything() if self.draw.random() < 0.4 else self.file()
        return slot, path, self.draw.choice(FLAGS)

    def for_open_below(self):
        slot = self.slot()
        path, self.sizes[slot] = self.anything()
        return slot, path

    def for_dup(self):
        return self.slot(), self.slot()

    def for_pread(self):
        slot = self.slot()
        offset = -1 if self.draw.random() < 0.01 else self.offset(self.sizes[slot])
        return slot, offset, self.length()

    def for_read(self):
        return self.slot(), self.length()

    def for_readv(self):
        return self.slot(), self.lengths()

    def for_preadv(self):
        slot = self.slot()
        return slot, self.offset(self.sizes[slot]), self.lengths()

    def for_seek(self):
        slot, whence = self.slot(), self.draw.choice(WHENCE)
        offset = self.offset(self.sizes[slot])
        if whence in (os.SEEK_CUR, os.SEEK_END):
            offset = self.draw.randrange(-20_000, 10_000)
        return slot, offset, whence

    def for_sendfile(self):
        slot = self.slot()
        return slot, self.offset(self.sizes[slot]), self.draw.randrange(50_000)

    def for_fadvise(self):
        slot = self.slot()
        return slot, self.offset(self.sizes[slot]), self.length(), self.draw.choice(FADVICE)

    def for_map(self):
        """Up to the end of the last page, of which the tail is zeros."""
        path, size = self.file()
        pages = -(-size // PAGE)
        first = self.draw.choice((0, self.draw.randrange(pages)))
        length = self.draw.choice((pages - first, self.draw.randint(1, pages - first))) * PAGE
        flags = self.draw.choice((Mapping.PRIVATE, Mapping.SHARED))
        return self.slot(), path, flags, first * PAGE, length

    def for_touch(self):
        return self.slot(), self.draw.randrange(1 << 40), 1 + self.length() // 2

    def for_scribble(self):
        return self.slot(), self.draw.randrange(1 << 40), self.draw.randbytes(20)

    def for_madvise(self):
        return self.slot(), self.draw.choice(MADVICE)
