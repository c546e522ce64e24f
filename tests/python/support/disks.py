"""Disks of a test's own, which can be full, or lose power, or bytes. All of it needs root."""

import os
import shutil
import subprocess
from contextlib import contextmanager

from .programs import require, run

MIB = 1 << 20


def require_disks():
    require(os.getuid() == 0, "mounting needs root")
    require(os.path.exists("/dev/loop-control"), "no loop devices")
    require(shutil.which("mkfs.ext4"), "no mkfs.ext4")


def must(*command):
    done = run(*command)
    assert done.returncode == 0, (command, done.stderr)


@contextmanager
def mounted_at(point, *arguments):
    point.mkdir(exist_ok=True)
    must("mount", *arguments, point)
    try:
        yield point
    finally:
        # A server on it may be dying still.
        if run("umount", point).returncode:
            subprocess.run(["umount", "-l", str(point)], check=False)


def small(point, size):
    """A file system that is soon full."""
    require(os.getuid() == 0, "mounting needs root")
    return mounted_at(point, "-t", "tmpfs", "-o", f"size={size}", "none")


def make_ext4(path, size):
    with open(path, "wb") as file:
        file.truncate(size)
    must("mkfs.ext4", "-q", "-F", path)
    return path


def disk(file, point, *options):
    """A disk whose blocks lie in FILE, with a file system on it."""
    require_disks()
    return mounted_at(point, "-o", ",".join(("loop", *options)), file)


def after_a_power_cut(file, copy):
    """What is on the disk at this moment, and nothing of what waits in memory to get there."""
    shutil.copyfile(file, copy)
    return copy
