"""Mounts that are known to be gone afterwards."""

import json
import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from .programs import UPG_MOUNT, require_fuse, run

NAMES = ("upg-mount", "mount.upg")
PATIENCE = 15  # seconds for what takes well below one


def wait_until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"after {PATIENCE} s still not: {what}"
        time.sleep(0.01)


def mounts_below(directory):
    """Mount points at or below a directory, without touching them: a dead one would answer
    any other question with an error."""
    inside = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(line.split()[4].encode().decode("unicode_escape"))
        if point == Path(directory) or Path(directory) in point.parents:
            inside.append(point)
    return inside


def is_mounted(point):
    return Path(point) in mounts_below(point)


def daemons(point):
    """Ids of the processes of upg-mount, under whatever name, that were started for this mount point."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # gone meanwhile
        if Path(os.fsdecode(arguments[0])).name in NAMES and os.fsencode(point) in arguments:
            found.append(int(entry.name))
    return found


def assert_gone(point):
    assert not is_mounted(point), f"{point} is still mounted"
    wait_until(lambda: not daemons(point), f"the daemon of {point} has ended")


def force_away(point):
    """After a failed test: leave nothing for the next one to stumble over."""
    for pid in daemons(point):
        os.kill(pid, 9)
    if is_mounted(point):
        subprocess.run(["fusermount3", "-u", "-z", str(point)], capture_output=True, check=False)


@contextmanager
def mounted(image, point, *options):
    """Mount in the background as a user does, and unmount as a user does."""
    require_fuse()
    point.mkdir(exist_ok=True)
    try:
        done = run(UPG_MOUNT, image, point, *options, timeout=60)
        assert done.returncode == 0, f"upg-mount: exit {done.returncode}\n{done.stderr}"
        assert is_mounted(point), "upg-mount returned before the mount was there"
        assert len(daemons(point)) == 1
        yield point
        assert is_mounted(point), "the mount died while it was used"
        done = run(UPG_MOUNT, "-u", point, timeout=60)
        assert done.returncode == 0, f"upg-mount -u: exit {done.returncode}\n{done.stderr}"
        assert_gone(point)
    finally:
        force_away(point)


@contextmanager
def foreground(image, point, *options):
    """`upg-mount -f`, from the moment the mount answers."""
    require_fuse()
    point.mkdir(exist_ok=True)
    command = [str(c) for c in (UPG_MOUNT, image, point, "-f", *options)]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: is_mounted(point) or daemon.poll() is not None, "mounted")
        assert daemon.poll() is None, f"upg-mount -f ended: {daemon.communicate()}"
        os.listdir(point)
        yield daemon
    finally:
        if daemon.poll() is None:
            daemon.kill()
        daemon.communicate(timeout=PATIENCE)
        force_away(point)


def stats(path):
    return json.loads(os.getxattr(path, "user.upg.stats"))


def drop_page_cache(path):
    """Make the next read of this file reach the file system again."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
