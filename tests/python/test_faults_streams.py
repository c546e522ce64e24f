"""Programs started with streams or signals that are not what one is used to."""

import os
import resource
import signal
import subprocess
import time

import pytest

from support import tensors
from support.mounting import (
    PATIENCE, assert_gone, daemons, force_away, foreground, is_mounted, stats, wait_until,
)  # fmt: skip
from support.programs import UPG_MOUNT, convert, require_fuse, run


@pytest.fixture
def point(tmp_path):
    require_fuse()
    point = tmp_path / "point"
    point.mkdir()
    yield point
    force_away(point)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """An image whose reads are errors, each of which is a line of the log."""
    base = tmp_path_factory.mktemp("damaged")
    source = tensors.write(base / "m.safetensors", [tensors.gaussian("w", (500, 2000))])
    image = convert(source, base / "m.upg", "--lossless").path
    data = bytearray(image.read_bytes())
    for at in range(4096, len(data) // 2, 4096):
        data[at] ^= 1
    image.write_bytes(data)
    return image


def read_in_vain(path, times):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        for _ in range(times):
            with pytest.raises(OSError):
                os.pread(fd, 4096, 1 << 18)
    finally:
        os.close(fd)


@pytest.mark.parametrize("closed", ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"))
def test_without_standard_streams(tiny, tiny_lossless, point, closed):
    """What is opened then must not become one of them."""
    command = f'"$0" "$1" "$2" {closed}'
    done = run("sh", "-c", command, UPG_MOUNT, tiny_lossless.path, point, timeout=60)
    assert done.returncode == 0, done.stderr
    assert tensors.tree(point) == tensors.tree(tiny)
    (daemon,) = daemons(point)
    for stream in range(3):
        assert os.readlink(f"/proc/{daemon}/fd/{stream}") == "/dev/null"
    done = run("sh", "-c", f'"$0" -u "$1" {closed}', UPG_MOUNT, point, timeout=60)
    assert done.returncode == 0
    assert_gone(point)


def test_nobody_reads_the_log_any_more(damaged, point):
    """Standard error is a pipe that nobody reads: a line of the log must not end a thread."""
    command = [str(part) for part in (UPG_MOUNT, damaged, point, "-f", "--threads", "2")]
    daemon = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: is_mounted(point), "mounted")
        daemon.stderr.close()
        # More often than there are threads.
        read_in_vain(point / "m.safetensors", 20)
        assert stats(point)["errors"] >= 20
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(PATIENCE) == 0
        assert_gone(point)
    finally:
        daemon.kill()
        daemon.wait()


def test_a_log_that_reaches_a_limit(damaged, point, tmp_path):
    """The signal of the limit on the size of files would end the daemon."""
    log = tmp_path / "log"
    command = ("prlimit", "--fsize=1000", UPG_MOUNT, damaged, point, "--log-file", log)
    assert run(*command).returncode == 0
    read_in_vain(point / "m.safetensors", 50)
    assert log.stat().st_size == 1000
    assert stats(point)["errors"] >= 50
    assert run(UPG_MOUNT, "-u", point).returncode == 0
    assert_gone(point)


def test_a_log_on_a_full_disk(damaged, point):
    command = (UPG_MOUNT, damaged, point, "--log-file", "/dev/full")
    assert run(*command).returncode == 0
    read_in_vain(point / "m.safetensors", 50)
    assert stats(point)["errors"] >= 50
    assert run(UPG_MOUNT, "-u", point).returncode == 0
    assert_gone(point)


@pytest.mark.parametrize("number", (signal.SIGHUP, signal.SIGPIPE))
def test_a_terminal_that_goes_away(tiny, tiny_lossless, tmp_path, number):
    """SIGHUP ends a mount in the foreground as other signals do; SIGPIPE ends nothing."""
    point = tmp_path / "point"
    with foreground(tiny_lossless.path, point) as daemon:
        daemon.send_signal(number)
        if number == signal.SIGHUP:
            assert daemon.wait(PATIENCE) == 0
            assert_gone(point)
            return
        assert tensors.tree(point) == tensors.tree(tiny)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(PATIENCE) == 0


def test_a_signal_while_it_starts(tiny, tiny_lossless, point):
    """It is mounted, or it is not; nothing in between is left."""
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
        for delay in (0, 0.002, 0.005, 0.01, 0.02):
            command = [str(part) for part in (UPG_MOUNT, tiny_lossless.path, point)]
            starting = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
            time.sleep(delay)
            # To both, parent and child, as a terminal sends it.
            for pid in {starting.pid, *daemons(point)}:
                os.kill(pid, number)
            starting.wait(PATIENCE)
            wait_until(lambda: is_mounted(point) or not daemons(point), "it has settled")
            if is_mounted(point) and daemons(point):
                # One that was told to end while it started may do so a moment later.
                run(UPG_MOUNT, "-u", point)
            assert_gone(point)


def test_ignored_signals(tiny, tiny_lossless, point):
    """nohup, and a parent that ignores what children send it."""

    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    done = run(UPG_MOUNT, tiny_lossless.path, point, preexec_fn=ignore)
    assert done.returncode == 0, done.stderr
    assert tensors.tree(point) == tensors.tree(tiny)
    assert run(UPG_MOUNT, "-u", point, preexec_fn=ignore).returncode == 0
    assert_gone(point)
