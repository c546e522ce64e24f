"""Reads of which several are under way at once, by the kernel's two interfaces for that."""

import ctypes
import errno
import mmap
import os
import struct

import pytest

from support.programs import require
from support.syscalls import call, opened

SHARD = "model-00002-of-00004.safetensors"
COUNT, LENGTH = 8, 50_001
OFFSETS = [i * 110_003 + 7 for i in range(COUNT)]  # the last one runs into the end
FLAGS = pytest.mark.parametrize("flags", (0, os.O_DIRECT), ids=("buffered", "O_DIRECT"))


@pytest.fixture(scope="module")
def expected(tiny):
    content = (tiny / SHARD).read_bytes()
    return [content[at : at + LENGTH] for at in OFFSETS]


def buffers():
    made = [ctypes.create_string_buffer(LENGTH) for _ in range(COUNT)]
    return made, [ctypes.addressof(buffer) for buffer in made]


@FLAGS
def test_aio(tiny_root, expected, flags):
    """io_submit(2), as libaio and what is built on it use."""
    setup, destroy, getevents, submit = 206, 207, 208, 209
    require(os.uname().machine == "x86_64", "the numbers of the calls are those of x86-64")
    context = ctypes.c_ulong()
    call("syscall", setup, COUNT, ctypes.byref(context))
    read, addresses = buffers()
    with opened(tiny_root / SHARD, os.O_RDONLY | flags) as fd:
        layout = "QIIHhIQQq16x"  # struct iocb
        blocks = [
            ctypes.create_string_buffer(
                struct.pack(layout, i, 0, 0, 0, 0, fd, addresses[i], LENGTH, OFFSETS[i]), 64
            )
            for i in range(COUNT)
        ]
        pointers = (ctypes.c_void_p * COUNT)(*map(ctypes.addressof, blocks))
        assert call("syscall", submit, context.value, COUNT, pointers) == COUNT
        events = ctypes.create_string_buffer(32 * COUNT)
        assert call("syscall", getevents, context.value, COUNT, COUNT, events, None) == COUNT
    call("syscall", destroy, context.value)
    for event in struct.iter_unpack("QQqq", events.raw):
        which, _, result, _ = event
        assert read[which].raw[:result] == expected[which]


@FLAGS
def test_io_uring(tiny_root, expected, flags):
    setup, enter, single_mapping, op_read = 425, 426, 1, 22
    parameters = ctypes.create_string_buffer(120)
    try:
        ring = call("syscall", setup, COUNT, parameters)
    except OSError as refused:
        require(refused.errno not in (errno.ENOSYS, errno.EPERM), "no io_uring")
        raise
    numbers = struct.unpack("30I", parameters.raw)
    entries, completions, features = numbers[0], numbers[1], numbers[5]
    tail_of_queue, array = numbers[11], numbers[16]
    results = numbers[25]
    require(features & single_mapping, "an io_uring of Linux 5.4 or later")
    length = max(array + 4 * entries, results + 16 * completions)
    read, addresses = buffers()
    try:
        with opened(tiny_root / SHARD, os.O_RDONLY | flags) as fd:
            with mmap.mmap(ring, length) as queue, mmap.mmap(
                ring, 64 * entries, offset=0x10000000
            ) as requests:
                for i in range(COUNT):
                    asked = (op_read, 0, 0, fd, OFFSETS[i], addresses[i], LENGTH, 0, i)
                    struct.pack_into("BBHiQQIIQ", requests, 64 * i, *asked)
                    struct.pack_into("I", queue, array + 4 * i, i)
                struct.pack_into("I", queue, tail_of_queue, COUNT)
                assert call("syscall", enter, ring, COUNT, COUNT, 1, None, 0) == COUNT
                done = [struct.unpack_from("Qi", queue, results + 16 * i) for i in range(COUNT)]
    finally:
        os.close(ring)
    assert sorted(which for which, _ in done) == list(range(COUNT))
    for which, result in done:
        assert read[which].raw[:result] == expected[which]
