"""Ends that come from elsewhere: a broken connection, a mount that is covered or was moved, signals
that come in pairs, and what a daemon left behind."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from support import tensors
from support.mounting import (
    assert_gone, daemons, foreground, is_mounted, mounts_below, wait_until,
)  # fmt: skip
from support.objects import Fault, network
from support.processes import STRACE, children, is_process, require_strace
from support.programs import UPG, UPG_MOUNT, require, require_fuse, run


@pytest.fixture(autouse=True)
def root():
    require_fuse()
    require(os.geteuid() == 0, "needs root")


@pytest.fixture
def point(tmp_path):
    yield tmp_path / "point"
    for left in reversed(mounts_below(tmp_path)):
        subprocess.run(["umount", "-l", str(left)], capture_output=True, check=False)


@pytest.fixture
def connections(tmp_path):
    """Where the kernel lists its connections; in many containers that is mounted nowhere."""
    place = tmp_path / "connections"
    place.mkdir()
    require(run("mount", "-t", "fusectl", "none", place).returncode == 0, "no fusectl")
    yield place
    run("umount", place)


def connection(point):
    """The number of a mount's connection."""
    lines = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    (number,) = (fields[2].removeprefix("0:") for fields in lines if fields[4] == str(point))
    return number


@contextlib.contextmanager
def opened(path):
    """A descriptor; to close it is an error once the connection is broken."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def end(daemon):
    """(exit status, standard error)"""
    _, errors = daemon.communicate(timeout=15)
    return daemon.returncode, errors


# A connection that breaks


@pytest.mark.parametrize("busy", (False, True), ids=("idle", "busy"))
def test_an_aborted_connection_is_an_error_and_leaves_no_mount(tiny_lossless, point, connections, busy):
    with foreground(tiny_lossless.path, point) as daemon:
        with opened(point / "config.json") if busy else contextlib.nullcontext():
            (connections / connection(point) / "abort").write_text("1")
            status, errors = end(daemon)
        assert status == 1 and "the connection to the kernel broke" in errors and str(point) in errors
        assert_gone(point)


def test_umount_by_force_of_a_mount_in_use(tiny_lossless, point):
    """It aborts the connection and then finds the mount busy: what is left would be dead."""
    with foreground(tiny_lossless.path, point) as daemon:
        with opened(point / "config.json"):
            assert run("umount", "-f", point).returncode != 0
            status, errors = end(daemon)
        assert status == 1 and "the connection to the kernel broke" in errors
        assert_gone(point)


def test_umount_by_force_of_a_mount_that_nobody_uses_is_an_unmount(tiny_lossless, point):
    for _ in range(5):
        with foreground(tiny_lossless.path, point) as daemon:
            done = run("umount", "-f", point)
            assert done.returncode == 0, done.stderr
            assert end(daemon) == (0, "")
            assert_gone(point)


# A mount that is not where it was


def test_a_mount_that_another_covers_is_kept_until_it_can_be_unmounted(tiny, tiny_lossless, tmp_path, point):
    log = tmp_path / "log"
    with foreground(tiny_lossless.path, point, "--log-file", log) as daemon:
        with open(point / "config.json", "rb") as reader:
            assert run("mount", "-t", "tmpfs", "cover", point).returncode == 0
            for count in (1, 2):
                daemon.send_signal(signal.SIGTERM)
                refused = ["another covers it"] * count
                wait_until(lambda r=refused: re.findall(r[0], log.read_text()) == r, "it says why not")
            assert daemon.poll() is None and len(mounts_below(point)) == 2
            assert reader.read() == (tiny / "config.json").read_bytes()
        assert run("umount", point).returncode == 0
        daemon.send_signal(signal.SIGTERM)
        assert end(daemon) == (0, "")
        assert_gone(point)


def test_a_mount_that_was_moved_is_found(tiny_lossless, tmp_path, point):
    above = tmp_path / "above"
    above.mkdir()
    moved = tmp_path / "moved" / "point"
    with foreground(tiny_lossless.path, above / "point") as daemon:
        above.rename(moved.parent)
        assert is_mounted(moved)
        daemon.send_signal(signal.SIGTERM)
        assert end(daemon) == (0, "")
        assert not is_mounted(moved)


# Signals


def served_after(daemon, reader, *signals):
    for number in signals:
        daemon.send_signal(number)
    time.sleep(0.5)
    return daemon.poll() is None and os.read(reader, 1) != b""


@pytest.mark.parametrize("pause", (0, 0.3))
@pytest.mark.parametrize("first", (signal.SIGTERM, signal.SIGHUP))
def test_hanging_up_is_no_second_request(tiny_lossless, point, first, pause):
    """logind ends a session by SIGTERM and SIGHUP: that is one end, and readers are served."""
    (second,) = {signal.SIGTERM, signal.SIGHUP} - {first}
    with foreground(tiny_lossless.path, point) as daemon:
        with opened(point / "config.json") as reader:
            daemon.send_signal(first)
            time.sleep(pause)
            assert served_after(daemon, reader, second)
            assert not is_mounted(point)
        status, errors = end(daemon)
        assert status == 0 and "in use" in errors


def test_who_asks_twice_means_it(tiny_lossless, point):
    with foreground(tiny_lossless.path, point) as daemon:
        with opened(point / "config.json") as reader:
            assert served_after(daemon, reader, signal.SIGTERM)
            daemon.send_signal(signal.SIGINT)
            assert end(daemon)[0] == 1
        assert_gone(point)


# A store that is silent


@pytest.fixture(scope="module")
def address(s3, tmp_path_factory):
    """An object of 20 MB."""
    source = tmp_path_factory.mktemp("source") / "model"
    content = [tensors.random_bits(f"layer.{i}", "I16", (1000, 2000), i) for i in range(5)]
    tensors.write(source / "model.safetensors", content)
    out = tmp_path_factory.mktemp("upg") / "model.upg"
    assert run(UPG, "convert", source, "-o", out, "--lossless").returncode == 0
    return s3.put(out)


@pytest.fixture
def in_vain(s3, address, point, monkeypatch):
    """in_vain(*options): a mount's daemon; somebody reads there, and the store has fallen silent."""

    @contextlib.contextmanager
    def reading(*options):
        silent = False
        with network(s3, lambda number, request: Fault(latency=300 if silent else 0)) as between:
            for key, value in s3.environment(between.port).items():
                monkeypatch.setenv(key, value)
            with foreground(address, point, "--deadline", "300", *options) as daemon:
                silent = True
                asked = len(between.requests)
                reader = subprocess.Popen(["cat", point / "model.safetensors"], stdout=subprocess.DEVNULL)
                try:
                    wait_until(lambda: len(between.requests) > asked, "the store is asked")
                    yield daemon
                finally:
                    # In this order: the reader waits for the daemon's answer, killed or not.
                    daemon.kill()
                    reader.kill()
                    reader.wait(timeout=15)

    return reading


def metrics_port(daemon):
    return int(re.search(r":(\d+)/metrics", daemon.stderr.readline())[1])


def connected(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def test_health_while_all_threads_wait_for_the_store(in_vain):
    """It is 503, and whoever asked gets to hear it, however many others connect in the meantime."""
    with in_vain("--threads", "1", "--metrics", "127.0.0.1:0") as daemon:
        port = metrics_port(daemon)
        with connected(port) as client, contextlib.ExitStack() as others:
            client.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            time.sleep(0.2)
            for _ in range(100):
                others.enter_context(connected(port))
            assert client.recv(100).startswith(b"HTTP/1.1 503 ")


def test_what_asks_a_mount_ends_with_its_daemon(in_vain):
    """systemd ends the daemon alone (KillMode=process): whoever it started must end by itself."""
    with in_vain("--threads", "1", "--metrics", "127.0.0.1:0") as daemon:
        with connected(metrics_port(daemon)) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            wait_until(lambda: len(children(daemon.pid)) > 1, "probe and watchdog")
            started = children(daemon.pid)
            daemon.kill()
            daemon.communicate(timeout=15)
        wait_until(lambda: not any(map(is_process, started)), "what it started has ended")


# What is left


def test_only_what_is_dead_is_cleared(tiny_lossless, tmp_path, point):
    def clear(place):
        done = run(UPG_MOUNT, "-u", place, "--if-dead", timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    clear(tmp_path / "absent")
    clear(tmp_path)
    with foreground(tiny_lossless.path, point) as daemon:
        # The kernel remembers what it looks like, which must not be taken for an answer later.
        os.stat(point)
        clear(point)
        assert is_mounted(point) and daemon.poll() is None
        daemon.kill()
        daemon.communicate(timeout=15)
        clear(point)
        assert not is_mounted(point)
    assert run(UPG_MOUNT, "--if-dead", tmp_path).returncode == 2


def test_what_fails_after_mounting_leaves_no_mount(tiny_lossless, point):
    """The second thread that the main thread starts is the one that answers monitors."""
    require_strace()
    point.mkdir()
    inject = "inject=clone3,clone:error=EAGAIN:when=2"
    options = ("-f", "--decoders", "0", "--metrics", "127.0.0.1:0")
    done = run(*STRACE, "-e", inject, UPG_MOUNT, tiny_lossless.path, point, *options, timeout=60)
    assert done.returncode == 1 and "metrics: " in done.stderr, done
    assert_gone(point)
