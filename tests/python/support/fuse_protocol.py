"""What daemons of the tests' own say to the kernel: its own protocol (linux/fuse.h), of a file system with
one file."""

import ctypes
import os
import struct

LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, INIT, BATCH_FORGET = 1, 2, 3, 14, 15, 18, 26, 42
ROOT, FILE = 1, 2
HEADER = 40  # bytes before what a request is about
DIRECT_IO = 1


def mount(point):
    fd = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    data = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    read_only = 1
    if libc.mount(b"stuck", os.fsencode(point), b"fuse", read_only, data):
        raise OSError(ctypes.get_errno(), "mount")
    return fd


def attributes(ino, size):
    mode, size = (0o040555, 0) if ino == ROOT else (0o100444, size)
    return struct.pack("<6Q10I", ino, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(opcode, node, size, open_flags=0):
    """What every such daemon answers: it has one file of this size."""
    if opcode == INIT:
        return struct.pack("<4I2H2I2HI28x", 7, 31, 1 << 17, 0, 16, 12, 1 << 17, 1, 32, 0, 0)
    if opcode == LOOKUP:
        return struct.pack("<4Q2I", FILE, 0, 3600, 3600, 0, 0) + attributes(FILE, size)
    if opcode == GETATTR:
        return struct.pack("<Q2I", 3600, 0, 0) + attributes(node, size)
    if opcode == OPEN:
        return struct.pack("<Q2I", 0, open_flags, 0)
    return b""


def request(fd):
    """(opcode, unique, node, body) of the next one."""
    data = os.read(fd, 1 << 20)
    _, opcode, unique, node = struct.unpack_from("<2I2Q", data)
    return opcode, unique, node, data[HEADER:]


def reply(fd, unique, body, error=0):
    os.write(fd, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
