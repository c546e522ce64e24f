"""Objects behind a bad network, or a bad server: right bytes, or an error in time."""

import errno
import itertools
import mmap
import os
import threading
import time

import pytest

from support import tensors
from support.mounting import drop_page_cache, foreground, is_mounted, mounted
from support.objects import Fault, network, seconds
from support.programs import UPG, UPG_MOUNT, often, one_line, run

DEADLINE = 3
# How long a failure is one for all who ask, and a request may stand still before it is made again.
PASSED = 1.1 + DEADLINE / 3


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """20 MB that do not compress, so that there are units enough to fail."""
    source = tmp_path_factory.mktemp("source") / "model"
    names = [f"layer.{i}" for i in range(5)]
    tensors.write(source / "model.safetensors", [tensors.random_bits(name, "I16", (1000, 2000), i) for i, name in enumerate(names)])
    return source


@pytest.fixture(scope="module")
def image(s3, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("upg") / "model.upg"
    assert run(UPG, "convert", model, "-o", out, "--lossless").returncode == 0
    return out, s3.put(out)


@pytest.fixture
def behind(s3, image, tmp_path, monkeypatch):
    """behind(decide, *options, deadline=DEADLINE): a mount whose requests go through a network that fails as decided."""

    class Mounted:
        def __init__(self, decide, options, deadline):
            self.network = network(s3, decide)
            self.options = ["--deadline", str(deadline), *options]

        def __enter__(self):
            self.between = self.network.__enter__()
            for key, value in s3.environment(self.between.port).items():
                monkeypatch.setenv(key, value)
            self.mount = mounted(image[1], tmp_path / "m", *self.options)
            try:
                self.root = self.mount.__enter__()
            except BaseException:
                self.network.__exit__(None, None, None)
                raise
            return self

        def __exit__(self, *error):
            try:
                self.mount.__exit__(*error)
            finally:
                self.network.__exit__(*error)

        def read(self):
            path = self.root / "model.safetensors"
            drop_page_cache(path)
            return path.read_bytes()

    return lambda decide, *options, deadline=DEADLINE: Mounted(decide, options, deadline)


@pytest.fixture(scope="module")
def content(model):
    return (model / "model.safetensors").read_bytes()


def sometimes(fault, every=3):
    """Requests number 2, 2 + every, ... are befallen."""
    return lambda number, _: fault if number % every == 2 else Fault()


PASSING = {
    "500": Fault(status=500),
    "503": Fault(status=503),
    "429": Fault(status=429),
    "latency": Fault(latency=0.3),
    "slow": Fault(rate=2_000_000),
    "reset": Fault(reset=True),
    "reset at once": Fault(reset=True, cut=1),
    "truncated": Fault(cut=500_000),
    "empty": Fault(cut=0),
    "stalled": Fault(stall=True),
    "other range": Fault(headers={"content-range": "bytes 0-1048575/20000000"}),
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_costs_time_and_nothing_else(behind, content, fault):
    with behind(sometimes(PASSING[fault])) as mount:
        assert mount.read() == content
        assert sum(request.fault is PASSING[fault] for request in mount.between.log) > 1
        if PASSING[fault].status or PASSING[fault].reset or PASSING[fault].cut is not None:
            assert int(os.getxattr(mount.root, "user.upg.object.retries")) > 0


@pytest.mark.parametrize("fault", ["500", "reset at once", "empty", "stalled", "trickle", "late", "gone", "refused"])
def test_what_does_not_pass_is_an_error_in_time_and_passes_later(behind, content, fault):
    broken = threading.Event()
    faults = PASSING | {"late": Fault(latency=60), "gone": Fault(status=404), "refused": Fault(status=403)}
    faults["trickle"] = Fault(rate=5000)
    with behind(lambda *_: faults[fault] if broken.is_set() else Fault()) as mount:
        broken.set()
        with pytest.raises(OSError) as error:
            start = time.monotonic()
            mount.read()
        assert error.value.errno == errno.EIO
        # Although the kernel asks again, for the page alone. Of what stalls a half comes each time, until that
        # is too little to wait for.
        assert time.monotonic() - start < (5 if fault == "stalled" else 2) * DEADLINE
        broken.clear()
        time.sleep(PASSED)
        assert mount.read() == content


@pytest.mark.parametrize("fault", ["truncated", "slow"])
def test_what_came_before_an_answer_broke_off_is_not_lost(behind, content, fault):
    """No answer is ever whole, or none has a unit within the deadline."""
    faults = {"truncated": Fault(cut=200_000), "slow": Fault(rate=600_000)}
    with behind(lambda *_: faults[fault], deadline=1) as mount:
        assert mount.read() == content


def test_few_requests_are_made(behind, content):
    """Units are asked for together, and ahead of the reader."""
    ahead = []

    def decide(number, _):
        time.sleep(0.02)
        return Fault()

    with behind(decide) as mount:
        before = len(mount.between.requests)
        assert mount.read() == content
        ahead = mount.between.log[before:]
    # Four MiB each, but where the reader starts, and at the ends of tensors.
    assert len(ahead) <= len(content) / (4 << 20) + 6, [request.asked for request in ahead]
    # More than one at a time: each came before the one before it can have been answered and read.
    assert any(b.when - a.when < 0.02 for a, b in itertools.pairwise(ahead))


def test_the_longer_it_fails_the_fewer_are_the_requests(behind, content):
    broken = threading.Event()
    with behind(lambda *_: Fault(status=503) if broken.is_set() else Fault()) as mount:
        broken.set()
        before = len(mount.between.log)
        with pytest.raises(OSError):
            mount.read()
        made = mount.between.log[before:]
    first = [request.when for request in made if request.asked == made[0].asked]
    gaps = [b - a for a, b in itertools.pairwise(first)]
    # Twice as long each time, from 50 ms on, until the end is near or somebody asks anew.
    assert len(gaps) >= 4 and all(gap > 0.8 * 0.05 * 2**i for i, gap in enumerate(gaps[:5])), gaps
    assert len(first) < 20


def test_many_readers_wait_no_longer_than_one(behind, content):
    broken = threading.Event()
    with behind(lambda *_: Fault(latency=60) if broken.is_set() else Fault(), "--threads", "4") as mount:
        broken.set()
        outcomes = []

        def read(i):
            fd = os.open(mount.root / "model.safetensors", os.O_RDONLY | os.O_DIRECT)
            try:
                start = time.monotonic()
                try:
                    os.preadv(fd, [mmap.mmap(-1, 4096)], (2 << 20) + i * (5 << 18))
                    outcomes.append(("read", time.monotonic() - start))
                except OSError as error:
                    outcomes.append((error.errno, time.monotonic() - start))
            finally:
                os.close(fd)

        readers = [threading.Thread(target=read, args=(i,)) for i in range(12)]
        [reader.start() for reader in readers]
        [reader.join(timeout=30) for reader in readers]
        assert len(outcomes) == 12, "a reader hangs"
        assert all(taken < 2 * DEADLINE for _, taken in outcomes), sorted(outcomes)
        # Nobody is stuck: what needs no server answers.
        assert os.listdir(mount.root) == ["model.safetensors"]
        broken.clear()
        time.sleep(PASSED)
        assert mount.read() == content


def test_a_flipped_bit_is_never_served(behind, content):
    broken = threading.Event()
    everywhere = Fault(flip=range(0, len(content), 1 << 14))
    with behind(lambda *_: everywhere if broken.is_set() else Fault()) as mount:
        broken.set()
        path = mount.root / "model.safetensors"
        served = 0
        with open(path, "rb", buffering=0) as file:
            for start in range(0, len(content), 1 << 16):
                try:
                    part = os.pread(file.fileno(), 1 << 16, start)
                except OSError as error:
                    assert error.errno == errno.EIO
                    continue
                assert part == content[start : start + len(part)]
                served += len(part)
        assert served < len(content)
        broken.clear()
        assert mount.read() == content


@pytest.mark.parametrize("disk", [False, True])
def test_what_came_damaged_is_fetched_again(behind, content, tmp_path, disk):
    """Also by who finds it in the disk cache, where it has a checksum of its own, which fits."""
    broken = threading.Event()
    came = set()

    def decide(_, request):
        """Each MiB is damaged when it comes for the first time."""
        if not broken.is_set():
            return Fault()
        start, end = map(int, request.headers["Range"].removeprefix("bytes=").split("-"))
        new = set(range(start >> 20, (end >> 20) + 1)) - came
        came.update(new)
        return Fault(flip=[(unit << 20) + 5000 - start for unit in new])

    options = ["--disk-cache", tmp_path / "cache", "--disk-cache-size", "1GiB"] if disk else []
    with behind(decide, *options) as mount:
        broken.set()
        assert mount.read() == content
        assert len(came) > 10
    with behind(lambda *_: Fault(), *options) as mount:
        assert mount.read() == content


@pytest.fixture(scope="module")
def many_tensors(s3, tmp_path_factory):
    """An archive whose index is not read with its tail, as it is longer."""
    source = tmp_path_factory.mktemp("many") / "many"
    tensors.write(source / "model.safetensors", [tensors.random_bits(f"layer.{i}", "I16", (10, 10), i) for i in range(3000)])
    out = source.parent / "many.upg"
    assert run(UPG, "convert", source, "-o", out, "--lossless").returncode == 0
    return out, s3.put(out), (source / "model.safetensors").read_bytes()


@pytest.mark.parametrize("disk", [False, True])
@pytest.mark.parametrize("what", ["header", "index", "trailer", "long index"])
def test_what_comes_damaged_while_it_is_opened_is_fetched_again(s3, image, content, many_tensors, tmp_path, monkeypatch, what, disk):
    """And does not stay on the disk, where every later mount would find it."""
    file, address, expected = many_tensors if what == "long index" else (*image, content)
    end = file.read_bytes()[-64:]
    index, length = (int.from_bytes(end[at : at + 8], "little") for at in (0, 8))
    assert (length > 64 << 10) == (what == "long index")
    place = {"header": 3, "trailer": file.stat().st_size - 20}.get(what, index + 10)
    damaged = []

    def decide(_, request):
        start, last = map(int, request.headers["Range"].removeprefix("bytes=").split("-"))
        if damaged or not start <= place <= last:
            return Fault()
        damaged.append(start)
        return Fault(flip=[place - start])

    options = ["--disk-cache", tmp_path / "cache", "--disk-cache-size", "1GiB"] if disk else []
    for decide_now in (decide, lambda *_: Fault()):
        with network(s3, decide_now) as between:
            for key, value in s3.environment(between.port).items():
                monkeypatch.setenv(key, value)
            with mounted(address, tmp_path / "m", *options) as root:
                assert (root / "model.safetensors").read_bytes() == expected
    assert damaged


MARKS = {
    "tag": ({}, {"etag": '"other"'}),
    "weak tag": ({"etag": 'W/"one"'}, {"etag": 'W/"other"'}),
    "time": ({"etag": None}, {"etag": None, "last-modified": "Thu, 01 Jan 2026 00:00:00 GMT"}),
    "no tag any more": ({}, {"etag": None}),
}


@pytest.mark.parametrize("mark", MARKS)
def test_every_answer_must_be_of_the_same_version(s3, image, content, tmp_path, mark):
    """The bytes are the same: only what the server says of them is not."""
    at_first, later = MARKS[mark]
    replaced = threading.Event()
    log, point = tmp_path / "log", tmp_path / "m"
    point.mkdir()
    with network(s3, lambda *_: Fault(headers=later if replaced.is_set() else at_first)) as between:
        done = run(UPG_MOUNT, image[1], point, "--log-file", log, env=s3.environment(between.port))
        assert done.returncode == 0, done.stderr
        try:
            with open(point / "model.safetensors", "rb", buffering=0) as file:
                assert os.pread(file.fileno(), 4096, 0) == content[:4096]
                # What is on its way by now is of the right version.
                time.sleep(1)
                replaced.set()
                with pytest.raises(OSError) as error:
                    for start in range(0, len(content), 1 << 20):
                        os.pread(file.fileno(), 4096, start)
                assert error.value.errno == errno.EIO
        finally:
            run(UPG_MOUNT, "-u", point)
        assert "it was replaced since it was opened" in log.read_text()
        conditions = [request.condition for request in between.log]
        assert len(conditions) > 3 and conditions[0] is None
        expected = s3.client.head_object(Bucket="models", Key=image[0].name)["ETag"] if "etag" not in at_first else None
        assert set(conditions[1:]) == {expected}


@pytest.mark.parametrize("disk", [False, True])
def test_a_replaced_object_is_an_error_and_no_mixture(s3, behind, image, model, content, tmp_path, disk):
    """The other one has the same size, blocks in the same places, and other bytes."""
    other = tmp_path / "other"
    names = [f"layer.{i}" for i in range(5)]
    tensors.write(other / "model.safetensors", [tensors.random_bits(name, "I16", (1000, 2000), 77 + i) for i, name in enumerate(names)])
    out = tmp_path / "model.upg"
    assert run(UPG, "convert", other, "-o", out, "--lossless").returncode == 0
    assert out.stat().st_size == image[0].stat().st_size
    options = ["--disk-cache", tmp_path / "cache", "--disk-cache-size", "1GiB"] if disk else []
    path_of = "model.safetensors"
    try:
        with behind(lambda *_: Fault(), *options) as mount:
            with open(mount.root / path_of, "rb", buffering=0) as file:
                assert os.pread(file.fileno(), 4096, 0) == content[:4096]
                s3.put(out)
                time.sleep(0.1)
                outcomes = set()
                for start in range(0, len(content), 1 << 20):
                    try:
                        part = os.pread(file.fileno(), 4096, start)
                    except OSError as error:
                        assert error.errno == errno.EIO
                        outcomes.add("error")
                        continue
                    assert part == content[start : start + 4096]
                    outcomes.add("right")
                assert "error" in outcomes
        # Mounted again, it is the new one, whatever the disk has of the old one.
        with behind(lambda *_: Fault(), *options) as mount:
            assert mount.read() == (other / path_of).read_bytes()
    finally:
        s3.put(image[0])


def test_the_daemon_says_what_is_wrong(s3, image, tmp_path):
    broken = threading.Event()
    with network(s3, lambda *_: Fault(status=412) if broken.is_set() else Fault()) as between:
        env = s3.environment(between.port)
        log = tmp_path / "log"
        (tmp_path / "m").mkdir()
        done = run(UPG_MOUNT, image[1], tmp_path / "m", "--log-file", log, env=env)
        assert done.returncode == 0, done.stderr
        try:
            broken.set()
            with pytest.raises(OSError):
                (tmp_path / "m" / "model.safetensors").read_bytes()
        finally:
            run(UPG_MOUNT, "-u", tmp_path / "m")
        assert f"{image[1]}: it was replaced since it was opened" in log.read_text()


def test_it_ends_while_readers_wait(s3, image, tmp_path, monkeypatch):
    """Unmounted, or killed, with requests under way that nobody answers."""
    broken = threading.Event()
    with network(s3, lambda *_: Fault(latency=60) if broken.is_set() else Fault()) as between:
        for key, value in s3.environment(between.port).items():
            monkeypatch.setenv(key, value)
        for end in ("terminate", "kill"):
            broken.clear()
            point = tmp_path / end
            with foreground(image[1], point, "--deadline", str(DEADLINE)) as daemon:
                broken.set()
                failed = []

                def read(path=point / "model.safetensors", failed=failed):
                    try:
                        path.read_bytes()
                    except OSError as error:
                        failed.append(error.errno)

                reader = threading.Thread(target=read)
                reader.start()
                time.sleep(0.5)
                getattr(daemon, end)()
                _, taken = seconds(lambda d=daemon: d.wait(timeout=30))
                assert taken < 2 * DEADLINE
                reader.join(timeout=10)
                assert not reader.is_alive() and failed
            assert not is_mounted(point)


def test_a_verification_ends_when_the_server_does(s3, image, tmp_path):
    """That says nothing about the file."""
    with network(s3, lambda number, _: Fault(status=403) if number > 2 else Fault()) as between:
        env = s3.environment(between.port)
        done, taken = seconds(lambda: run(UPG, "verify", image[1], env=env))
        assert done.returncode == 1 and "403" in one_line(done.stderr), (done.stdout, done.stderr)
        assert taken < 10
    with network(s3, lambda number, _: Fault(status=500) if number > 2 else Fault()) as between:
        env = s3.environment(between.port)
        done, taken = seconds(lambda: run(UPG_MOUNT, image[1], tmp_path, "--verify", "--deadline", "2", env=env))
        assert done.returncode == 1 and "came within 2 s" in done.stderr, done.stderr
        assert taken < 20 and not is_mounted(tmp_path)


def test_a_dead_server_fails_the_mount_in_time(s3, image, tmp_path):
    with network(s3, lambda *_: Fault(stall=True, latency=100)) as between:
        env = s3.environment(between.port)
        done, taken = seconds(lambda: run(UPG_MOUNT, image[1], tmp_path, "--deadline", "2", env=env))
        assert done.returncode == 1 and "nothing came within 2 s" in one_line(done.stderr)
        assert taken < 10


@pytest.mark.parametrize("seed", range(often(2, 20)))
def test_a_network_that_does_everything(behind, content, seed):
    import random

    random = random.Random(seed)
    kinds = [Fault() for _ in range(10)] + [
        PASSING[name] for name in ("500", "429", "latency", "reset", "truncated", "empty", "stalled")
    ]
    with behind(lambda *_: random.choice(kinds)) as mount:
        for _ in range(3):
            start = random.randrange(len(content))
            with open(mount.root / "model.safetensors", "rb", buffering=0) as file:
                try:
                    assert os.pread(file.fileno(), 1 << 20, start) == content[start : start + (1 << 20)]
                except OSError as error:
                    assert error.errno == errno.EIO
        try:
            assert mount.read() == content
        except OSError as error:
            assert error.errno == errno.EIO


def test_nothing_secret_is_in_logs_or_attributes(s3, image, tmp_path):
    log, point = tmp_path / "log", tmp_path / "m"
    point.mkdir()
    with network(s3, sometimes(Fault(status=500))) as between:
        env = s3.environment(between.port) | {"UPG_LOG": "trace"}
        done = run(UPG_MOUNT, image[1], point, "--log-file", log, env=env)
        assert done.returncode == 0, done.stderr
        try:
            tensors.tree(point)
            shown = "".join(os.getxattr(point, name).decode() for name in os.listxattr(point))
        finally:
            run(UPG_MOUNT, "-u", point)
    shown += log.read_text()
    assert "asking again" in shown
    for secret in (s3.secret, s3.key, "Signature="):
        assert secret not in shown
