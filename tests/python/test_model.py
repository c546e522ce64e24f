"""Random sequences of operations on a mount and on a plain directory with the same content: from
several threads and processes at once, interrupted, killed, with caches dropped under them."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from support import tensors
from support.model_sequence import Sequence, catalogue
from support.mounting import PATIENCE, daemons, stats
from support.programs import GOLDEN, REFERENCE_DECODER, convert, often, run

DROP_CACHES = Path("/proc/sys/vm/drop_caches")
READERS = 3  # processes, of two threads each
OPTIONS = (
    ("--cache-size", "4M"),
    ("--cache-size", "4M", "--readahead-kb", "128", "--threads", "2", "--decoders", "3"),
    ("--no-push", "--decoders", "0", "--threads", "1", "--drop-compressed"),
)


@pytest.fixture(scope="session")
def varied(mixed, tmp_path_factory):
    """A large file, one that is all exact tensors, 300 small ones, directories in directories,
    names in all scripts, and files of one page and about."""
    root, draw = tmp_path_factory.mktemp("source") / "varied", np.random.default_rng(21)
    (root / "many").mkdir(parents=True)
    (root / mixed.name).write_bytes(mixed.read_bytes())
    exact = [tensors.random_bits(f"t{i}", "I64", (9_001 + i,), seed=i) for i in range(9)]
    tensors.write(root / "a" / "b" / "c" / "exact.safetensors", exact, padded=False)
    for i in range(300):
        length = int(draw.integers(1, 3000))
        (root / "many" / f"{'äß€😀'[i % 4]}{i}").write_bytes(draw.bytes(length))
    for size in (0, 1, 4095, 4096, 4097, 65_536, 1 << 20, (1 << 20) + 1):
        (root / "a" / f"{size} bytes").write_bytes(draw.bytes(size))
    return root


@pytest.fixture(scope="session")
def varied_image(varied, tmp_path_factory):
    return convert(varied, tmp_path_factory.mktemp("upg") / "varied.upg", "--lossless").path


@pytest.fixture
def several(tmp_path):
    """(image of two models, its files)."""
    image, plain = GOLDEN / "several-models.upg", tmp_path / "plain"
    done = run(sys.executable, REFERENCE_DECODER, image, "-o", plain)
    assert done.returncode == 0, done.stderr
    return image, plain


class Reading:
    """Processes that read, and how many operations they have reported."""

    def __init__(self, mount, plain, directory):
        self.trees, self.directory = [str(mount), str(plain)], directory
        self.running, self.logs, self.started = [], [], 0

    def start(self, seed, *options):
        log = self.directory / f"reader-{self.started}"
        self.started += 1
        command = [sys.executable, "-m", "support.model_reader", *self.trees, str(seed), *options]
        with open(log, "wb") as out:
            reader = subprocess.Popen(command, stdout=out, stderr=out, cwd=Path(__file__).parent)
        self.running.append((reader, log))
        self.logs.append(log)

    def kill_one(self, choose):
        """In the middle of a request: the daemon is held for a while, so that all readers wait for
        it, and signals find them waiting. Once it goes on the killed one must be gone."""
        reader, log = self.running.pop(choose.randrange(len(self.running)))
        (daemon,) = daemons(self.trees[0])
        os.kill(daemon, signal.SIGSTOP)
        try:
            time.sleep(choose.random() * 0.1)
            reader.kill()
        finally:
            os.kill(daemon, signal.SIGCONT)
        assert reader.wait(PATIENCE) in (-signal.SIGKILL, 0), log.read_text()

    def finish(self, patience=300):
        for reader, log in self.running:
            assert reader.wait(patience) == 0, log.read_text()
        self.running = []

    def kill_all(self):
        for reader, _ in self.running:
            reader.kill()
            reader.wait()

    def operations(self):
        lines = (line for log in self.logs for line in log.read_text().splitlines())
        return sum(int(line.split()[0]) for line in lines if line.endswith(" operations"))


def drop_caches(choose):
    """As a machine does that needs the memory: pages, and inodes and names."""
    if os.access(DROP_CACHES, os.W_OK):
        DROP_CACHES.write_text(choose.choice("123"))


def read_and_disturb(reading, seconds, seed):
    choose = random.Random(seed)
    end = time.monotonic() + seconds
    options = ("--disturbed", "--seconds")
    try:
        for i in range(READERS):
            reading.start(seed + i, *options, str(seconds))
        while (left := end - time.monotonic()) > 0.5:
            time.sleep(min(left, choose.expovariate(3)))
            assert all(reader.poll() in (None, 0) for reader, _ in reading.running)
            if choose.random() < 0.5:
                drop_caches(choose)
            elif (left := end - time.monotonic()) > 0.5:
                reading.kill_one(choose)
                reading.start(seed + reading.started * 1000, *options, str(left))
        reading.finish()
    finally:
        reading.kill_all()
        for log in reading.logs:
            said = log.read_text().splitlines(keepends=True)
            print(*(line for line in said if not line.endswith(" operations\n")), sep="", end="")


@pytest.mark.timeout(often(300, 3000))
@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_a_mount_is_a_directory(varied, varied_image, mount, tmp_path, options):
    seed = int(os.environ.get("UPG_SEED") or often(7, time.time_ns() % 10**9))
    print(f"UPG_SEED={seed}")
    with mount(varied_image, *options) as root:
        reading = Reading(root, varied, tmp_path)
        read_and_disturb(reading, often(2, 300), seed)
        print(reading.operations(), "operations by", reading.started, "processes")
        assert reading.operations() > 100
        assert tensors.tree(root) == tensors.tree(varied)
        assert stats(root)["errors"] == 0


def test_several_models_are_directories(several, mount, tmp_path):
    image, plain = several
    with mount(image) as root:
        reading = Reading(root, plain, tmp_path)
        read_and_disturb(reading, often(2, 100), seed=77)
        assert reading.operations() > 100
        assert tensors.tree(root) == tensors.tree(plain)
        assert stats(root)["errors"] == 0


def test_a_sequence_is_that_of_its_seed(varied):
    """Else nothing could be run again."""
    known = catalogue(varied)
    first, again, other = (Sequence(seed, known) for seed in ("1 0", "1 0", "1 1"))
    drawn = [next(first) for _ in range(500)]
    assert drawn == [next(again) for _ in range(500)]
    assert drawn != [next(other) for _ in range(500)]


@pytest.mark.parametrize("what", ("a byte", "a name", "a length"))
def test_a_difference_is_found(varied, varied_image, mount, tmp_path, what):
    """Else the tests above would prove nothing; and it is found again by the command printed."""
    other = tmp_path / "other"
    assert run("cp", "-a", varied, other).returncode == 0
    large = other / "mixed.safetensors"
    if what == "a byte":
        content = bytearray(large.read_bytes())
        content[::100_000] = bytes(byte ^ 1 for byte in content[::100_000])
        large.write_bytes(content)
    elif what == "a name":
        (other / "many" / "more").touch()
    else:
        os.truncate(large, large.stat().st_size - 1)
    with mount(varied_image) as root:
        reading = Reading(root, other, tmp_path)
        reading.start(1, "--count", "5000")
        assert reading.running[0][0].wait(PATIENCE * 4) == 3
        said = reading.logs[0].read_text()
        again = said.split("again: python ")[1].split()
        command = [sys.executable, *again]
        repeated = run(*command, cwd=Path(__file__).parent)
        assert repeated.returncode == 3 and repeated.stderr in said
