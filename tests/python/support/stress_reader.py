"""Reads a file in one of several ways until it is told to stop, and compares every byte:

    stress_reader.py FILE SAME NUMBER      the way follows from the number

On SIGTERM it prints how long the slowest access took, in seconds. Exit code 3: wrong bytes;
4: an error, as when the mount goes.
"""

import mmap
import os
import random
import signal
import sys
import time

PIECE = 64 << 10


def main():
    path, same, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    choose = random.Random(number)
    with open(same, "rb") as file:
        content = file.read()
    fd = os.open(path, os.O_RDONLY)
    view = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    stop, slowest = [], 0.0
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    print("reading", flush=True)
    at = 0
    while not stop:
        way = number % 4
        if way == 0 or way == 1 and choose.random() < 0.999:
            at = at + PIECE if at + PIECE < len(content) else 0
        else:
            at = choose.randrange(len(content) - PIECE)
        start = time.monotonic()
        read = os.pread(fd, PIECE, at) if way == 3 else view[at : at + PIECE]
        slowest = max(slowest, time.monotonic() - start)
        if read != content[at : at + len(read)] or not read:
            sys.exit(3)
        if way != 3 and choose.random() < 0.01:
            view.madvise(mmap.MADV_DONTNEED)
    print(slowest)


if __name__ == "__main__":
    try:
        main()
    except OSError:
        sys.exit(4)
