"""Reads of every kind, against the bytes of the file.

The kernel reads whole pages ahead of a buffered reader, so only O_DIRECT brings odd
offsets and lengths to the daemon; both are tried.
"""

import mmap
import os
import random
import socket
import threading

import pytest

from support.mounting import drop_page_cache
from support.programs import run

MANY = 400
LARGEST = 3 << 20  # more than the largest READ and than several blocks


@pytest.fixture(params=("lossless", "lossy"))
def file(request, mixed, mount):
    """(path on a mount, its bytes): the source's, or those of one plain read of the mount."""
    converted = request.getfixturevalue(f"mixed_{request.param}")
    with mount(converted.path) as root:
        path = root / mixed.name
        content = mixed.read_bytes()
        if request.param == "lossy":
            assert path.stat().st_size == len(content)
            content = path.read_bytes()
            assert len(content) == path.stat().st_size
            drop_page_cache(path)
        yield path, content


def ranges(size, count=MANY, seed=3):
    """Odd offsets and lengths, most of them short, some over many blocks, some past the end."""
    draw = random.Random(seed)
    for _ in range(count):
        length = min(int(draw.paretovariate(0.35)), LARGEST)
        yield draw.randrange(0, size + 1), length
    for block in (1 << 18, 1 << 19, 1 << 20):
        for edge in range(block, size, block):
            yield edge - 3, 7
    yield from ((0, 1), (0, size), (size - 1, 1), (size - 1, 2), (size - 5, 100_000))


def aligned_buffer(size):
    return mmap.mmap(-1, max(size, 1))  # anonymous memory begins at a page


def test_pread(file):
    path, content = file
    with open(path, "rb", buffering=0) as f:
        for i, (offset, length) in enumerate(ranges(len(content))):
            if i % 40 == 0:
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            got = os.pread(f.fileno(), length, offset)
            assert got == content[offset : offset + length], (offset, length)


def test_reads_past_the_end_are_short_or_empty(file):
    path, content = file
    size = len(content)
    for flags in (0, os.O_DIRECT):
        fd = os.open(path, os.O_RDONLY | flags)
        try:
            for offset in (size, size + 1, size + 4096, size + (1 << 40)):
                assert os.pread(fd, 4096, offset) == b""
            assert os.pread(fd, 1 << 20, size - 10) == content[-10:]
        finally:
            os.close(fd)
        assert path.stat().st_size == size  # a short reply would have shrunk it


def test_direct_reads_at_odd_offsets(file):
    path, content = file
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    buffer = aligned_buffer(LARGEST)
    try:
        for offset, length in ranges(len(content), seed=4):
            length = min(length, LARGEST)
            view = memoryview(buffer)[:length]
            count = os.preadv(fd, [view], offset)
            expected = content[offset : offset + length]
            assert count == len(expected) and view[:count] == expected, (offset, length)
            view.release()
    finally:
        os.close(fd)


def test_direct_reads_in_aligned_blocks(file):
    """As loaders that use O_DIRECT do: 516 KiB, the last one short."""
    path, content = file
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    step = 528_384
    buffer, parts = aligned_buffer(step), []
    try:
        for offset in range(0, len(content), step):
            count = os.preadv(fd, [buffer], offset)
            assert count == min(step, len(content) - offset)
            parts.append(buffer[:count])
    finally:
        os.close(fd)
    assert b"".join(parts) == content


def test_readv(file):
    path, content = file
    fd = os.open(path, os.O_RDONLY)
    try:
        for offset, length in ranges(len(content), count=60, seed=5):
            sizes = [length // 3, 1, length - length // 3]
            buffers = [bytearray(s) for s in sizes]
            os.lseek(fd, offset, os.SEEK_SET)
            count = os.readv(fd, buffers)
            assert b"".join(buffers)[:count] == content[offset : offset + sum(sizes)]
            assert os.lseek(fd, 0, os.SEEK_CUR) == offset + count
    finally:
        os.close(fd)


@pytest.mark.parametrize("share", (mmap.MAP_PRIVATE, mmap.MAP_SHARED))
@pytest.mark.parametrize("advice", (mmap.MADV_NORMAL, mmap.MADV_RANDOM, mmap.MADV_SEQUENTIAL))
def test_mmap(file, share, advice):
    path, content = file
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, share, mmap.PROT_READ) as view:
        view.madvise(advice)
        for offset, length in ranges(len(content), count=150, seed=6):
            assert view[offset : offset + length] == content[offset : offset + length]
        view.madvise(mmap.MADV_DONTNEED)
        assert view[:] == content


def test_mmap_of_a_part(file):
    path, content = file
    with open(path, "rb") as f:
        for offset, length in ((4096, 1), (1 << 20, 3_000_001), (7 * 4096, 4096)):
            with mmap.mmap(
                f.fileno(), length, mmap.MAP_PRIVATE, mmap.PROT_READ, offset=offset
            ) as view:
                assert view[:] == content[offset : offset + length]


def test_private_mapping_may_be_written(file):
    path, content = file
    rights = mmap.PROT_READ | mmap.PROT_WRITE
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, mmap.MAP_PRIVATE, rights) as view:
        view[5_000_000:5_000_004] = b"mine"
        assert view[5_000_004:5_000_100] == content[5_000_004:5_000_100]
    assert path.read_bytes() == content


def test_sendfile(file, tmp_path):
    path, content = file
    with open(path, "rb") as f, open(tmp_path / "copy", "wb") as out:
        sent = 12_345
        while count := os.sendfile(out.fileno(), f.fileno(), sent, 1_000_003):
            sent += count
    assert (tmp_path / "copy").read_bytes() == content[12_345:]


def test_sendfile_to_a_socket(file):
    path, content = file
    ours, theirs = socket.socketpair()
    received = bytearray()

    def receive():
        while part := theirs.recv(1 << 16):
            received.extend(part)

    reader = threading.Thread(target=receive)
    reader.start()
    with ours, open(path, "rb") as f:
        assert ours.sendfile(f, offset=777) == len(content) - 777
    reader.join()
    theirs.close()
    assert received == content[777:]


def test_seeking(file):
    path, content = file
    fd = os.open(path, os.O_RDONLY)
    try:
        assert os.lseek(fd, 0, os.SEEK_END) == len(content)
        assert os.lseek(fd, -9, os.SEEK_END) == len(content) - 9
        assert os.read(fd, 100) == content[-9:]
        # No holes: whoever skips them must get everything.
        assert os.lseek(fd, 0, os.SEEK_DATA) == 0
        assert os.lseek(fd, 0, os.SEEK_HOLE) == len(content)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "command", (["cp"], ["cp", "--sparse=always"], ["dd", "bs=1000003", "status=none"])
)
def test_copies_by_usual_tools(file, tmp_path, command):
    path, content = file
    copy = tmp_path / "copy"
    arguments = [f"if={path}", f"of={copy}"] if command[0] == "dd" else [path, copy]
    done = run(*command, *arguments)
    assert done.returncode == 0, done.stderr
    assert copy.read_bytes() == content


def test_tar_keeps_every_byte(file, tmp_path):
    """tar -S believes st_blocks: a file that pretended to have none would be stored as a hole."""
    path, content = file
    done = run("tar", "-S", "-C", path.parent, "-cf", tmp_path / "a.tar", path.name)
    assert done.returncode == 0, done.stderr
    done = run("tar", "-C", tmp_path, "-xf", tmp_path / "a.tar")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / path.name).read_bytes() == content
