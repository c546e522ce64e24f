"""A disk that fails while an image on it is mounted: EIO where bytes cannot be had, right bytes
elsewhere and afterwards, and a daemon that lives."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import tensors
from support.corrupted import read_pieces
from support.disks import MIB, disk, make_ext4, require_disks
from support.mounting import drop_page_cache, is_mounted, stats, wait_until
from support.programs import UPG_MOUNT, convert, often, one_line, require, require_fuse, run

pytestmark = pytest.mark.timeout(often(300, 7200))

FAULTY = Path(__file__).parent / "support" / "faulty_disk.py"
PIECE = 256 << 10
# Nothing is kept, so that every read reaches the disk.
UNCACHED = ("--cache-size", "0")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    base = tmp_path_factory.mktemp("source")
    return tensors.write(base / "m.safetensors", [tensors.gaussian("w", (3000, 2000))])


@pytest.fixture(scope="module")
def content(source):
    return source.read_bytes()


@pytest.fixture(scope="module")
def image(source, tmp_path_factory):
    return convert(source, tmp_path_factory.mktemp("upg") / "m.upg", "--lossless").path


class Faulty:
    def __init__(self, point, process):
        self.path, self.process = point / "image", process

    def tell(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"


@contextmanager
def faulty_disk(image, point):
    require_fuse()
    require(os.getuid() == 0, "mounting needs root")
    point.mkdir()
    command = [sys.executable, str(FAULTY), str(point), str(image)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, **pipes)
    try:
        assert process.stdout.readline() == "ready\n"
        yield Faulty(point, process)
    finally:
        process.kill()
        process.communicate()
        subprocess.run(["umount", "-l", str(point)], check=False)


@pytest.mark.parametrize("way", (os.O_DIRECT, 0), ids=("direct", "buffered"))
def test_eio_where_the_disk_gives_it_and_only_then(image, content, tmp_path, mount, way):
    with (
        faulty_disk(image, tmp_path / "disk") as faulty,
        mount(faulty.path, *UNCACHED) as root,
    ):
        path = root / "m.safetensors"
        size = image.stat().st_size
        parts = often(3, 12)
        for part in range(1, parts):
            at = size * part // parts
            faulty.tell("eio", at, at + 4096)
            drop_page_cache(path)
            lost, wrong = read_pieces(path, content, way)
            assert wrong == []
            # One block, or two if the bytes lie at their border, or reads lie in both.
            assert 1 <= len(lost) <= 2 * MIB // PIECE + 2
            assert lost[-1] - lost[0] == PIECE * (len(lost) - 1)
            assert abs(lost[len(lost) // 2] / len(content) - part / parts) < 0.15
            faulty.tell("well")
            # Nothing remembers that it failed.
            assert read_pieces(path, content, way) == ([], [])
        assert stats(root)["errors"] > 0


@pytest.mark.parametrize("trouble", (("short", 1000), ("short", 4096), ("interrupt",)))
def test_a_disk_that_gives_less_than_was_asked_for(image, content, tmp_path, mount, trouble):
    with (
        faulty_disk(image, tmp_path / "disk") as faulty,
        mount(faulty.path, *UNCACHED) as root,
    ):
        faulty.tell(*trouble)
        path = root / "m.safetensors"
        assert read_pieces(path, content[: 2 * MIB]) == ([], [])
        assert stats(root)["errors"] == 0


def test_a_disk_that_fails_when_the_image_is_opened(image, tmp_path):
    (tmp_path / "point").mkdir()
    size = image.stat().st_size
    with faulty_disk(image, tmp_path / "disk") as faulty:
        for start, end in ((0, 16), (size - 64, size), (0, size)):
            faulty.tell("eio", start, end)
            done = run(UPG_MOUNT, faulty.path, tmp_path / "point")
            assert done.returncode == 1
            line = one_line(done.stderr)
            assert str(faulty.path) in line and "Input/output error" in line
            assert not is_mounted(tmp_path / "point")


def test_the_disk_itself_goes_away(image, content, tmp_path, mount):
    with faulty_disk(image, tmp_path / "disk") as faulty, mount(faulty.path, *UNCACHED) as root:
        path = root / "m.safetensors"
        assert read_pieces(path, content) == ([], [])
        faulty.process.kill()
        faulty.process.wait()
        lost, wrong = read_pieces(path, content)
        # The header was read before, and is of a few bytes.
        assert wrong == [] and len(lost) >= len(content) // PIECE
        assert os.listdir(root) == ["m.safetensors"]
        assert path.stat().st_size == len(content)


def test_a_block_device_with_bad_sectors(image, content, tmp_path, mount):
    """A loop device gives EIO for blocks that its file has lost."""
    require_disks()
    file = make_ext4(tmp_path / "disk", 64 * MIB)
    with disk(file, tmp_path / "at") as place:
        (place / "m.upg").write_bytes(image.read_bytes())
    whole = file.read_bytes()
    with disk(file, tmp_path / "at", "ro") as place, mount(place / "m.upg", *UNCACHED) as root:
        path = root / "m.safetensors"
        assert read_pieces(path, content) == ([], [])
        # Where the second half of the image lies.
        half = image.read_bytes()[image.stat().st_size // 2 :][:4096]
        os.truncate(file, whole.index(half) + len(half))
        lost = wait_for_lost(path, place / "m.upg", content)
        assert 0 < len(lost) < len(content) // PIECE
        file.write_bytes(whole)
        drop_page_cache(place / "m.upg")
        assert read_pieces(path, content) == ([], [])


def wait_for_lost(path, image, content):
    found = []

    def lost_some():
        drop_page_cache(image)
        lost, wrong = read_pieces(path, content)
        assert wrong == []
        found[:] = lost
        return lost

    wait_until(lost_some, "bytes were lost")
    return found
