"""System calls that Python lacks, and what became of an attempt."""

import ctypes
import errno
import mmap
import os
import struct
from contextlib import contextmanager

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
GETDENTS64 = {"x86_64": 217}.get(os.uname().machine, 61)


def call(name, *arguments, result=ctypes.c_int):
    """A function of libc; OSError if it returns -1. Numbers are passed as longs."""
    function = getattr(LIBC, name)
    function.restype = result
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    value = function(*given)
    if ctypes.c_long(-1 if value is None else value).value == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return value


def outcome(attempt, *arguments):
    """The name of the errno, or what the attempt returned: "ok" for nothing and for 0."""
    try:
        value = attempt(*arguments)
    except OSError as failure:
        # Python has one name for both; manual pages have the other.
        name = errno.errorcode[failure.errno]
        return "EOPNOTSUPP" if name == "ENOTSUP" else name
    return str(value) if value else "ok"


@contextmanager
def opened(path, flags=os.O_RDONLY, **more):
    fd = os.open(path, flags, **more)
    try:
        yield fd
    finally:
        os.close(fd)


class Mapping:
    """mmap(2) as it is: of more than the file holds, with any flags, and an address to hand on."""

    PRIVATE, SHARED, VALIDATE, SYNC, POPULATE = 2, 1, 3, 0x80000, 0x8000

    def __init__(self, fd, length, protection, flags, offset=0):
        self.length = length
        self.writable = bool(protection & 2)
        given = (None, ctypes.c_size_t(length), protection, flags, fd, offset)
        self.address = call("mmap", *given, result=ctypes.c_void_p)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        call("munmap", ctypes.c_void_p(self.address), self.length)

    def read(self, offset, length):
        # By libc, which is called without Python's lock: so threads fault at once.
        buffer = ctypes.create_string_buffer(length)
        LIBC.memcpy(buffer, ctypes.c_void_p(self.address + offset), ctypes.c_size_t(length))
        return buffer.raw

    def write(self, offset, data):
        ctypes.memmove(self.address + offset, data, len(data))

    def call(self, name, *more, start=0, length=None):
        """mprotect, madvise, msync, mlock, mincore: of all of it, unless told otherwise."""
        length = self.length if length is None else length
        return call(name, ctypes.c_void_p(self.address + start), length, *more)

    def resident(self):
        pages = ctypes.create_string_buffer(-(-self.length // mmap.PAGESIZE))
        self.call("mincore", pages)
        return [byte & 1 for byte in pages.raw]


def getdents(fd, size):
    """[(inode, offset of the next, type, name)] of one getdents64; empty at the end."""
    buffer = ctypes.create_string_buffer(size)
    count = call("syscall", GETDENTS64, fd, buffer, size, result=ctypes.c_long)
    found, at = [], 0
    while at < count:
        inode, following, length, kind = struct.unpack_from("<QqHB", buffer, at)
        name = buffer.raw[at + 19 : at + length].split(b"\0")[0]
        found.append((inode, following, kind, name))
        at += length
    return found


def file_handle(path):
    """(bytes for open_by_handle_at, type) by name_to_handle_at."""
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128), 136)
    mount = ctypes.c_int()
    call("name_to_handle_at", AT_FDCWD, os.fsencode(path), handle, ctypes.byref(mount), 0)
    return handle, struct.unpack_from("Ii", handle)[1]
