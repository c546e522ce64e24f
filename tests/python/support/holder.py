"""Holds a file many times:

    holder.py WAY FILE PLAIN COUNT      WAY: open or map

prints "held", waits for a line, reads by some of what it holds and compares with PLAIN, prints
"right" or where it differs, and waits to be ended."""

import mmap
import os
import random
import sys


def main():
    way, path, plain, count = *sys.argv[1:4], int(sys.argv[4])
    with open(plain, "rb") as file:
        content = file.read()
    if way == "open":
        held = [os.open(path, os.O_RDONLY) for _ in range(count)]

        def read(fd, offset, length):
            return os.pread(fd, length, offset)
    else:
        # One descriptor for all of them would do, and would be no test.
        held = []
        for _ in range(count):
            with open(path, "rb") as file:
                held.append(mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ))

        def read(view, offset, length):
            return view[offset : offset + length]

    print("held", flush=True)
    sys.stdin.readline()
    draw = random.Random(os.getpid())
    for one in draw.sample(held, 300):
        offset, length = draw.randrange(len(content)), draw.randrange(1, 100_000)
        if read(one, offset, length) != content[offset : offset + length]:
            print("differs at", offset, flush=True)
            break
    else:
        print("right", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
