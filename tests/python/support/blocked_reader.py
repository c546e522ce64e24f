"""One who waits in the kernel for a mount:

    blocked_reader.py WAY POINT FILE OFFSET

prints "asking" when it is about to ask, waits for a line, asks, and prints "answered", or the name
of the error. A mapped reader may be ended by SIGBUS instead.
"""

import errno
import mmap
import os
import sys


def mapped(point, file, offset):
    fd = os.open(file, os.O_RDONLY)
    view = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
    return lambda: view[offset]


def reading(flags):
    def prepared(point, file, offset):
        fd = os.open(file, os.O_RDONLY | flags)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        view = mmap.mmap(-1, mmap.PAGESIZE)
        return lambda: os.preadv(fd, [view], offset)

    return prepared


WAYS = {
    "mapped": mapped,
    "pread": reading(0),
    "direct": reading(os.O_DIRECT),
    "open": lambda point, file, offset: lambda: os.open(file, os.O_RDONLY),
    "lookup": lambda point, file, offset: lambda: os.stat(f"{point}/absent-{offset}"),
    "readdir": lambda point, file, offset: lambda: os.listdir(f"{point}/extra"),
    "statfs": lambda point, file, offset: lambda: os.statvfs(point),
    "getxattr": lambda point, file, offset: lambda: os.getxattr(point, "user.upg.stats"),
}


def main():
    way, point, file, offset = sys.argv[1:]
    ask = WAYS[way](point, file, int(offset))
    print("asking", flush=True)
    sys.stdin.readline()
    try:
        ask()
        print("answered")
    except OSError as error:
        print(errno.errorcode[error.errno])


if __name__ == "__main__":
    main()
