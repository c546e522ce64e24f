"""Damaged images: EIO exactly where bytes are lost, the rest right, the mount alive."""

import errno
import mmap
import os
import signal
import struct
import subprocess
import sys

import pytest

from support import tensors
from support.corrupted import read_pieces
from support.mounting import stats
from support.programs import UPG_MOUNT, convert, require_fuse, run

PIECE = 4096
TOUCH_MAPPED_BYTE = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)[int(sys.argv[2])]
"""


@pytest.fixture(scope="module", params=("lossless", "lossy"))
def image(request, tmp_path_factory):
    """One matrix of 6 MB: blocks make up the payload, side blocks next to nothing."""
    base = tmp_path_factory.mktemp("image")
    source = tensors.write(base / "m.safetensors", [tensors.gaussian("w", (1500, 2000))])
    options = ("--lossless",) if request.param == "lossless" else ("--bits", "3.2")
    return convert(source, base / "m.upg", *options).path


@pytest.fixture
def content(image, mount):
    with mount(image) as root:
        return (root / "m.safetensors").read_bytes()


@pytest.fixture
def corrupt(image, tmp_path):
    """The image with one flipped byte in the middle of the stored blocks."""
    data = bytearray(image.read_bytes())
    (index_offset,) = struct.unpack_from("<Q", data, len(data) - 64)
    data[16 + (index_offset - 16) // 2] ^= 0x01
    path = tmp_path / "corrupt.upg"
    path.write_bytes(data)
    return path


def test_a_flipped_byte_loses_one_block(corrupt, content, mount):
    with mount(corrupt) as root:
        path = root / "m.safetensors"
        lost, wrong = read_pieces(path, content, piece=PIECE)
        assert wrong == []
        # One block of 256 KiB to 1 MiB, in one piece, and not the whole file.
        assert 60 <= len(lost) <= 258
        assert lost == list(range(lost[0], lost[-1] + 1, PIECE))
        assert stats(root)["errors"] >= len(lost)

        # The same by buffered reads, where the kernel reads ahead into the lost block.
        with open(path, "rb", buffering=0) as f:
            before = lost[0] - lost[0] % PIECE - PIECE
            assert os.pread(f.fileno(), PIECE, before) == content[before : before + PIECE]
            with pytest.raises(OSError) as failure:
                os.pread(f.fileno(), PIECE, lost[len(lost) // 2])
            assert failure.value.errno == errno.EIO
            after = lost[-1] + 2 * PIECE
            assert os.pread(f.fileno(), PIECE, after) == content[after : after + PIECE]
        assert path.stat().st_size == len(content)


def test_a_mapped_reader_of_a_lost_block_gets_a_signal_and_the_mount_lives(corrupt, content, mount):
    with mount(corrupt) as root:
        path = root / "m.safetensors"
        lost, _ = read_pieces(path, content, piece=PIECE)
        assert lost
        command = [sys.executable, "-c", TOUCH_MAPPED_BYTE, path, str(lost[0])]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == -signal.SIGBUS
        with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as view:
            assert view[:PIECE] == content[:PIECE]


def test_an_image_that_shrinks_under_the_mount(image, content, tmp_path, mount):
    copy = tmp_path / "shrinking.upg"
    copy.write_bytes(image.read_bytes())
    with mount(copy) as root:
        path = root / "m.safetensors"
        # What all blocks of a tensor share is read with the first of them.
        with open(path, "rb", buffering=0) as f:
            assert f.read(4 * PIECE) == content[: 4 * PIECE]
        os.truncate(copy, copy.stat().st_size // 2)
        lost, wrong = read_pieces(path, content, piece=16 * PIECE)
        pieces = -(-len(content) // (16 * PIECE))
        assert wrong == []
        assert pieces // 4 < len(lost) < 3 * pieces // 4
        assert os.listdir(root) == ["m.safetensors"]
        assert stats(root)["errors"] >= len(lost)


def test_every_flipped_byte_of_a_small_image_is_noticed(tmp_path):
    """Sampled over the whole file: each byte is below some checksum, so the image is refused
    at once or a read gives EIO."""
    require_fuse()
    source = tensors.write(tmp_path / "s.safetensors", [tensors.gaussian("w", (64, 128))])
    good = convert(source, tmp_path / "s.upg", "--lossless").path.read_bytes()
    bad, point = tmp_path / "bad.upg", tmp_path / "point"
    point.mkdir()
    for at in range(0, len(good), len(good) // 60):
        data = bytearray(good)
        data[at] ^= 0x04
        bad.write_bytes(data)
        refused = run(UPG_MOUNT, bad, point).returncode
        if refused:
            assert refused == 1, f"byte {at} of {len(good)}"
            continue
        try:
            with pytest.raises(OSError) as failure:
                (point / "s.safetensors").read_bytes()
            assert failure.value.errno == errno.EIO, f"byte {at} of {len(good)}"
        finally:
            assert run(UPG_MOUNT, "-u", point).returncode == 0
