"""Decoding ahead, the kernel's read-ahead, and O_DIRECT: what a mount does for its readers."""

import errno
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from support import tensors
from support.mounting import foreground, stats
from support.programs import UPG_MOUNT, convert, require

TENSORS, ROWS, COLUMNS = 10, 1500, 1000  # 3 MB each


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model larger than the caches below: 30 MB in tensors of three blocks."""
    each = (tensors.gaussian(f"w{i}", (ROWS, COLUMNS), "BF16", seed=i) for i in range(TENSORS))
    path = tmp_path_factory.mktemp("source") / "large.safetensors"
    return tensors.write(path, list(each), {"format": "pt"}, padded=False)


@pytest.fixture(scope="module")
def image(large, tmp_path_factory):
    return convert(large, tmp_path_factory.mktemp("upg") / "large.upg", "--lossless").path


def parts(length, size=128 << 10):
    return [(at, min(size, length - at)) for at in range(0, length, size)]


def read_parts(path, some):
    """With pread, and the kernel told not to read ahead by itself."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        return [os.pread(fd, length, at) for at, length in some]
    finally:
        os.close(fd)


@pytest.mark.parametrize("cache", ("512M", "12M"))
def test_one_reader_is_decoded_ahead_for_and_nothing_twice(large, image, mount, cache):
    content = large.read_bytes()
    with mount(image, "--cache-size", cache) as root:
        read = read_parts(root / large.name, parts(len(content)))
        assert b"".join(read) == content
        values = stats(root)
        blocks = values["decoded"]["blocks"]
        assert values["ahead"]["blocks"] > blocks / 2
        assert values["ahead"]["wasted"] <= 0.05 * blocks
        assert values["decoded"]["bytes"] <= 1.05 * len(content)
        assert values["cache"]["bytes"] <= values["cache"]["capacity"]


def test_tensors_in_any_order_waste_little(large, image, mount):
    content = large.read_bytes()
    start = len(content) - TENSORS * ROWS * COLUMNS * 2
    length = ROWS * COLUMNS * 2
    with mount(image, "--cache-size", "12M") as root:
        order = random.Random(3).sample(range(TENSORS), TENSORS)
        for i in order:
            at = start + i * length
            some = [(at + a, n) for a, n in parts(length)]
            assert b"".join(read_parts(root / large.name, some)) == content[at : at + length]
        values = stats(root)
        assert values["ahead"]["blocks"] >= TENSORS
        assert values["ahead"]["wasted"] <= 0.2 * values["decoded"]["blocks"]
        # Three blocks each, and at both ends the neighbour's, of which a page holds some bytes.
        assert values["decoded"]["blocks"] <= TENSORS * (3 + 2)


def test_several_streams_at_once_get_the_right_bytes(large, image, mount):
    content = large.read_bytes()
    quarter = len(content) // 4

    def one(root, first):
        some = [(first + at, n) for at, n in parts(quarter, 100_003)]
        return b"".join(read_parts(root / large.name, some)) == content[first : first + quarter]

    with mount(image, "--cache-size", "16M") as root, ThreadPoolExecutor(4) as pool:
        firsts = [i * quarter for i in range(4)]
        assert all(pool.map(one, [root] * 4, firsts))
        assert stats(root)["ahead"]["blocks"] > 8


def test_without_decoders_nothing_is_decoded_ahead(large, image, mount):
    with mount(image, "--decoders", "0") as root:
        assert (root / large.name).read_bytes() == large.read_bytes()
        assert stats(root)["ahead"]["blocks"] == 0


def test_the_kernel_reads_ahead_as_far_as_asked_or_says_how_far(large, image, mount):
    with mount(image, "--readahead-kb", "256") as root:
        device = os.stat(root).st_dev
        setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
        effective = os.getxattr(root, "user.upg.kernel_readahead_kb").decode()
        assert effective == setting.read_text().strip()
        assert effective == ("256" if os.geteuid() == 0 else "128")
        assert stats(root)["kernel_readahead_kb"] == int(effective)


def test_refused_o_direct_leaves_the_page_cache(large, image, mount):
    with mount(image, "--refuse-direct") as root:
        path = root / large.name
        with pytest.raises(OSError) as refused:
            os.open(path, os.O_RDONLY | os.O_DIRECT)
        assert refused.value.errno == errno.EINVAL
        assert path.read_bytes() == large.read_bytes()
    with mount(image) as root:
        os.close(os.open(root / large.name, os.O_RDONLY | os.O_DIRECT))


def test_the_ceiling_answers_with_zeros_and_decodes_nothing(large, image, mount):
    with mount(image, "--bench-null") as root:
        read = np.frombuffer((root / large.name).read_bytes(), np.uint8)
        assert len(read) == large.stat().st_size and not read.any()
        assert stats(root)["decoded"]["blocks"] == 0


def test_a_reader_that_is_killed_leaves_a_mount_that_serves(large, image, mount):
    """With windows under way; and what it left undone is no hindrance to unmounting."""
    program = "import sys\nf = open(sys.argv[1], 'rb', 0)\nwhile True:\n f.seek(0)\n while f.read(65536): pass\n"
    with mount(image, "--cache-size", "12M") as root:
        path = root / large.name
        for _ in range(5):
            child = subprocess.Popen([sys.executable, "-c", program, str(path)])
            try:
                child.wait(0.2)
            except subprocess.TimeoutExpired:
                child.kill()
            child.wait()
        assert path.read_bytes() == large.read_bytes()


def test_bad_numbers_are_usage_errors(image, tmp_path):
    require(UPG_MOUNT.exists(), "no upg-mount")
    for option in (["--readahead-kb", "much"], ["--decoders", "-1"]):
        command = [str(UPG_MOUNT), str(image), str(tmp_path), *option]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr


def test_no_thread_interrupts_whoever_runs(image, tmp_path):
    with foreground(image, tmp_path / "m", "--threads", "3", "--decoders", "2") as daemon:
        policies = [os.sched_getscheduler(int(thread)) for thread in os.listdir(f"/proc/{daemon.pid}/task")]
    assert len(policies) >= 6 and set(policies) == {os.SCHED_BATCH}
