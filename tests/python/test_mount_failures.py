"""What cannot be mounted is refused with one line and exit status 1, and nothing is mounted."""

import os
import signal
import struct

import pytest

from support.mounting import daemons, foreground, mounts_below
from support.programs import UPG_MOUNT, one_line, require_fuse, run
from support.tensors import tree

TRAILER = 64


@pytest.fixture
def good(tiny_lossless):
    return tiny_lossless.path.read_bytes()


def flipped(data, at):
    changed = bytearray(data)
    changed[at] ^= 0x10
    return bytes(changed)


def index_middle(data):
    offset, length = struct.unpack_from("<QQ", data, len(data) - TRAILER)
    return offset + length // 2


DAMAGES = {
    "empty": lambda good: b"",
    "one byte": lambda good: b"\x89",
    "text": lambda good: b"not a model\n" * 100,
    "safetensors": lambda good: struct.pack("<Q", 8) + b"{}      ",
    "without its end": lambda good: good[:-1],
    "half": lambda good: good[: len(good) // 2],
    "trailer only": lambda good: good[-TRAILER:],
    "more behind it": lambda good: good + b"\0",
    "first byte lost": lambda good: good[1:],
    "magic": lambda good: flipped(good, 1),
    "version in the header": lambda good: flipped(good, 8),
    "index": lambda good: flipped(good, index_middle(good)),
    "index offset": lambda good: flipped(good, len(good) - TRAILER),
    "index checksum": lambda good: flipped(good, len(good) - TRAILER + 16),
    "feature bits": lambda good: flipped(good, len(good) - TRAILER + 24),
    "version in the trailer": lambda good: flipped(good, len(good) - TRAILER + 40),
    "closing magic": lambda good: flipped(good, len(good) - 1),
}


@pytest.mark.parametrize("options", ((), ("-f",)), ids=("background", "foreground"))
@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_file(tmp_path, good, damage, options):
    image, point = tmp_path / "bad.upg", tmp_path / "point"
    image.write_bytes(DAMAGES[damage](good))
    point.mkdir()
    refused(image, point, *options, names=image)


def test_missing_file(tmp_path):
    (tmp_path / "point").mkdir()
    refused(tmp_path / "absent.upg", tmp_path / "point", names=tmp_path / "absent.upg")


def test_a_directory_as_file(tmp_path):
    (tmp_path / "point").mkdir()
    refused(tmp_path, tmp_path / "point", names=tmp_path)


def test_missing_mountpoint(tmp_path, tiny_lossless):
    refused(tiny_lossless.path, tmp_path / "absent", names=tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("options", ((), ("-f",)), ids=("background", "foreground"))
def test_a_file_as_mountpoint(tmp_path, tiny_lossless, options):
    (tmp_path / "file").write_text("here")
    refused(tiny_lossless.path, tmp_path / "file", *options, names=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "here"


def test_a_device_as_mountpoint(tmp_path, tiny_lossless):
    os.mkfifo(tmp_path / "fifo")
    refused(tiny_lossless.path, tmp_path / "fifo", names=tmp_path / "fifo")


def refused(image, point, *options, names):
    require_fuse()
    done = run(UPG_MOUNT, image, point, *options, timeout=60)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert str(names) in one_line(done.stderr)
    assert done.stdout == ""
    assert mounts_below(point) == []
    assert daemons(point) == []


@pytest.mark.parametrize(
    "arguments",
    (
        [],
        ["only-one"],
        ["--no-such-option", "a", "b"],
        ["a", "b", "--cache-size", "lots"],
        ["-u"],
    ),
    ids=" ".join,
)
def test_wrong_usage_is_exit_2(tmp_path, arguments):
    done = run(UPG_MOUNT, *arguments, cwd=tmp_path)
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stderr.strip() and done.stdout == ""


def test_relative_paths(tmp_path, tiny, tiny_lossless):
    """The background daemon changes its directory; what was given relative must still be found."""
    require_fuse()
    (tmp_path / "m.upg").write_bytes(tiny_lossless.path.read_bytes())
    (tmp_path / "point").mkdir()
    done = run(UPG_MOUNT, "m.upg", "point", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    try:
        assert tree(tmp_path / "point") == tree(tiny)
    finally:
        assert run(UPG_MOUNT, "-u", "point", cwd=tmp_path).returncode == 0
    assert mounts_below(tmp_path) == []


def test_mounting_over_the_directory_of_the_image(tmp_path, tiny, tiny_lossless):
    """The daemon must not ask its own mount for the image: that would wait for ever."""
    point = tmp_path / "point"
    point.mkdir()
    image = point / "m.upg"
    image.write_bytes(tiny_lossless.path.read_bytes())
    with foreground(image, point) as daemon:
        assert tree(point) == tree(tiny)
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=15)
        assert daemon.returncode == 0
    assert image.exists()
