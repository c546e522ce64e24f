"""Who gets in, what the mount allows, and what its daemon may do."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from support import tensors
from support.mounting import daemons, foreground, is_mounted, wait_until
from support.programs import UPG_MOUNT, require, require_fuse, run

ROOT = os.getuid() == 0
SYS_ADMIN, DAC_READ_SEARCH = 1 << 21, 1 << 2
SUPPORT = Path(__file__).parent / "support"


@pytest.fixture
def open_base():
    """A directory that other users may enter; pytest's own are closed to them."""
    base = Path(tempfile.mkdtemp(prefix="upg-test-"))
    base.chmod(0o755)
    yield base
    shutil.rmtree(base)


def need_root():
    require(ROOT, "needs root")
    require_fuse()


def unshared(*command, env=None):
    """In a mount namespace of its own, where nothing that is mounted stays."""
    require(shutil.which("unshare"), "no unshare")
    return run("unshare", "--mount", "--propagation", "private", *command, timeout=120, env=env)


def statuses(pid):
    """{thread: its /proc status} of a process."""
    found = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        lines = (thread / "status").read_text().splitlines()
        found[thread.name] = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return found


def as_user(uid, *command, groups=()):
    more = {"user": uid, "group": uid, "extra_groups": list(groups)}
    return run(*command, **more)


def ordinary(base, tiny_lossless, *options, env=None):
    need_root()
    # What the user is to run and to read must not lie below a closed directory.
    shutil.copy(UPG_MOUNT, base / "upg-mount")
    image = shutil.copy(tiny_lossless.path, base / "tiny.upg")
    os.chmod(image, 0o644)
    done = unshared(
        sys.executable, SUPPORT / "ordinary_user.py", base / "upg-mount", image, base, *options, env=env
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_ordinary_user_mounts(open_base, tiny, tiny_lossless):
    """Through fusermount3: the user reads what the source has, nobody else gets in, not even
    root, and the daemon never has a capability."""
    seen = ordinary(open_base, tiny_lossless)
    assert seen["mount"] == [0, ""]
    assert {"nosuid", "nodev", "ro"} <= set(seen["options"])
    assert seen["type"] == "fuse.upg"
    assert seen["files"] == tensors.tree(tiny)
    assert seen["other user"][0] != 0 and "denied" in seen["other user"][1]
    assert seen["root"] == "Permission denied"
    assert seen["daemon"]["Uid"].split() == ["65534"] * 4
    assert int(seen["daemon"]["CapEff"], 16) == int(seen["daemon"]["CapPrm"], 16) == 0
    assert seen["unmount"] == [0, ""] and seen["left"] == []


def test_an_ordinary_user_unmounts_by_the_program_that_mounted(open_base, tiny_lossless):
    """Found as fuser finds it, by FUSERMOUNT_PATH, where there is none in PATH."""
    helper = shutil.copy(shutil.which("fusermount3"), open_base / "another-fusermount")
    os.chmod(helper, 0o4755)
    seen = ordinary(open_base, tiny_lossless, env={**os.environ, "FUSERMOUNT_PATH": str(helper)})
    assert seen["mount"] == [0, ""]
    assert seen["unmount"] == [0, ""] and seen["left"] == []


def test_an_ordinary_user_may_not_let_others_in(open_base, tiny_lossless):
    """Unless the administrator allows it in /etc/fuse.conf; the error says so."""
    allowed = Path("/etc/fuse.conf")
    require(
        not allowed.exists() or "\nuser_allow_other" not in "\n" + allowed.read_text(),
        "this machine's /etc/fuse.conf has user_allow_other",
    )
    seen = ordinary(open_base, tiny_lossless, "--allow-other")
    code, message = seen["mount"]
    assert code == 1 and "user_allow_other" in message


def test_in_a_user_namespace(open_base, tiny, tiny_lossless):
    """A user who is root in a namespace of its own mounts without fusermount3."""
    need_root()
    probe = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Urm", "true")
    require(probe.returncode == 0, "no user namespaces for ordinary users")
    shutil.copy(UPG_MOUNT, open_base / "upg-mount")
    image = shutil.copy(tiny_lossless.path, open_base / "tiny.upg")
    os.chmod(image, 0o644)
    point = open_base / "point"
    point.mkdir()
    os.chown(point, 65534, 65534)
    inside = f"""
        set -e
        {open_base}/upg-mount {image} {point}
        sha256sum {point}/LICENSE {point}/extra/deep/odd.bin
        {open_base}/upg-mount -u {point}
        ! grep -q ' {point} ' /proc/self/mountinfo
    """
    device = f"mknod -m 666 {open_base}/fuse c 10 229; mount --bind {open_base}/fuse /dev/fuse"
    user = "setpriv --reuid=65534 --regid=65534 --clear-groups unshare -Urm"
    (open_base / "inside").write_text(inside)
    done = unshared("sh", "-ec", f"{device}; exec {user} sh {open_base}/inside")
    assert done.returncode == 0, done.stderr
    sums = [line.split()[0] for line in done.stdout.splitlines()]
    assert sums == [tensors.sha256(tiny / "LICENSE"), tensors.sha256(tiny / "extra/deep/odd.bin")]


def test_roots_daemon_keeps_what_unmounting_takes(tmp_path, tiny_lossless):
    """Every thread of it, and nothing at all in its watchdog; and neither gains anything."""
    need_root()
    point = tmp_path / "point"
    with foreground(tiny_lossless.path, point) as daemon:
        (point / "config.json").read_bytes()
        found = statuses(daemon.pid)
        assert len(found) > 2
        for status in found.values():
            assert int(status["CapEff"], 16) == SYS_ADMIN | DAC_READ_SEARCH
            assert int(status["CapPrm"], 16) == SYS_ADMIN | DAC_READ_SEARCH
            assert int(status["CapBnd"], 16) == SYS_ADMIN | DAC_READ_SEARCH
            assert int(status["CapInh"], 16) == 0
            assert status["NoNewPrivs"] == "1"
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children")
        wait_until(lambda: len(children.read_text().split()) == 1, "a watchdog")
        (watchdog,) = children.read_text().split()

        def has_nothing():
            (status,) = statuses(watchdog).values()
            return int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0

        wait_until(has_nothing, "without capabilities")
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=15)
        assert daemon.returncode == 0 and not is_mounted(point)


def test_below_a_closed_directory(tiny_lossless):
    """Root mounts, and its daemon unmounts, below a directory that only another user may enter."""
    need_root()
    home = Path(tempfile.mkdtemp(prefix="upg-test-"))
    try:
        os.chown(home, 65534, 65534)
        home.chmod(0o700)
        point = home / "point"
        with foreground(tiny_lossless.path, point) as daemon:
            daemon.send_signal(signal.SIGTERM)
            daemon.communicate(timeout=15)
            assert daemon.returncode == 0 and not is_mounted(point)
    finally:
        shutil.rmtree(home)


@pytest.mark.parametrize("allowed", (False, True))
def test_allow_other(open_base, tiny, tiny_lossless, allowed):
    """Where root mounted, another user gets in with --allow-other only."""
    need_root()
    options = ["--allow-other"] if allowed else []
    with foreground(tiny_lossless.path, open_base / "point", *options) as daemon:
        done = as_user(65534, "cat", open_base / "point" / "LICENSE")
        assert (done.returncode == 0) == allowed, done.stderr
        assert allowed or os.strerror(errno.EACCES) in done.stderr
        assert done.stdout == ((tiny / "LICENSE").read_text() if allowed else "")
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=15)


def test_the_mount_is_nosuid_nodev_and_checks_permissions(tiny_lossless, mount):
    with mount(tiny_lossless.path) as root:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        (line,) = [line.split(" - ") for line in lines if line.split()[4] == str(root)]
        assert {"ro", "nosuid", "nodev"} <= set(line[0].split()[5].split(","))
        assert "default_permissions" in line[1].split()[2].split(",")


@pytest.mark.parametrize("mode", (0o644, 0o640, 0o600, 0o604))
def test_files_can_be_read_by_those_who_can_read_the_image(open_base, tiny, tiny_lossless, mode):
    """Root mounts for all, but owner, group and mode of the image decide."""
    need_root()
    owner, group, other = 65531, 65532, 65533
    image = open_base / "tiny.upg"
    shutil.copy(tiny_lossless.path, image)
    os.chown(image, owner, group)
    image.chmod(mode)
    point = open_base / "point"
    text = (tiny / "LICENSE").read_text()
    with foreground(image, point, "--allow-other") as daemon:
        for path in (point / "LICENSE", point / "extra" / "deep" / "odd.bin"):
            status = path.stat()
            assert (status.st_uid, status.st_gid) == (owner, group)
            assert status.st_mode & 0o7777 == mode & 0o444
        read = {
            0o400: as_user(owner, "cat", point / "LICENSE"),
            0o040: as_user(other, "cat", point / "LICENSE", groups=[group]),
            0o004: as_user(other, "cat", point / "LICENSE"),
        }
        for bit, done in read.items():
            assert (done.returncode == 0) == bool(mode & bit), (oct(bit), done.stderr)
            assert done.stdout == (text if mode & bit else "")
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=15)


def test_a_daemon_holds_nothing_it_was_not_given(tmp_path, tiny_lossless):
    """Whoever waits for the end of a pipe does not wait for the daemon, which closes what it
    inherited; what a descriptor named can still be mounted."""
    require_fuse()
    point = tmp_path / "point"
    point.mkdir()
    reader, writer = os.pipe()
    image = os.open(tiny_lossless.path, os.O_RDONLY)
    try:
        command = [UPG_MOUNT, f"/dev/fd/{image}", point]
        done = subprocess.run(command, pass_fds=(writer, image), timeout=60, check=False)
        assert done.returncode == 0
        (daemon,) = daemons(point)
        held = [os.readlink(fd) for fd in Path(f"/proc/{daemon}/fd").iterdir()]
        assert held.count(str(tiny_lossless.path)) == 1
        assert os.readlink(f"/proc/self/fd/{writer}") not in held
        os.close(writer)
        writer = None
        assert os.read(reader, 1) == b""
        assert run(UPG_MOUNT, "-u", point).returncode == 0
    finally:
        for fd in filter(None, (reader, writer, image)):
            os.close(fd)
        if is_mounted(point):
            run("fusermount3", "-u", "-z", point)
