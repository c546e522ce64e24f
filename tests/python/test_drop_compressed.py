"""--drop-compressed: what is decoded does not stay in memory in its compressed form, too."""

import mmap
import os

import pytest

from support.mounting import drop_page_cache, stats
from support.programs import require
from support.residence import resident_pages, share


@pytest.fixture(params=("lossless", "lossy"))
def image(request, mixed, tmp_path):
    """A converted model whose pages are in memory, and can leave it."""
    image = request.getfixturevalue(f"mixed_{request.param}").path
    drop_page_cache(image)
    require(share(image) < 0.1, "a file system that keeps its pages (tmpfs)")
    image.read_bytes()
    # Not all of them: the kernel may take single pages back at any time.
    assert share(image) > 0.95
    return image


def test_pages_stay_unless_asked(image, mixed, mount):
    with mount(image) as root:
        (root / mixed.name).read_bytes()
        assert share(image) > 0.95


def test_pages_of_decoded_blocks_go(image, mixed, mount):
    with mount(image) as root:
        content = (root / mixed.name).read_bytes()
    with mount(image, "--drop-compressed") as root:
        # The index, at the end, has been read already; the page of the first block's start stays.
        assert share(image) > 0.9
        assert (root / mixed.name).read_bytes() == content
        assert share(image) < 0.05
        # What is decoded is answered without them, read-ahead included.
        drop_page_cache(root / mixed.name)
        assert (root / mixed.name).read_bytes() == content
        assert share(image) < 0.05
        assert stats(root)["decoded"]["bytes"] < 1.1 * len(content)


def test_pages_of_other_blocks_stay(image, mixed, mount):
    """Also the page that the end of the last decoded block shares with the next."""
    with mount(image, "--drop-compressed", "--decoders", "0") as root:
        before = resident_pages(image)
        fd = os.open(root / mixed.name, os.O_RDONLY | os.O_DIRECT)
        try:
            os.pread(fd, mmap.PAGESIZE, 4 << 20)
        finally:
            os.close(fd)
        after = resident_pages(image)
        gone = before & ~after
        assert stats(root)["decoded"]["blocks"] == 1
        length = int(os.getxattr(root / mixed.name, "user.upg.stored_bytes"))
        assert gone.sum() * mmap.PAGESIZE < length / 4
        # Those that stay have their bytes: the next block decodes without the disk.
        assert after.sum() > 0.6 * before.sum()


def test_a_budget_smaller_than_the_model_decodes_from_disk_again(image, mixed, mount):
    with mount(image) as root:
        content = (root / mixed.name).read_bytes()
    with mount(image, "--drop-compressed", "--cache-size", "3M") as root:
        for _ in range(2):
            assert (root / mixed.name).read_bytes() == content
            drop_page_cache(root / mixed.name)
        assert stats(root)["decoded"]["bytes"] > 1.5 * len(content)
        assert share(image) < 0.1
