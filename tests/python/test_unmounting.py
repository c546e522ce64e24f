"""Every way to end a mount leaves no mount, no process, and exit status 0."""

import errno
import os
import signal
import subprocess
import time

import pytest

from support.mounting import (
    assert_gone, daemons, force_away, foreground, is_mounted, wait_until,
)  # fmt: skip
from support.programs import UPG_MOUNT, require_fuse, run


def by_signal(number):
    return lambda daemon, point: daemon.send_signal(number)


def by_command(*command):
    def unmount(daemon, point):
        done = run(*command, point, timeout=60)
        assert done.returncode == 0, done.stderr

    return unmount


WAYS = {
    "SIGTERM": by_signal(signal.SIGTERM),
    "SIGINT": by_signal(signal.SIGINT),
    "fusermount3 -u": by_command("fusermount3", "-u"),
    "upg-mount -u": by_command(UPG_MOUNT, "-u"),
}


@pytest.mark.parametrize("way", WAYS)
def test_foreground_daemon_ends_with_0(tiny_lossless, tmp_path, way):
    point = tmp_path / "point"
    with foreground(tiny_lossless.path, point) as daemon:
        assert (point / "config.json").stat().st_size > 0
        WAYS[way](daemon, point)
        _, errors = daemon.communicate(timeout=15)
        assert daemon.returncode == 0, errors
        assert "panic" not in errors
        assert_gone(point)
        assert os.listdir(point) == []


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGINT))
def test_signal_to_a_background_daemon(tiny_lossless, tmp_path, number):
    require_fuse()
    point = tmp_path / "point"
    point.mkdir()
    try:
        assert run(UPG_MOUNT, tiny_lossless.path, point).returncode == 0
        (daemon,) = daemons(point)
        os.kill(daemon, number)
        wait_until(lambda: not is_mounted(point), "unmounted")
        assert_gone(point)
    finally:
        force_away(point)


def test_background_daemon_holds_no_stream_of_its_parent(tiny_lossless, tmp_path):
    """`$(upg-mount ...)` returns: nobody waits for the end of a pipe that the daemon holds."""
    require_fuse()
    point = tmp_path / "point"
    point.mkdir()
    try:
        start = time.monotonic()
        done = subprocess.run(
            [UPG_MOUNT, tiny_lossless.path, point], capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0
        assert time.monotonic() - start < 10
        (daemon,) = daemons(point)
        # Nor its directory, which might want unmounting itself, nor its session.
        assert os.readlink(f"/proc/{daemon}/cwd") == "/"
        assert os.getsid(daemon) != os.getsid(0)
        assert run(UPG_MOUNT, "-u", point).returncode == 0
        assert_gone(point)
    finally:
        force_away(point)


@pytest.mark.parametrize("way", ("SIGTERM", "SIGINT"))
def test_signal_while_a_file_is_open(tiny_lossless, tmp_path, way):
    """The mount goes away at once; the daemon ends as soon as the last file is closed."""
    point = tmp_path / "point"
    with foreground(tiny_lossless.path, point) as daemon:
        with open(point / "config.json", "rb"):
            WAYS[way](daemon, point)
            wait_until(lambda: not is_mounted(point), "unmounted")
        daemon.communicate(timeout=15)
        assert daemon.returncode == 0
        assert_gone(point)


def test_mount_again_at_the_same_place(tiny, tiny_lossless, tmp_path):
    point = tmp_path / "point"
    for way in WAYS.values():
        with foreground(tiny_lossless.path, point) as daemon:
            assert (point / "config.json").read_bytes() == (tiny / "config.json").read_bytes()
            way(daemon, point)
            daemon.communicate(timeout=15)


def test_a_daemon_that_ends_late_leaves_its_successor_alone(tiny, tiny_lossless, tmp_path):
    """Its mount is gone already; what is mounted at the same place by now is not its own."""
    require_fuse()
    point = tmp_path / "point"
    point.mkdir()
    try:
        assert run(UPG_MOUNT, tiny_lossless.path, point).returncode == 0
        (old,) = daemons(point)
        os.kill(old, signal.SIGSTOP)
        assert run(UPG_MOUNT, "-u", point, timeout=60).returncode == 0
        assert run(UPG_MOUNT, tiny_lossless.path, point).returncode == 0
        os.kill(old, signal.SIGCONT)
        wait_until(lambda: old not in daemons(point), "the old daemon has ended")
        assert is_mounted(point)
        assert (point / "config.json").read_bytes() == (tiny / "config.json").read_bytes()
        assert run(UPG_MOUNT, "-u", point).returncode == 0
        assert_gone(point)
    finally:
        force_away(point)


def test_two_mounts_of_one_image(tiny, tiny_lossless, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    expected = (tiny / "tokenizer.json").read_bytes()
    with (
        foreground(tiny_lossless.path, first) as one,
        foreground(tiny_lossless.path, second) as two,
    ):
        one.send_signal(signal.SIGTERM)
        one.communicate(timeout=15)
        assert (second / "tokenizer.json").read_bytes() == expected
        two.send_signal(signal.SIGTERM)
        two.communicate(timeout=15)
        assert one.returncode == two.returncode == 0


def test_unmounting_what_is_not_mounted_fails(tmp_path):
    done = run(UPG_MOUNT, "-u", tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and str(tmp_path) in done.stderr


def test_after_a_killed_daemon_the_point_can_be_unmounted(tiny_lossless, tmp_path):
    point = tmp_path / "point"
    with foreground(tiny_lossless.path, point) as daemon:
        daemon.kill()
        daemon.communicate(timeout=15)
        with pytest.raises(OSError) as failure:
            os.listdir(point)
        # The second if the connection was going while the question was on its way.
        assert failure.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        assert run(UPG_MOUNT, "-u", point).returncode == 0
        assert not is_mounted(point)
