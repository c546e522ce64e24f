"""Eight readers at once, as threads and as processes, with room for all blocks and for few."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support import reader
from support.mounting import drop_page_cache, stats

READERS = 8
ROUNDS = 60


@pytest.fixture(params=("lossless", "lossy"))
def image_and_plain(request, mixed, mount, tmp_path):
    """A converted model and its file as a plain copy."""
    image = request.getfixturevalue(f"mixed_{request.param}").path
    if request.param == "lossless":
        return image, mixed
    with mount(image) as root:
        plain = tmp_path / "plain"
        plain.write_bytes((root / mixed.name).read_bytes())
    return image, plain


@pytest.mark.parametrize("options", ((), ("--cache-size", "4M"), ("--threads", "1")), ids=str)
def test_eight_threads(image_and_plain, mixed, mount, options):
    image, plain = image_and_plain
    with mount(image, *options) as root:
        with ThreadPoolExecutor(READERS) as pool:
            path = root / mixed.name
            results = pool.map(lambda seed: reader.check(path, plain, seed, ROUNDS), range(READERS))
        assert list(results) == [None] * READERS


@pytest.mark.parametrize("options", ((), ("--cache-size", "4M")), ids=str)
def test_eight_processes(image_and_plain, mixed, mount, options):
    image, plain = image_and_plain
    script = Path(reader.__file__)
    with mount(image, *options) as root:
        command = [sys.executable, script, root / mixed.name, plain]
        processes = [
            subprocess.Popen([*command, str(seed), str(ROUNDS)], stderr=subprocess.PIPE, text=True)
            for seed in range(READERS)
        ]
        results = [(p.communicate()[1], p.returncode) for p in processes]
        assert results == [("", 0)] * READERS


def test_a_block_is_decoded_once_however_many_ask(mixed, mixed_lossless, mount):
    def read_all(path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            size = os.fstat(fd).st_size
            return sum(len(os.pread(fd, 100_003, at)) for at in range(0, size, 100_003))
        finally:
            os.close(fd)

    with mount(mixed_lossless.path) as root:
        path = root / mixed.name
        assert read_all(path) == path.stat().st_size
        alone = stats(root)["decoded"]
    assert alone["blocks"] > 10 and alone["bytes"] > 0.9 * mixed.stat().st_size

    with mount(mixed_lossless.path) as root:
        path = root / mixed.name
        with ThreadPoolExecutor(READERS) as pool:
            sizes = list(pool.map(read_all, [path] * READERS))
        assert sizes == [path.stat().st_size] * READERS
        assert stats(root)["decoded"] == alone


def test_many_open_files(tiny, tiny_lossless, mount):
    shard = "model-00003-of-00004.safetensors"
    with mount(tiny_lossless.path) as root:
        expected = (tiny / shard).read_bytes()
        files = [open(root / shard, "rb", buffering=0) for _ in range(200)]
        try:
            for i, f in enumerate(files):
                offset = i * 3001
                assert os.pread(f.fileno(), 5000, offset) == expected[offset : offset + 5000]
        finally:
            for f in files:
                f.close()
        drop_page_cache(root / shard)
        assert (root / shard).read_bytes() == expected
