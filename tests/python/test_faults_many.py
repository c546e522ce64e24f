"""Thousands of open files and mappings, few descriptors, and many mounts one after the other."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import tensors
from support.mounting import (
    assert_gone, daemons, force_away, is_mounted, mounted, mounts_below, wait_until,
)  # fmt: skip
from support.processes import children, descriptors, is_process, require_strace
from support.programs import UPG_MOUNT, often, one_line, require, require_fuse, run

pytestmark = pytest.mark.timeout(often(300, 7200))

HOLDER = Path(__file__).parent / "support" / "holder.py"


@pytest.fixture
def many_files():
    """As many descriptors as the system lets this process have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("way", ("open", "map"))
def test_thousands_of_open_files_and_mappings(mixed, mixed_lossless, tmp_path, many_files, way):
    """By several processes, each of which then reads by some of its own."""
    processes, each = 5, often(1000, 10_000)
    require(resource.getrlimit(resource.RLIMIT_NOFILE)[1] > each + 100, "too few descriptors")
    with mounted(mixed_lossless.path, tmp_path / "point") as point:
        (daemon,) = daemons(point)
        before = descriptors(daemon)
        command = [sys.executable, HOLDER, way, point / mixed.name, mixed, each]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        holders = [subprocess.Popen(list(map(str, command)), **pipes) for _ in range(processes)]
        try:
            assert [holder.stdout.readline() for holder in holders] == ["held\n"] * processes
            # An open file is the kernel's affair.
            assert descriptors(daemon) == before
            for holder in holders:
                holder.stdin.write("\n")
                holder.stdin.flush()
            assert [holder.stdout.readline() for holder in holders] == ["right\n"] * processes
        finally:
            for holder in holders:
                holder.kill()
                holder.communicate()


def test_few_descriptors(mixed, mixed_lossless, tmp_path):
    """Enough for a mount, or one line that says there are not; never half of one."""
    require_fuse()
    require(shutil.which("prlimit"), "no prlimit")
    point = tmp_path / "point"
    point.mkdir()
    outcomes = set()
    try:
        for limit in range(3, 40, often(3, 1)):
            done = run("prlimit", f"--nofile={limit}", UPG_MOUNT, mixed_lossless.path, point)
            outcomes.add(done.returncode)
            if done.returncode == 0:
                assert (point / mixed.name).read_bytes() == mixed.read_bytes()
                assert run(UPG_MOUNT, "-u", point).returncode == 0
            elif limit > 5:
                assert done.returncode == 1 and "open files" in one_line(done.stderr), limit
            assert_gone(point)
        assert outcomes >= {0, 1}
    finally:
        force_away(point)


@pytest.fixture
def connections(tmp_path):
    """Numbers of the kernel's connections."""
    require(os.getuid() == 0, "mounting needs root")
    point = tmp_path / "connections"
    point.mkdir()
    assert run("mount", "-t", "fusectl", "none", point).returncode == 0
    yield lambda: set(os.listdir(point))
    assert run("umount", point).returncode == 0


def mounted_connections():
    """{number: mount point}; numbers are given again, perhaps to another's mount."""
    with open("/proc/self/mountinfo") as mounts:
        fields = [line.split() for line in mounts]
    return {device.removeprefix("0:"): point for _, _, device, _, point, *_ in fields}


def connection_of(mountpoint):
    return next(n for n, point in mounted_connections().items() if point == str(mountpoint))


def test_a_mount_makes_no_file(tiny, tiny_lossless, tmp_path):
    """So none can be left, wherever."""
    require_fuse()
    require_strace()
    point, calls = tmp_path / "point", tmp_path / "calls"
    point.mkdir()
    trace = "open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,link,linkat,symlink,symlinkat"
    command = ["strace", "-f", "-o", calls, "-e", f"trace={trace}"]
    command += [UPG_MOUNT, tiny_lossless.path, point]
    traced = subprocess.Popen([str(part) for part in command])
    try:
        wait_until(lambda: is_mounted(point), "mounted")
        assert tensors.tree(point) == tensors.tree(tiny)
        wait_until(lambda: run(UPG_MOUNT, "-u", point).returncode == 0, "unmounted")
        # It follows the daemon to its end.
        assert traced.wait(60) == 0
    finally:
        force_away(point)
    lines = calls.read_text().splitlines()
    assert any(str(tiny_lossless.path) in line for line in lines)
    making = ("O_CREAT", "O_TMPFILE", "creat(", "mkdir", "mknod", "link(", "linkat(")
    made = [line for line in lines if any(word in line for word in making)]
    # Settings of the kernel, where nothing can be made.
    assert [line for line in made if '"/sys/' not in line] == []


def test_mounts_leave_nothing(tiny, tiny_lossless, tmp_path, connections):
    """Ended in every way: no mount, process, connection or descriptor is left."""
    require_fuse()
    point = tmp_path / "point"
    point.mkdir()
    expected = tensors.sha256(tiny / "config.json")
    own = descriptors(os.getpid())
    try:
        for turn in range(often(30, 1000)):
            done = run(UPG_MOUNT, tiny_lossless.path, point)
            assert done.returncode == 0, done.stderr
            (daemon,) = daemons(point)
            everyone, connection = [daemon, *children(daemon)], connection_of(point)
            assert connection in connections()
            assert tensors.sha256(point / "config.json") == expected
            match turn % 4:
                case 0:
                    os.kill(daemon, 15)
                case 1:
                    os.kill(daemon, 9)
                    wait_until(lambda: not is_process(daemon), "killed")
                    assert run(UPG_MOUNT, "-u", point).returncode == 0
                case _:
                    assert run(UPG_MOUNT, "-u", point).returncode == 0
            wait_until(lambda: not is_mounted(point), "unmounted")
            assert_gone(point)
            wait_until(lambda: not any(map(is_process, everyone)), "all have ended")
            wait_until(
                lambda: connection not in connections() or connection in mounted_connections(),
                "no connection is left",
            )
        assert descriptors(os.getpid()) == own
        assert mounts_below(point) == []
    finally:
        force_away(point)
