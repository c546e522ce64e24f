"""A disk that fails when told to: a FUSE file system with one file, "image", whose READs may go
wrong. Run as root:

    faulty_disk.py MOUNTPOINT BACKING

prints "ready", then takes one line after the other from its standard input, and answers "done":

    eio START END     READs that touch these bytes of the file give EIO
    short MOST        READs give so many bytes at most
    interrupt         every READ gives EINTR before it gives bytes
    well              nothing goes wrong any more

What is read is not cached by the kernel, so each read(2) of a user's comes here.
"""

import errno
import os
import selectors
import struct
import sys

from fuse_protocol import (
    BATCH_FORGET, DIRECT_IO, FORGET, GETATTR, INIT, LOOKUP, OPEN, READ, RELEASE, answer, mount, reply, request,
)  # fmt: skip


class Disk:
    def __init__(self, backing):
        self.backing = os.open(backing, os.O_RDONLY)
        self.size = os.fstat(self.backing).st_size
        self.bad, self.most, self.interrupts, self.interrupted = (0, 0), None, False, False

    def told(self, line):
        command, *numbers = line.split()
        self.bad, self.most, self.interrupts = (0, 0), None, command == "interrupt"
        if command == "eio":
            self.bad = tuple(map(int, numbers))
        elif command == "short":
            self.most = int(numbers[0])

    def read(self, offset, length):
        if self.interrupts and not self.interrupted:
            self.interrupted = True
            return -errno.EINTR, b""
        self.interrupted = False
        end = min(offset + length, self.size)
        if offset < self.bad[1] and self.bad[0] < end:
            return -errno.EIO, b""
        return 0, os.pread(self.backing, min(length, self.most or length), offset)

    def answer(self, opcode, node, body):
        if opcode == LOOKUP and body.rstrip(b"\0") != b"image":
            return -errno.ENOENT, b""
        if opcode == READ:
            _, offset, length = struct.unpack_from("<2QI", body)
            return self.read(offset, length)
        if opcode in (INIT, LOOKUP, GETATTR, OPEN, RELEASE):
            return 0, answer(opcode, node, self.size, DIRECT_IO)
        return -errno.ENOSYS, b""


def main():
    point, backing = sys.argv[1:]
    disk, fuse = Disk(backing), mount(point)
    print("ready", flush=True)
    with selectors.DefaultSelector() as waiting:
        waiting.register(fuse, selectors.EVENT_READ)
        waiting.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.fileobj is sys.stdin:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    disk.told(line)
                    print("done", flush=True)
                    continue
                opcode, unique, node, asked = request(fuse)
                if opcode not in (FORGET, BATCH_FORGET):
                    error, body = disk.answer(opcode, node, asked)
                    reply(fuse, unique, body, error)


if __name__ == "__main__":
    main()
