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

from stuck_daemon import BATCH_FORGET, FILE, FORGET, GETATTR, INIT, LOOKUP, OPEN, READ, ROOT, mount

DIRECT_IO = 1
RELEASE = 18


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

    def attributes(self, ino):
        mode = 0o040555 if ino == ROOT else 0o100444
        size = 0 if ino == ROOT else self.size
        times_and_owner = (0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
        return struct.pack("<6Q10I", ino, size, size // 512, *times_and_owner)

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
        if opcode == INIT:
            most = 1 << 17
            fields = (7, 31, most, 0, 16, 12, most, 1, 32, 0, 0)
            return 0, struct.pack("<4I2H2I2HI28x", *fields)
        if opcode == LOOKUP:
            if body.rstrip(b"\0") != b"image":
                return -errno.ENOENT, b""
            return 0, struct.pack("<4Q2I", FILE, 0, 3600, 3600, 0, 0) + self.attributes(FILE)
        if opcode == GETATTR:
            return 0, struct.pack("<Q2I", 3600, 0, 0) + self.attributes(node)
        if opcode == OPEN:
            return 0, struct.pack("<Q2I", 0, DIRECT_IO, 0)
        if opcode == READ:
            _, offset, length = struct.unpack_from("<2QI", body)
            return self.read(offset, length)
        return (0 if opcode == RELEASE else -errno.ENOSYS), b""


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
                request = os.read(fuse, 1 << 20)
                _, opcode, unique, node = struct.unpack_from("<2I2Q", request)
                if opcode not in (FORGET, BATCH_FORGET):
                    error, body = disk.answer(opcode, node, request[40:])
                    os.write(fuse, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


if __name__ == "__main__":
    main()
