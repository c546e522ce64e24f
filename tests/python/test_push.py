"""Pushing into the page cache: that it helps, that it stops, and that nobody gets stuck."""

import contextlib
import mmap
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import tensors
from support.mounting import (
    PATIENCE, assert_gone, daemons, drop_page_cache, force_away, is_mounted, mounted, stats, wait_until,
)  # fmt: skip
from support.programs import UPG_MOUNT, convert, often, require, require_fuse, run

PAGE = mmap.PAGESIZE
#: What a user who may not set read-ahead has.
AS_A_USER = ("--readahead-kb", "128", "--cache-size", "64M")
#: How long the stress lasts.
SECONDS = often(6, 300)
READER = Path(__file__).parent / "support" / "stress_reader.py"
STUCK = Path(__file__).parent / "support" / "stuck_daemon.py"


@pytest.fixture(scope="module", autouse=True)
def way_out():
    """Nothing is pushed where no watchdog could abort the connection."""
    mounted_fusectl = any(" - fusectl " in line for line in Path("/proc/self/mountinfo").read_text().splitlines())
    require(os.geteuid() == 0 or mounted_fusectl, "not root, and no fusectl")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """60 MB: several windows."""
    each = (tensors.gaussian(f"w{i}", (2500, 2001), "BF16", seed=i) for i in range(6))
    path = tmp_path_factory.mktemp("source") / "large.safetensors"
    return tensors.write(path, list(each), {"format": "pt"}, padded=False)


@pytest.fixture(scope="module")
def image(large, tmp_path_factory):
    return convert(large, tmp_path_factory.mktemp("upg") / "large.upg", "--lossless").path


@contextlib.contextmanager
def mapped(path):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        yield view


def go_through(view, start=0, end=None):
    """All bytes, in pieces as a loader that maps the file."""
    end = len(view) if end is None else end
    return b"".join(view[at : min(at + 65536, end)] for at in range(start, end, 65536))


def all_pushed(root):
    """The counters once nothing more is on its way."""
    last = None
    while stats(root)["pushed"] != last:
        last = stats(root)["pushed"]
        time.sleep(0.05)
    return last


def go_slowly(root, view, start=0, end=None):
    """The same, at every MiB waiting for what is pushed, whatever else the machine does."""
    read = []
    end = len(view) if end is None else end
    for at in range(start, end, 1 << 20):
        read.append(go_through(view, at, min(at + (1 << 20), end)))
        all_pushed(root)
    return b"".join(read)


def requests(root):
    return sum(stats(root)["requests"].values())


def test_who_maps_a_file_finds_most_of_it_there_before_asking(large, image, mount):
    content = large.read_bytes()
    with mount(image, *AS_A_USER) as root:
        with mapped(root / large.name) as view:
            assert go_slowly(root, view) == content
        pushed = stats(root)["pushed"]
        # Some machines page out early what nobody has looked at yet, and so waste a window.
        assert pushed["bytes"] > len(content) / 4
        assert pushed["hit"] > pushed["bytes"] / 2 and pushed["hit"] + pushed["wasted"] <= pushed["bytes"]
        with_pushes = requests(root)
        assert os.getxattr(root, "user.upg.pushed.bytes").decode() == str(pushed["bytes"])
    with mount(image, *AS_A_USER, "--no-push") as root:
        with mapped(root / large.name) as view:
            assert go_through(view) == content
        assert stats(root)["pushed"] is None
        assert with_pushes < requests(root)


def test_large_and_direct_requests_are_not_pushed_for(large, image, mount):
    content = large.read_bytes()
    if os.geteuid() == 0:
        with mount(image, "--readahead-kb", "4096") as root:
            assert (root / large.name).read_bytes() == content
            assert stats(root)["pushed"]["bytes"] == 0
    with mount(image, *AS_A_USER) as root:
        fd = os.open(root / large.name, os.O_RDONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, 128 << 10)
        for at in range(0, len(content), len(buffer)):
            count = os.preadv(fd, [buffer], at)
            assert buffer[:count] == content[at : at + len(buffer)]
        os.close(fd)
        assert stats(root)["pushed"]["bytes"] == 0


def test_what_the_kernel_throws_out_unread_is_noticed(large, image, mount):
    content = large.read_bytes()
    middle = 20 << 20
    with mount(image, *AS_A_USER) as root:
        with mapped(root / large.name) as view:
            assert go_slowly(root, view, 0, middle) == content[:middle]
            all_pushed(root)
            view.madvise(mmap.MADV_DONTNEED)
            drop_page_cache(root / large.name)
            end = middle + (8 << 20)
            assert go_through(view, middle, end) == content[middle:end]
            assert stats(root)["pushed"]["wasted"] > 0
            assert go_through(view, end) == content[end:]


def watchdogs(daemon):
    children = Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()
    return [int(child) for child in children if b"--watch-connection" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_without_its_watchdog_a_daemon_pushes_no_more(large, image, mount):
    content = large.read_bytes()
    with mount(image, *AS_A_USER) as root:
        (watchdog,) = watchdogs(daemons(root)[0])
        # What ends everything of that name in order, as pkill does, leaves the watchdog alone.
        os.kill(watchdog, signal.SIGTERM)
        os.kill(watchdog, signal.SIGUSR1)
        time.sleep(0.1)
        assert watchdogs(daemons(root)[0]) == [watchdog]
        os.kill(watchdog, signal.SIGKILL)
        with mapped(root / large.name) as view:
            assert go_through(view) == content
        assert stats(root)["pushed"]["bytes"] == 0


@contextlib.contextmanager
def readers(root, large, count):
    """Processes that read as fast as they can and compare every byte, until stopped."""
    command = [sys.executable, str(READER), str(root / large.name), str(large)]
    running = [
        subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for i in range(count)
    ]
    try:
        for reader in running:
            assert reader.stdout.readline() == "reading\n"
        yield running
    finally:
        for reader in running:
            reader.kill()
            reader.communicate(timeout=PATIENCE)


def ended(reader):
    assert reader.poll() is None, reader.communicate()[1]


def test_many_readers_under_pressure_get_the_right_bytes_and_are_never_stuck(large, image, mount):
    with mount(image, *AS_A_USER) as root, readers(root, large, 8) as running:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(0.25)
            drop_page_cache(root / large.name)
            if os.geteuid() == 0:
                Path("/proc/sys/vm/drop_caches").write_text("1")
            for reader in running:
                ended(reader)
        assert stats(root)["pushed"]["bytes"] > 0
        assert stats(root)["errors"] == 0
        for reader in running:
            reader.send_signal(signal.SIGTERM)  # it answers with the slowest access
        slowest = [float(reader.communicate(timeout=PATIENCE)[0]) for reader in running]
        assert max(slowest) < PATIENCE


@pytest.mark.parametrize("ending", ["unmounted", "terminated", "killed"])
def test_the_end_in_mid_push_releases_everybody(large, image, tmp_path, ending):
    require_fuse()
    point = tmp_path / "mount"
    choose = random.Random(ending)
    for _ in range(int(4 + SECONDS / 2)):
        point.mkdir(exist_ok=True)
        try:
            done = run(UPG_MOUNT, image, point, *AS_A_USER, timeout=60)
            assert done.returncode == 0, done.stderr
            with readers(point, large, 4) as running:
                (daemon,) = daemons(point)
                (watchdog,) = watchdogs(daemon)
                time.sleep(choose.uniform(0, 0.3))
                drop_page_cache(point / large.name)
                time.sleep(choose.uniform(0, 0.1))
                if ending == "unmounted":
                    assert run(UPG_MOUNT, "-u", point, timeout=60).returncode == 0
                else:
                    os.kill(daemon, signal.SIGTERM if ending == "terminated" else signal.SIGKILL)
                if ending != "killed":
                    # The mount is busy: it goes when its users do.
                    wait_until(lambda: not is_mounted(point), "unmounted")
                # Who found everything in the page cache reads on and answers; the others have
                # had an error.
                for reader in running:
                    reader.send_signal(signal.SIGTERM)
                for reader in running:
                    assert reader.wait(timeout=10) in (0, 4, -signal.SIGBUS)
            wait_until(lambda: not Path(f"/proc/{daemon}").exists(), "the daemon has ended")
            wait_until(lambda: not Path(f"/proc/{watchdog}").exists(), "its watchdog has ended")
            if ending == "killed":
                assert run(UPG_MOUNT, "-u", point, timeout=60).returncode == 0
            assert_gone(point)
        finally:
            force_away(point)


@contextlib.contextmanager
def waiting_in_the_kernel(point):
    """(daemon, watchdog's id, reader): made certain, a daemon that has a READ unanswered and stores the page
    which it locked."""
    require_fuse()
    require(os.geteuid() == 0, "mount(2) needs root")
    point.mkdir()
    command = [sys.executable, str(STUCK), str(point), str(UPG_MOUNT), "--watch-connection"]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    reader = None
    try:
        wait_until(lambda: is_mounted(point) or daemon.poll() is not None, "mounted")
        reader = subprocess.Popen(["cat", str(point / "f")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        word, watchdog = daemon.stdout.readline().split()
        assert word == "pushing"
        tasks = Path(f"/proc/{daemon.pid}/task")

        def waits():
            return any(task.joinpath("stat").read_text().rsplit(")")[1].split()[0] == "D" for task in tasks.iterdir())

        wait_until(waits, "a thread that waits in the kernel")
        time.sleep(0.2)
        assert waits() and reader.poll() is None
        yield daemon, int(watchdog), reader
    finally:
        subprocess.run(["umount", "-f", str(point)], capture_output=True, check=False)
        for process in filter(None, (daemon, reader)):
            process.kill()
            process.wait(timeout=PATIENCE)
        subprocess.run(["umount", "-l", str(point)], capture_output=True, check=False)


def test_a_watchdog_frees_a_killed_daemon_that_waits_in_the_kernel(tmp_path):
    with waiting_in_the_kernel(tmp_path / "mount") as (daemon, _, reader):
        daemon.kill()
        assert daemon.wait(timeout=10) == -signal.SIGKILL
        assert reader.wait(timeout=10) == 1


def test_killed_together_with_its_watchdog_it_stays_until_somebody_aborts(tmp_path):
    """Why neither the unit nor the containers push, which end all processes at once."""
    point = tmp_path / "mount"
    with waiting_in_the_kernel(point) as (daemon, watchdog, reader):
        os.kill(watchdog, signal.SIGKILL)
        daemon.kill()
        time.sleep(1)
        # Killed, but for the thread that waits; and its reader has had no answer.
        assert reader.poll() is None and any(Path(f"/proc/{daemon.pid}/task").iterdir())
        subprocess.run(["umount", "-f", str(point)], capture_output=True, check=False)
        assert daemon.wait(timeout=10) == -signal.SIGKILL
        assert reader.wait(timeout=10) == 1


def test_a_daemon_and_its_watchdog_end_together(image, tmp_path):
    with mounted(image, tmp_path / "mount", *AS_A_USER) as point:
        (daemon,) = daemons(point)
        (watchdog,) = watchdogs(daemon)
    wait_until(lambda: not Path(f"/proc/{watchdog}").exists(), "the watchdog has ended")
