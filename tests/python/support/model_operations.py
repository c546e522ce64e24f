"""What a sequence of operations does on one of two trees that must not differ: a mount, and a
plain directory with the same content. Every operation returns what a program would see.

Where docs/semantics.md says that a mount differs, the plain side plays the mount's part."""

import errno
import fcntl
import os
import random
import stat

from .syscalls import Mapping, call, getdents

SLOTS = 8
NOTHING = "nothing there"
PROTECTIONS = {Mapping.PRIVATE: 3, Mapping.SHARED: 1}


class Tree:
    """One side, and what one thread has opened and mapped in it."""

    def __init__(self, root, mounted):
        self.root = os.fsencode(root)
        self.mounted = mounted
        self.fds = [None] * SLOTS
        self.views = [None] * SLOTS
        self.pipe = os.pipe()

    def apply(self, operation):
        """What came of it, or the name of the errno."""
        name, *arguments = operation
        try:
            return getattr(self, name)(*arguments)
        except OSError as failure:
            return errno.errorcode[failure.errno]

    def path(self, path):
        return os.path.join(self.root, os.fsencode(path))

    # Names.

    def lookup(self, path):
        return seen(os.lstat(self.path(path)))

    def access(self, path):
        call("access", self.path(path), os.R_OK)
        return "readable"

    def readdir(self, path):
        with os.scandir(self.path(path)) as entries:
            return sorted((e.name, e.is_dir(), e.is_file()) for e in entries)

    def getdents(self, path, size, seed):
        """In pieces, going back within each: every entry is found once, with its inode."""
        choose, found = random.Random(seed), []
        fd = os.open(self.path(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            while part := getdents(fd, size):
                part = part[: choose.randint(1, len(part))]
                os.lseek(fd, part[-1][1], os.SEEK_SET)
                found += part
            for inode, _, _, name in choose.sample(found, min(3, len(found))):
                assert name == b".." or os.lstat(name, dir_fd=fd).st_ino == inode, name
        finally:
            os.close(fd)
        return sorted((name, kind) for _, _, kind, name in found)

    def xattrs(self, path, choice):
        path = self.path(path)
        if not self.mounted:
            os.lstat(path)
            return "as documented"
        names = os.listxattr(path)
        name = names[choice % len(names)]
        assert os.getxattr(path, name) or name == "user.upg.codec", name
        for attempt, expected in (
            (lambda: call("getxattr", path, b"user.absent", None, 0), errno.ENODATA),
            (lambda: call("getxattr", path, b"user.upg.stats", bytes(3), 3), errno.ERANGE),
            (lambda: call("listxattr", path, bytes(3), 3), errno.ERANGE),
            (lambda: os.setxattr(path, "user.absent", b"x"), errno.EROFS),
        ):
            try:
                attempt()
                assert False, "no error"
            except OSError as failure:
                assert failure.errno == expected, failure
        return "as documented"

    def open_for_writing(self, path, flags):
        if self.mounted:
            os.close(os.open(self.path(path), flags))
            return "writable"
        directory = stat.S_ISDIR(os.lstat(self.path(path)).st_mode)
        return "EISDIR" if directory else "EROFS"

    # Descriptors.

    def open(self, slot, path, flags):
        fd = os.open(self.path(path), flags)
        if flags & os.O_DIRECT and not self.mounted:
            # A mount takes any offset and length.
            fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        self.close(slot)
        self.fds[slot] = fd
        return "open"

    def open_below(self, slot, path):
        """Relative to a descriptor of the directory."""
        directory, name = os.path.split(self.path(path))
        above = os.open(directory, os.O_PATH)
        try:
            fd = os.open(name, os.O_RDONLY, dir_fd=above)
        finally:
            os.close(above)
        self.close(slot)
        self.fds[slot] = fd
        return "open"

    def dup(self, slot, other):
        if self.fds[other] is None or slot == other:
            return NOTHING
        self.close(slot)
        self.fds[slot] = os.dup(self.fds[other])
        return "open"

    def close(self, slot):
        if self.fds[slot] is not None:
            fd, self.fds[slot] = self.fds[slot], None
            os.close(fd)
        return "closed"

    def getattr(self, slot):
        return NOTHING if self.fds[slot] is None else seen(os.fstat(self.fds[slot]))

    def pread(self, slot, offset, length):
        return NOTHING if self.fds[slot] is None else os.pread(self.fds[slot], length, offset)

    def read(self, slot, length):
        return NOTHING if self.fds[slot] is None else os.read(self.fds[slot], length)

    def readv(self, slot, lengths):
        return self.into_buffers(slot, lengths, os.readv)

    def preadv(self, slot, offset, lengths):
        return self.into_buffers(slot, lengths, lambda *to: os.preadv(*to, offset))

    def into_buffers(self, slot, lengths, read):
        if self.fds[slot] is None:
            return NOTHING
        buffers = [bytearray(length) for length in lengths]
        return read(self.fds[slot], buffers), b"".join(buffers)

    def seek(self, slot, offset, whence):
        if self.fds[slot] is None or stat.S_ISDIR(os.fstat(self.fds[slot]).st_mode):
            return NOTHING  # where a directory ends is every file system's own affair
        return os.lseek(self.fds[slot], offset, whence)

    def sendfile(self, slot, offset, length):
        """And splice, by which it goes; at most what a pipe holds."""
        if self.fds[slot] is None:
            return NOTHING
        sent = os.sendfile(self.pipe[1], self.fds[slot], offset, length)
        return sent, os.read(self.pipe[0], sent) if sent else b""

    def fadvise(self, slot, offset, length, advice):
        if self.fds[slot] is None:
            return NOTHING
        return os.posix_fadvise(self.fds[slot], offset, length, advice)

    # Mappings.

    def map(self, slot, path, flags, offset, length):
        self.unmap(slot)
        fd = os.open(self.path(path), os.O_RDONLY)
        try:
            self.views[slot] = Mapping(fd, length, PROTECTIONS[flags], flags, offset)
        finally:
            os.close(fd)
        return "mapped"

    def touch(self, slot, offset, length):
        view = self.views[slot]
        if view is None:
            return NOTHING
        offset %= view.length
        return view.read(offset, min(length, view.length - offset))

    def scribble(self, slot, offset, data):
        """Into a private mapping, which must keep it to itself."""
        view = self.views[slot]
        if view is None or not view.writable:
            return NOTHING
        view.write(offset % (view.length - len(data) + 1), data)
        return "written"

    def madvise(self, slot, advice):
        return NOTHING if self.views[slot] is None else self.views[slot].call("madvise", advice)

    def unmap(self, slot):
        if self.views[slot] is not None:
            view, self.views[slot] = self.views[slot], None
            view.__exit__()
        return "unmapped"


def seen(status):
    """What must be alike of two files; modes, times and blocks are not."""
    kind = stat.S_IFMT(status.st_mode)
    return kind, status.st_size if stat.S_ISREG(kind) else None
