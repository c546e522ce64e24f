"""upg-mount --disk-cache: what was fetched of objects stays on a disk."""

import fcntl
import os
import random
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from support import tensors
from support.disks import mounted_at
from support.mounting import assert_gone, drop_page_cache, force_away, is_mounted, mounted, wait_until
from support.objects import Fault, network
from support.programs import UPG, UPG_MOUNT, often, one_line, run

MIB = 1 << 20


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    source = tmp_path_factory.mktemp("source") / "model"
    tensors.write(source / "model.safetensors", [tensors.random_bits(f"layer.{i}", "I16", (1000, 3000), i) for i in range(6)])
    return source


@pytest.fixture(scope="module")
def address(s3, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("upg") / "model.upg"
    assert run(UPG, "convert", model, "-o", out, "--lossless").returncode == 0
    return s3.put(out)


@pytest.fixture(autouse=True)
def environment(s3, monkeypatch):
    for key, value in s3.environment().items():
        monkeypatch.setenv(key, value)


def options(cache, size="1GiB"):
    return ["--disk-cache", cache, "--disk-cache-size", size]


def content(root):
    path = root / "model.safetensors"
    drop_page_cache(path)
    return path.read_bytes()


def counter(root, name):
    return int(os.getxattr(root, f"user.upg.{name}"))


def units(cache):
    return sorted(path for path in cache.rglob("*") if len(path.name) == 8)


def used(cache):
    return sum(path.stat().st_size for path in cache.rglob("*") if path.is_file() and path.name != "upg-usage")


def test_it_survives_restarts_and_needs_no_server_for_what_it_has(s3, address, model, tmp_path, monkeypatch):
    expected = (model / "model.safetensors").read_bytes()
    cache = tmp_path / "cache"
    with network(s3) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{between.port}")
        with mounted(address, tmp_path / "m", *options(cache)) as root:
            assert content(root) == expected
            wait_until(lambda: counter(root, "disk_cache.bytes_written") >= len(expected) - 2 * MIB, "it is kept")
        assert cache.stat().st_mode & 0o777 == 0o700
        before = len(between.requests)
        with mounted(address, tmp_path / "m", *options(cache)) as root:
            assert content(root) == expected
            assert counter(root, "disk_cache.bytes_read") >= len(expected) - 2 * MIB
        assert len(between.requests) - before <= 2, "what lies on the disk was asked for"


def test_what_is_damaged_is_fetched_again(address, model, tmp_path):
    expected = (model / "model.safetensors").read_bytes()
    cache = tmp_path / "cache"
    with mounted(address, tmp_path / "m", *options(cache)) as root:
        assert content(root) == expected
        wait_until(lambda: len(units(cache)) >= len(expected) // MIB - 1, "it is kept")
    chance = random.Random(1)
    for path in units(cache):
        data = bytearray(path.read_bytes())
        kind = chance.randrange(5)
        if kind == 0:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del data[chance.randrange(len(data)) :]
        elif kind == 2:
            data = bytearray(chance.choice(units(cache)).read_bytes())
        elif kind == 3:
            data = bytearray(len(data))
        path.write_bytes(data)
    (cache / "upg-usage").write_text("no number")
    with mounted(address, tmp_path / "m", *options(cache)) as root:
        assert content(root) == expected
        assert counter(root, "disk_cache.bytes_written") > 0
    with mounted(address, tmp_path / "m", *options(cache)) as root:
        assert content(root) == expected


def test_it_stays_within_its_size(s3, model, tmp_path, tmp_path_factory):
    """Two objects of 36 MB in 64 MiB: the one that was not used goes."""
    cache = tmp_path / "cache"
    out = tmp_path_factory.mktemp("upg") / "model.upg"
    assert run(UPG, "convert", model, "-o", out, "--lossless").returncode == 0
    expected = (model / "model.safetensors").read_bytes()
    for name in ("one.upg", "two.upg", "three.upg"):
        with mounted(s3.put(out, name), tmp_path / "m", *options(cache, "64MiB")) as root:
            assert content(root) == expected
            wait_until(lambda r=root: counter(r, "disk_cache.bytes_written") > 30 * MIB, "it is kept")
            assert used(cache) <= 64 * MIB
    # Nobody uses the first any more, and everybody's sum is what the writers counted.
    assert int((cache / "upg-usage").read_text()) == used(cache)


def test_several_mounts_share_it(address, model, tmp_path):
    expected = (model / "model.safetensors").read_bytes()
    cache = tmp_path / "cache"
    with ExitStack() as stack:
        roots = [stack.enter_context(mounted(address, tmp_path / f"m{i}", *options(cache, "64MiB"))) for i in range(3)]
        readers = [
            subprocess.Popen(["sha256sum", root / "model.safetensors"], stdout=subprocess.PIPE, text=True) for root in roots
        ]
        sums = {reader.communicate(timeout=120)[0].split()[0] for reader in readers}
        assert len(sums) == 1
        assert content(roots[0]) == expected
        # One mount's file is removed under another's feet.
        for path in units(cache):
            path.unlink()
        assert content(roots[1]) == expected
    assert used(cache) <= 64 * MIB


def test_killed_at_any_moment_nothing_wrong_is_left(address, model, tmp_path):
    expected = (model / "model.safetensors").read_bytes()
    cache, point = tmp_path / "cache", tmp_path / "m"
    point.mkdir()
    chance = random.Random(2)
    for _ in range(often(6, 60)):
        command = [str(c) for c in (UPG_MOUNT, address, point, "-f", *options(cache, "64MiB"))]
        daemon = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            wait_until(lambda d=daemon: is_mounted(point) or d.poll() is not None, "mounted")
            reader = subprocess.Popen(["cat", point / "model.safetensors"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(chance.random() * 0.3)
            daemon.send_signal(signal.SIGKILL)
            daemon.communicate(timeout=20)
            reader.wait(timeout=20)
        finally:
            if daemon.poll() is None:
                daemon.kill()
            force_away(point)
        assert used(cache) <= 66 * MIB
    with mounted(address, point, *options(cache, "64MiB")) as root:
        assert content(root) == expected


@pytest.mark.parametrize("what", ["full", "full before", "read-only", "locked"])
def test_a_disk_that_takes_nothing_is_not_needed(address, model, tmp_path, what):
    expected = (model / "model.safetensors").read_bytes()
    log, point = tmp_path / "log", tmp_path / "disk"
    size = "size=8m,nr_inodes=1" if what == "full before" else "size=8m"
    with mounted_at(point, "-t", "tmpfs", "-o", size, "none"), ExitStack() as stack:
        cache = point / "cache"
        if what in ("read-only", "locked"):
            cache.mkdir(mode=0o700)
            lock = stack.enter_context(open(cache / "upg-usage", "w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        if what == "read-only":
            lock.close()
            assert run("mount", "-o", "remount,ro", point).returncode == 0
        root = tmp_path / "m"
        root.mkdir()
        done = run(UPG_MOUNT, address, root, *options(cache), "--cache-size", "16MiB", "--log-file", log)
        assert done.returncode == 0, done.stderr
        stack.callback(force_away, root)
        assert content(root) == expected
        if what != "locked":
            # To whoever mounts what is found then; the daemon's log has the rest.
            wait_until(lambda: "nothing is kept there: " in done.stderr + log.read_text(), "it says so")
            assert content(root) == expected
            # What nobody keeps on the disk is kept in memory, and need not be asked for again.
            before = counter(root, "object.bytes")
            assert content(root) == expected
            assert counter(root, "object.bytes") - before < len(expected) / 4
        assert (done.stderr + log.read_text()).count("nothing is kept") <= 1
        assert run(UPG_MOUNT, "-u", root).returncode == 0
        assert_gone(root)


def test_a_model_larger_than_the_cache_is_read_ahead_each_time(s3, tmp_path, monkeypatch):
    """96 MB in 64 MiB: what is read has always just been removed."""
    source = tmp_path / "large"
    tensors.write(source / "model.safetensors", [tensors.random_bits(f"layer.{i}", "I16", (1000, 3000), i) for i in range(16)])
    out = tmp_path / "large.upg"
    assert run(UPG, "convert", source, "-o", out, "--lossless").returncode == 0
    large = s3.put(out)
    with network(s3) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{between.port}")
        more = [*options(tmp_path / "cache", "64MiB"), "--cache-size", "16MiB"]
        with mounted(large, tmp_path / "m", *more) as root:
            before = len(between.requests)
            for _ in range(3):
                assert content(root) == (source / "model.safetensors").read_bytes()
            # Four units a request would be 72, and what the disk still has divides them: 84 and 91 were
            # seen, and 202 and 210 of one that fetched only what was waited for.
            assert len(between.requests) - before < 150


def test_what_cannot_be_a_cache_is_refused(address, tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("everybody's", "somebody's"):
        (tmp_path / name).mkdir()
    (tmp_path / "everybody's").chmod(0o777)
    os.chown(tmp_path / "somebody's", 1, 1)
    point = tmp_path / "m"
    point.mkdir()
    for arguments, code, expected in [
        (options(tmp_path / "file"), 1, "file: "),
        (options(tmp_path / "file" / "below"), 1, "file/below: "),
        (options(tmp_path / "everybody's"), 1, "nobody else may write to it"),
        (options(tmp_path / "somebody's"), 1, "must belong to whoever mounts"),
        (options(tmp_path / "cache", "1MiB"), 1, "at least 64 MiB"),
        (options(point / "cache"), 1, "must not lie below the mountpoint"),
        (["--disk-cache", tmp_path / "cache"], 2, "--disk-cache-size"),
    ]:
        done = run(UPG_MOUNT, address, point, *arguments)
        assert done.returncode == code and expected in done.stderr, done.stderr
        assert not is_mounted(point)
        if code == 1:
            one_line(done.stderr)
