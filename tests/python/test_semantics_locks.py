"""Locks, leases and notifications, as docs/semantics.md says. All of them are the kernel's own:
the daemon never hears of one."""

import fcntl
import os
import select
import struct
import subprocess
import sys

import pytest

from support.mounting import mounted
from support.syscalls import call, opened, outcome

SHARD = "model-00001-of-00004.safetensors"
F_OFD_GETLK, F_OFD_SETLK = 36, 37
LAYOUT = "hhqqi4x"  # struct flock of 64-bit Linux


@pytest.fixture
def two(tiny_root):
    """Two descriptors of the same file, opened one after the other."""
    with opened(tiny_root / SHARD) as first, opened(tiny_root / SHARD) as second:
        yield first, second


def test_flock(two):
    first, second = two
    fcntl.flock(first, fcntl.LOCK_SH | fcntl.LOCK_NB)
    fcntl.flock(second, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert outcome(fcntl.flock, second, fcntl.LOCK_EX | fcntl.LOCK_NB) == "EAGAIN"
    fcntl.flock(first, fcntl.LOCK_UN)
    fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert outcome(fcntl.flock, first, fcntl.LOCK_SH | fcntl.LOCK_NB) == "EAGAIN"


def test_flock_of_another_process(tiny_root, two):
    fcntl.flock(two[0], fcntl.LOCK_EX)
    command = ["flock", "--nonblock", "--conflict-exit-code", "9", tiny_root / SHARD, "true"]
    assert subprocess.run(command, check=False).returncode == 9
    fcntl.flock(two[0], fcntl.LOCK_UN)
    assert subprocess.run(command, check=False).returncode == 0


def test_posix_locks(tiny_root, two):
    """Shared ones hold; exclusive ones need a descriptor for writing, which nobody gets."""
    fcntl.lockf(two[0], fcntl.LOCK_SH | fcntl.LOCK_NB, 100, 0)
    assert outcome(fcntl.lockf, two[0], fcntl.LOCK_EX | fcntl.LOCK_NB) == "EBADF"
    program = """
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 50, 0)
kind, _, start, length, owner = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, asked))
print(kind == fcntl.F_RDLCK, start, length, owner == os.getppid())
"""
    command = [sys.executable, "-c", program, tiny_root / SHARD]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert found.split() == ["True", "0", "100", "True"]


def test_ofd_locks(two):
    first, second = two
    read = struct.pack(LAYOUT, fcntl.F_RDLCK, 0, 0, 100, 0)
    write = struct.pack(LAYOUT, fcntl.F_WRLCK, 0, 0, 100, 0)
    fcntl.fcntl(first, F_OFD_SETLK, read)
    fcntl.fcntl(second, F_OFD_SETLK, read)
    assert outcome(fcntl.fcntl, first, F_OFD_SETLK, write) == "EBADF"
    kind, _, start, length, owner = struct.unpack(LAYOUT, fcntl.fcntl(second, F_OFD_GETLK, write))
    assert (kind, start, length, owner) == (fcntl.F_RDLCK, 0, 100, -1)


def lease(kind):
    def attempt(fd):
        fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
        held = fcntl.fcntl(fd, fcntl.F_GETLEASE)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        assert held == kind

    return attempt


LEASES = {
    "F_RDLCK": (lease(fcntl.F_RDLCK), "ok"),
    "F_WRLCK of what another has open": (lease(fcntl.F_WRLCK), "EAGAIN"),
}


@pytest.mark.parametrize(("attempt", "expected"), LEASES.values(), ids=LEASES)
def test_leases(two, attempt, expected):
    assert outcome(attempt, two[0]) == expected


IN_ACCESS, IN_OPEN, IN_CLOSE_NOWRITE, IN_UNMOUNT, IN_IGNORED = 1, 0x20, 0x10, 0x2000, 0x8000


def events(watch):
    found = os.read(watch, 4096)
    masks, at = [], 0
    while at < len(found):
        _, mask, _, length = struct.unpack_from("iIII", found, at)
        masks.append(mask)
        at += 16 + length
    return masks


def test_inotify(tiny_lossless, tmp_path):
    """Readers are told of, and unmounting is."""
    watch = call("inotify_init1", os.O_NONBLOCK)
    try:
        with mounted(tiny_lossless.path, tmp_path / "m") as root:
            call("inotify_add_watch", watch, os.fsencode(root / SHARD), 0xFFF)
            with opened(root / SHARD) as fd:
                os.pread(fd, 10, 0)
            assert events(watch) == [IN_OPEN, IN_ACCESS, IN_CLOSE_NOWRITE]
        assert events(watch) == [IN_UNMOUNT, IN_IGNORED]
    finally:
        os.close(watch)


def test_poll_says_readable(two):
    """And epoll takes it, other than files of a disk."""
    poll = select.poll()
    poll.register(two[0], select.POLLIN | select.POLLOUT)
    assert poll.poll(0) == [(two[0], select.POLLIN | select.POLLOUT)]
    with select.epoll() as epoll:
        epoll.register(two[0], select.EPOLLIN)
        assert epoll.poll(0) == [(two[0], select.EPOLLIN)]
