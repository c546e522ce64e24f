"""An unmount while the mount is in use: it goes out of sight at once, says so in one line, and is
gone when its last user is."""

import mmap
import os
import subprocess
import sys

import pytest

from support.mounting import assert_gone, daemons, force_away, is_mounted, wait_until
from support.processes import children, is_process
from support.programs import UPG_MOUNT, require_fuse, run

SIT_THERE = "import os, sys; os.chdir(sys.argv[1]); print('there', flush=True); sys.stdin.read()"


class Opened:
    def __init__(self, path):
        self.file = open(path, "rb", buffering=0)

    def read(self, start, end):
        return os.pread(self.file.fileno(), end - start, start)

    def close(self):
        self.file.close()


class Direct(Opened):
    def __init__(self, path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        self.file = os.fdopen(fd, "rb", buffering=0)


class Mapped:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.view = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)

    def read(self, start, end):
        return self.view[start:end]

    def close(self):
        self.view.close()


class CurrentDirectory:
    """Of another process."""

    def __init__(self, path):
        command = [sys.executable, "-c", SIT_THERE, str(path.parent)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process, self.name = subprocess.Popen(command, text=True, **pipes), path.name
        assert self.process.stdout.readline() == "there\n"

    def read(self, start, end):
        with open(f"/proc/{self.process.pid}/cwd/{self.name}", "rb") as file:
            file.seek(start)
            return file.read(end - start)

    def close(self):
        self.process.communicate("")


@pytest.fixture
def point(mixed_lossless, tmp_path):
    require_fuse()
    point = tmp_path / "point"
    point.mkdir()
    assert run(UPG_MOUNT, mixed_lossless.path, point).returncode == 0
    yield point
    force_away(point)


@pytest.mark.parametrize("use", (Opened, Direct, Mapped, CurrentDirectory))
def test_it_goes_when_its_user_does(mixed, point, use):
    content = mixed.read_bytes()
    (daemon,) = daemons(point)
    everyone = [daemon, *children(daemon)]
    user = use(point / mixed.name)
    try:
        assert user.read(0, 4096) == content[:4096]
        done = run(UPG_MOUNT, "-u", point)
        assert (done.returncode, done.stderr) == (0, "")
        (line,) = done.stdout.splitlines()
        assert str(point) in line and "in use" in line
        assert not is_mounted(point) and os.listdir(point) == []
        # To the user nothing has happened, nor to bytes that nobody has asked for before.
        for start in range(0, len(content), 1 << 20):
            assert user.read(start, start + 8192) == content[start : start + 8192]
        assert all(map(is_process, everyone))
    finally:
        user.close()
    assert_gone(point)
    wait_until(lambda: not any(map(is_process, everyone)), "the watchdog has ended, too")


def test_several_users_and_another_mount_in_between(mixed, mixed_lossless, point):
    content = mixed.read_bytes()
    (first,) = daemons(point)
    users = [Opened(point / mixed.name), Mapped(point / mixed.name)]
    assert run(UPG_MOUNT, "-u", point).returncode == 0
    assert run(UPG_MOUNT, mixed_lossless.path, point).returncode == 0
    assert len(daemons(point)) == 2
    for user in users:
        assert user.read(len(content) // 2, len(content)) == content[len(content) // 2 :]
        assert is_process(first)
        user.close()
    wait_until(lambda: not is_process(first), "the first daemon has ended")
    assert (point / mixed.name).read_bytes() == content
    done = run(UPG_MOUNT, "-u", point)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert_gone(point)
