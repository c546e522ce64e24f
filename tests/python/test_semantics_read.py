"""Calls that read or move bytes, and where they end, as docs/semantics.md says."""

import ctypes
import os

import pytest

from support.mounting import drop_page_cache, stats, wait_until
from support.residence import share
from support.syscalls import call, opened, outcome

SHARD = "model-00002-of-00004.safetensors"
RWF_HIPRI, RWF_DSYNC, RWF_NOWAIT, RWF_DONTCACHE = 1, 2, 8, 0x80


@pytest.fixture(scope="module")
def content(tiny):
    return (tiny / SHARD).read_bytes()


@pytest.fixture
def fd(tiny_root):
    with opened(tiny_root / SHARD) as fd:
        yield fd


def preadv2(flags):
    return lambda fd: os.preadv(fd, [bytearray(4096)], 4096, flags)


def at_end(offset, length=100, flags=0):
    """A read so many bytes before the end."""

    def attempt(fd):
        with opened(f"/proc/self/fd/{fd}", os.O_RDONLY | flags) as again:
            return f"{len(os.pread(again, length, os.fstat(fd).st_size - offset))} bytes"

    return attempt


READS = {
    "10 bytes before the end": (at_end(10), "10 bytes"),
    "10 bytes before the end, O_DIRECT": (at_end(10, flags=os.O_DIRECT), "10 bytes"),
    "at the end": (at_end(0), "0 bytes"),
    "at the end, O_DIRECT": (at_end(0, flags=os.O_DIRECT), "0 bytes"),
    "beyond the end": (at_end(-(1 << 40)), "0 bytes"),
    "of no bytes": (at_end(10, 0), "0 bytes"),
    "at a negative offset": (lambda fd: call("pread", fd, bytes(9), 9, -1), "EINVAL"),
    "of the largest offset": (lambda fd: os.pread(fd, 10, (1 << 63) - 1), "EINVAL"),
    "into no memory": (lambda fd: call("pread", fd, ctypes.c_void_p(16), 10, 0), "EFAULT"),
    "into 1025 buffers": (lambda fd: os.readv(fd, [bytearray(1)] * 1025), "EINVAL"),
    "of a directory": (lambda fd: read_directory(f"/proc/self/fd/{fd}"), "EISDIR"),
    "RWF_NOWAIT": (preadv2(RWF_NOWAIT), "EOPNOTSUPP"),
    "RWF_DONTCACHE": (preadv2(RWF_DONTCACHE), "EOPNOTSUPP"),
    "RWF_HIPRI": (preadv2(RWF_HIPRI), "4096"),
    "RWF_DSYNC": (preadv2(RWF_DSYNC), "4096"),
    "an unknown RWF": (preadv2(1 << 30), "EOPNOTSUPP"),
}


def read_directory(link):
    with opened(os.path.dirname(os.readlink(link))) as fd:
        return os.read(fd, 1)


@pytest.mark.parametrize(("attempt", "expected"), READS.values(), ids=READS)
def test_reads(fd, attempt, expected):
    assert outcome(attempt, fd) == expected


def seek(whence, offset=0, from_end=False):
    def attempt(fd):
        size = os.fstat(fd).st_size
        found = os.lseek(fd, size + offset if from_end else offset, whence)
        return "size" if found == size else found

    return attempt


SEEKS = {
    "SEEK_END": (seek(os.SEEK_END), "size"),
    "SEEK_SET beyond the end": (seek(os.SEEK_SET, 1 << 40), str(1 << 40)),
    "SEEK_SET to -1": (seek(os.SEEK_SET, -1), "EINVAL"),
    "SEEK_DATA at 777": (seek(os.SEEK_DATA, 777), "777"),
    "SEEK_HOLE at 777": (seek(os.SEEK_HOLE, 777), "size"),
    "SEEK_DATA at the end": (seek(os.SEEK_DATA, 0, True), "ENXIO"),
    "SEEK_HOLE at the end": (seek(os.SEEK_HOLE, 0, True), "ENXIO"),
    "an unknown whence": (seek(9), "EINVAL"),
}


@pytest.mark.parametrize(("attempt", "expected"), SEEKS.values(), ids=SEEKS)
def test_seeks(fd, attempt, expected):
    assert outcome(attempt, fd) == expected


def test_the_position_is_the_descriptors(fd, content):
    other = os.dup(fd)
    try:
        os.lseek(fd, 1000, os.SEEK_SET)
        assert os.read(other, 10) == content[1000:1010]
        assert os.pread(fd, 10, 5) == content[5:15]
        assert os.read(fd, 10) == content[1010:1020]
    finally:
        os.close(other)


def test_copy_file_range_to_another_file_system(fd, tmp_path):
    """So cp and shutil read and write instead."""
    with opened(tmp_path / "copy", os.O_RDWR | os.O_CREAT) as out:
        assert outcome(os.copy_file_range, fd, out, 10_000, 0) == "EXDEV"
        assert os.fstat(out).st_size == 0


def test_splice(fd, content):
    reading, writing = os.pipe()
    try:
        assert os.splice(fd, writing, 10_001, 77) == 10_001
        assert os.read(reading, 20_000) == content[77:10_078]
        assert os.splice(fd, writing, 100, len(content)) == 0
        assert os.splice(fd, writing, 100, len(content) - 7) == 7
    finally:
        os.close(reading)
        os.close(writing)


def test_sendfile_at_the_end(fd, content):
    reading, writing = os.pipe()
    try:
        assert os.sendfile(writing, fd, len(content) - 7, 100) == 7
        assert os.read(reading, 100) == content[-7:]
        assert os.sendfile(writing, fd, len(content), 100) == 0
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("advice", ("NORMAL", "SEQUENTIAL", "RANDOM", "NOREUSE", "WILLNEED"))
def test_fadvise(fd, content, advice):
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.posix_fadvise(fd, 100, 300_000, getattr(os, "POSIX_FADV_" + advice)) is None
    assert os.pread(fd, len(content), 0) == content


def test_fadvise_dontneed_empties_the_page_cache(tiny_root, content):
    """And the bytes come back."""
    path = tiny_root / SHARD
    for _ in range(2):
        assert path.read_bytes() == content
        assert share(path) == 1
        drop_page_cache(path)
        assert share(path) == 0


def test_fadvise_willneed_fetches(tiny_root):
    path = tiny_root / SHARD
    drop_page_cache(path)
    with opened(path) as fd:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
    wait_until(lambda: share(path) > 0.1, "pages that were advised are in memory")


def test_readahead_fetches(tiny_root, fd, content):
    path = tiny_root / SHARD
    drop_page_cache(path)
    assert call("readahead", fd, 0, len(content)) == 0
    wait_until(lambda: share(path) > 0.1, "pages that were read ahead are in memory")
    assert call("readahead", fd, len(content) + 4096, 4096) == 0


def test_fadvise_with_nonsense(fd):
    assert outcome(os.posix_fadvise, fd, 0, 0, 99) == "EINVAL"


def test_o_direct_leaves_no_pages(tiny_root, content):
    path = tiny_root / SHARD
    drop_page_cache(path)
    before = stats(path)["requests"]
    with opened(path, os.O_RDONLY | os.O_DIRECT) as fd:
        assert os.pread(fd, len(content), 0) == content
    assert share(path) == 0
    assert stats(path)["requests"] != before


def test_a_page_that_is_there_is_not_asked_for_again(tiny_root, content):
    path = tiny_root / SHARD
    assert path.read_bytes() == content
    before = stats(path)["requests"]
    assert path.read_bytes() == content
    assert stats(path)["requests"] == before
