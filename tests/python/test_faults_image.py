"""An image that is overwritten, cut, replaced or taken away while it is mounted: the right bytes or
EIO; what is cached stays right; and once the image is whole again, so is the mount."""

import os

import pytest

from support import tensors
from support.corrupted import read_pieces
from support.disks import MIB, small
from support.mounting import daemons, drop_page_cache, stats
from support.programs import convert, run

UNCACHED = ("--cache-size", "0")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    base = tmp_path_factory.mktemp("source")
    return tensors.write(base / "m.safetensors", [tensors.gaussian("w", (2000, 2000))])


@pytest.fixture(scope="module")
def content(source):
    return source.read_bytes()


@pytest.fixture(scope="module")
def good(source, tmp_path_factory):
    return convert(source, tmp_path_factory.mktemp("upg") / "m.upg", "--lossless").path.read_bytes()


@pytest.fixture(scope="module")
def another(tmp_path_factory):
    """As good an image, of another model of the same shape."""
    base = tmp_path_factory.mktemp("another")
    content = [tensors.gaussian("w", (2000, 2000), seed=9)]
    source = tensors.write(base / "m.safetensors", content)
    return convert(source, base / "m.upg", "--lossless").path.read_bytes()


def write_over(path, data):
    """In place: the same inode, which the daemon has open."""
    with open(path, "r+b") as file:
        file.write(data)
        file.truncate()


DAMAGES = {
    "zeros": lambda good, another: bytes(len(good)),
    "another image": lambda good, another: another,
    "a longer one": lambda good, another: good[: len(good) // 2] + another,
    "half": lambda good, another: good[: len(good) // 2],
    "nothing": lambda good, another: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_overwritten_in_place_and_restored(good, another, content, tmp_path, mount, damage):
    image = tmp_path / "m.upg"
    image.write_bytes(good)
    with mount(image, *UNCACHED) as root:
        path = root / "m.safetensors"
        assert read_pieces(path, content) == ([], [])
        for _ in range(2):
            write_over(image, DAMAGES[damage](good, another))
            lost, wrong = read_pieces(path, content)
            assert wrong == [] and lost
            # Nothing remembers the damage.
            write_over(image, good)
            assert read_pieces(path, content) == ([], [])
        assert len(daemons(root)) == 1


@pytest.mark.parametrize("damage", ("another image", "nothing"))
def test_what_is_cached_stays_right(good, another, content, tmp_path, mount, damage):
    image = tmp_path / "m.upg"
    image.write_bytes(good)
    with mount(image, "--cache-size", "256MiB") as root:
        path = root / "m.safetensors"
        assert read_pieces(path, content) == ([], [])
        write_over(image, DAMAGES[damage](good, another))
        # In the daemon's cache, and in the kernel's.
        assert read_pieces(path, content) == ([], [])
        assert path.read_bytes() == content
        drop_page_cache(path)
        assert path.read_bytes() == content
        assert stats(root)["errors"] == 0


@pytest.mark.parametrize("how", ("replaced", "deleted"))
def test_the_image_that_was_opened_is_served(good, another, content, tmp_path, mount, how):
    image = tmp_path / "m.upg"
    image.write_bytes(good)
    with mount(image, *UNCACHED) as root:
        if how == "replaced":
            (tmp_path / "other").write_bytes(another)
            os.replace(tmp_path / "other", image)
        else:
            image.unlink()
        assert read_pieces(root / "m.safetensors", content) == ([], [])
        assert (root / "m.safetensors").read_bytes() == content


def test_its_file_system_is_full_and_read_only_and_unmounted(good, content, tmp_path, mount):
    with small(tmp_path / "disk", 16 * MIB) as disk:
        (disk / "m.upg").write_bytes(good)
        with pytest.raises(OSError), open(disk / "rest", "wb", buffering=0) as rest:
            while True:
                rest.write(bytes(MIB))
        with mount(disk / "m.upg", *UNCACHED) as root:
            for change in (None, "mount -o remount,ro", "umount -l"):
                if change:
                    assert run(*change.split(), disk).returncode == 0
                assert read_pieces(root / "m.safetensors", content) == ([], [])
            assert not (disk / "m.upg").exists()
        # For the one that unmounts it at the end.
        assert run("mount", "-t", "tmpfs", "none", disk).returncode == 0
