"""Extended attributes: the counters are there, agree with each other, and move as they should."""

import errno
import mmap
import os

import pytest

from support.mounting import drop_page_cache, stats
from support.tensors import tree

COUNTERS = {
    "user.upg.cache.hits": ("cache", "hits"),
    "user.upg.cache.misses": ("cache", "misses"),
    "user.upg.cache.evictions": ("cache", "evictions"),
    "user.upg.cache.bytes": ("cache", "bytes"),
    "user.upg.cache.capacity": ("cache", "capacity"),
    "user.upg.decoded.blocks": ("decoded", "blocks"),
    "user.upg.decoded.bytes": ("decoded", "bytes"),
    "user.upg.ahead.blocks": ("ahead", "blocks"),
    "user.upg.ahead.wasted": ("ahead", "wasted"),
}
OF_A_FILE = {"user.upg.codec", "user.upg.stored_bytes"}
OF_WEIGHTS = {"user.upg.bits_per_weight"}
SIZES = ("4096", "16384", "65536", "131072", "262144", "524288", "1048576", "larger")


def direct_read(path, length, offset):
    """One O_DIRECT read into memory that begins at a page, so that it is one request."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, length) as memory:
            return memory[: os.preadv(fd, [memory], offset)]
    finally:
        os.close(fd)


def test_names(tiny_lossy, mount):
    everywhere = {*COUNTERS, "user.upg.requests", "user.upg.stats"}
    with mount(tiny_lossy.path) as root:
        assert everywhere <= set(os.listxattr(root))
        for path in (p for p in root.rglob("*") if p.is_file()):
            names = set(os.listxattr(path))
            expected = everywhere | OF_A_FILE
            if path.suffix == ".safetensors":
                expected |= OF_WEIGHTS
            assert expected <= names, path
            for name in names:
                os.getxattr(path, name)  # whatever is listed can be read
        with pytest.raises(OSError) as failure:
            os.getxattr(root, "user.upg.no-such")
        assert failure.value.errno == errno.ENODATA


def test_one_by_one_they_say_what_the_json_says(tiny_lossy, mount):
    with mount(tiny_lossy.path) as root:
        tree(root)
        values = stats(root)
        assert set(values) >= {"cache", "decoded", "requests", "errors"}
        assert values["cache"]["misses"] > 0
        for name, (group, key) in COUNTERS.items():
            assert int(os.getxattr(root, name)) == values[group][key], name
            assert os.getxattr(root / "config.json", name) == os.getxattr(root, name)


def test_files_say_how_they_are_stored(tiny_lossy, mount):
    size = tiny_lossy.path.stat().st_size
    with mount(tiny_lossy.path) as root:
        stored = {}
        for path in (p for p in root.rglob("*") if p.is_file()):
            stored[path] = int(os.getxattr(path, "user.upg.stored_bytes"))
            assert stored[path] <= path.stat().st_size + 64
            assert abs(path.stat().st_blocks * 512 - stored[path]) <= 512
        assert 0.9 * size < sum(stored.values()) < size
        shards = [p for p in stored if p.suffix == ".safetensors"]
        assert len(shards) == 4
        for shard in shards:
            assert b"prime-sparse" in os.getxattr(shard, "user.upg.codec").split(b"+")
            # All stored bytes over all weights, headers and norms included.
            bits = float(os.getxattr(shard, "user.upg.bits_per_weight"))
            assert bits == pytest.approx(8 * stored[shard] / (shard.stat().st_size / 2), rel=0.02)


def test_lossless_files_say_so(tiny_lossless, mount):
    with mount(tiny_lossless.path) as root:
        for shard in root.glob("*.safetensors"):
            codecs = os.getxattr(shard, "user.upg.codec").split(b"+")
            assert b"lossless" in codecs and b"prime-sparse" not in codecs


def test_second_read_decodes_nothing(mixed, mixed_lossy, mount):
    with mount(mixed_lossy.path) as root:
        path = root / mixed.name
        start = stats(root)
        assert start["decoded"]["blocks"] == 0, "something was decoded before the first read"
        first_bytes = path.read_bytes()
        first = stats(root)
        assert first["decoded"]["blocks"] > 10
        assert first["decoded"]["bytes"] >= 0.9 * len(first_bytes)
        asked = first["cache"]["misses"] + first["ahead"]["blocks"]
        assert asked >= first["decoded"]["blocks"] > 10
        # Small blocks count for a little more than their bytes.
        assert 1 <= first["cache"]["bytes"] / first["decoded"]["bytes"] <= 1.125
        assert first["cache"]["bytes"] <= first["cache"]["capacity"]

        drop_page_cache(path)
        assert path.read_bytes() == first_bytes
        second = stats(root)
        assert sum(second["requests"].values()) > sum(first["requests"].values()), (
            "the kernel answered"
        )
        assert second["decoded"] == first["decoded"]
        assert second["cache"]["misses"] == first["cache"]["misses"]
        assert second["cache"]["hits"] > first["cache"]["hits"]
        assert second["cache"]["evictions"] == 0
        assert second["errors"] == 0


def test_the_kernel_keeps_what_it_read(mixed, mixed_lossy, mount):
    """Opening a file again keeps its pages: no request reaches the daemon."""
    with mount(mixed_lossy.path) as root:
        content = (root / mixed.name).read_bytes()
        before = stats(root)["requests"]
        assert sum(before.values()) > 0
        assert (root / mixed.name).read_bytes() == content
        assert stats(root)["requests"] == before


def test_small_cache_evicts_and_keeps_its_bound(mixed, mixed_lossless, mount):
    content = mixed.read_bytes()
    with mount(mixed_lossless.path, "--cache-size", "4M") as root:
        path = root / mixed.name
        capacity = int(os.getxattr(root, "user.upg.cache.capacity"))
        assert capacity in (4_000_000, 4 << 20)
        for _ in range(2):
            for offset in range(0, len(content), 200_003):
                assert direct_read(path, 200_003, offset) == content[offset : offset + 200_003]
                assert 0 < int(os.getxattr(root, "user.upg.cache.bytes")) <= capacity
        values = stats(root)
        assert values["cache"]["evictions"] > 5
        assert values["decoded"]["bytes"] > 1.5 * len(content), (
            "the second round fits in no cache of 4 MB"
        )


def test_requests_are_counted_by_size(mixed, mixed_lossless, mount):
    lengths = {
        "4096": (1, 512, 4096),
        "16384": (4097, 16384),
        "65536": (65536,),
        "131072": (100_003,),
    }
    lengths |= {"262144": (200_000,), "524288": (262_145,), "1048576": (1 << 20,)}
    with mount(mixed_lossless.path) as root:
        path = root / mixed.name
        before = stats(root)["requests"]
        assert set(before) == set(SIZES)
        for some in lengths.values():
            for length in some:
                assert len(direct_read(path, length, 8192)) == length
        after = stats(root)["requests"]
        assert {k: after[k] - before[k] for k in lengths} == {k: len(v) for k, v in lengths.items()}
        text = os.getxattr(root, "user.upg.requests").decode()
        shown = dict(item.removeprefix("<=").split(":") for item in text.split())
        assert {k: int(shown.get(k, 0)) for k in SIZES} == after
