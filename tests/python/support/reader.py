"""One reader of several: read random ranges of FILE and compare them with PLAIN.

    reader.py FILE PLAIN SEED COUNT

Exits with 1 at the first difference. Run as a process of its own.
"""

import mmap
import os
import random
import sys


def check(path, plain, seed, count):
    """Mixes pread, O_DIRECT and mapped reads."""
    draw = random.Random(seed)
    size = os.path.getsize(plain)
    assert os.path.getsize(path) == size
    with open(plain, "rb") as p, open(path, "rb", buffering=0) as f:
        direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
        with mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
            for _ in range(count):
                offset, length = draw.randrange(size), draw.randrange(1, 400_000)
                way = draw.randrange(3)
                if way == 0:
                    os.posix_fadvise(f.fileno(), offset, length, os.POSIX_FADV_DONTNEED)
                    got = os.pread(f.fileno(), length, offset)
                elif way == 1:
                    got = os.pread(direct, length, offset)
                else:
                    got = view[offset : offset + length]
                if got != os.pread(p.fileno(), length, offset):
                    return f"way {way}: {length} bytes at {offset} differ"
        os.close(direct)
    return None


if __name__ == "__main__":
    complaint = check(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    sys.exit(complaint or 0)
