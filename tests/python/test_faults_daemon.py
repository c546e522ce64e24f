"""The daemon stopped, killed, killed while it starts or ends: readers are let go, a stale mount is
called one, and everything can be cleared and mounted again."""

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import tensors
from support.mounting import assert_gone, daemons, force_away, is_mounted, mounted, wait_until
from support.processes import children, is_process, is_stopped
from support.programs import UPG_MOUNT, convert, often, one_line, require, require_fuse, run

pytestmark = pytest.mark.timeout(often(300, 7200))

READER = Path(__file__).parent / "support" / "blocked_reader.py"
WAYS = ("mapped", "pread", "direct", "open", "lookup", "readdir", "statfs", "getxattr")
#: Until whoever waits for a dead daemon is let go.
RELEASED = 10
GONE = {"ENOTCONN", "ECONNABORTED", "EIO", f"signal {signal.SIGBUS}"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """20 MB, with a directory."""
    root = tmp_path_factory.mktemp("source") / "m"
    tensors.write(root / "m.safetensors", [tensors.gaussian("w", (5000, 2000))])
    (root / "extra").mkdir()
    (root / "extra" / "notes.txt").write_text("notes")
    return root


@pytest.fixture(scope="module")
def image(model, tmp_path_factory):
    return convert(model, tmp_path_factory.mktemp("upg") / "m.upg", "--lossless").path


@contextlib.contextmanager
def readers(point, count):
    """Some of every way, each about to ask for bytes that nobody has asked for."""
    file, processes = point / "m.safetensors", []
    size = file.stat().st_size
    try:
        for i in range(count):
            offset = (i + 1) * size // (count + 1) // 4096 * 4096
            arguments = (READER, WAYS[i % len(WAYS)], point, file, offset)
            command = [sys.executable, *map(str, arguments)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            processes.append(subprocess.Popen(command, text=True, **pipes))
        for process in processes:
            assert process.stdout.readline() == "asking\n"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=RELEASED)


def ask(processes):
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


def answer(process, patience):
    out, errors = process.communicate(timeout=patience)
    return out.strip() or f"signal {-process.returncode}" if process.returncode <= 0 else errors


def stop(daemon):
    os.kill(daemon, signal.SIGSTOP)
    wait_until(lambda: is_stopped(daemon), "stopped")


def test_a_stopped_daemon_keeps_readers_waiting_and_goes_on(image, tmp_path):
    with mounted(image, tmp_path / "point") as point, readers(point, 2 * len(WAYS)) as processes:
        (daemon,) = daemons(point)
        stop(daemon)
        try:
            ask(processes)
            time.sleep(0.5)
            waiting = [process.poll() is None for process in processes]
        finally:
            os.kill(daemon, signal.SIGCONT)
        # What the kernel has already is answered without the daemon.
        assert waiting.count(True) >= len(WAYS)
        answers = {answer(process, 30) for process in processes}
        assert answers == {"answered", "ENOENT"}


@pytest.mark.parametrize("options", ((), ("--no-push",)), ids=("pushing", "not pushing"))
def test_readers_of_a_killed_daemon_are_let_go(image, tmp_path, options):
    """They wait in the kernel, some unkillably: the daemon is stopped first."""
    point = tmp_path / "point"
    try:
        with mounted(image, point, *options), readers(point, 3 * len(WAYS)) as processes:
            (daemon,) = daemons(point)
            others = children(daemon)
            assert len(others) == (0 if options else 1)
            stop(daemon)
            ask(processes)
            time.sleep(0.3)
            assert [process.poll() is None for process in processes].count(True) >= 2 * len(WAYS)
            os.kill(daemon, signal.SIGKILL)
            end = time.monotonic() + RELEASED
            answers = [answer(process, max(0.1, end - time.monotonic())) for process in processes]
            assert set(answers) <= GONE | {"answered"} and set(answers) & GONE, answers
            wait_until(lambda: not any(map(is_process, (daemon, *others))), "all have ended")
            stale(image, point)
            # `mounted` unmounts it once more.
            assert run(UPG_MOUNT, image, point).returncode == 0
    finally:
        force_away(point)


def stale(image, point):
    """What a user sees of it, and how it goes."""
    with pytest.raises(OSError) as failure:
        os.listdir(point)
    # The second if the connection was going while the question was on its way.
    assert failure.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    for options in ((), ("-f",)):
        done = run(UPG_MOUNT, image, point, *options, timeout=60)
        assert done.returncode == 1
        line = one_line(done.stderr)
        assert str(point) in line and "daemon is gone" in line and "upg-mount -u" in line, line
    done = run(UPG_MOUNT, "-u", point, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert_gone(point)


def test_a_connection_that_is_aborted(image, tmp_path):
    """As an administrator does it, or our watchdog: the daemon lives, and ends by itself."""
    require(os.getuid() == 0, "not root")
    point = tmp_path / "point"
    try:
        with mounted(image, point), readers(point, len(WAYS)) as processes:
            (daemon,) = daemons(point)
            everyone = [daemon, *children(daemon)]
            stop(daemon)
            ask(processes)
            time.sleep(0.2)
            assert run("umount", "-f", point).returncode in (0, 32)
            end = time.monotonic() + RELEASED
            for process in processes:
                answer(process, max(0.1, end - time.monotonic()))
            os.kill(daemon, signal.SIGCONT)
            wait_until(lambda: not any(map(is_process, everyone)), "all have ended")
            if is_mounted(point):
                stale(image, point)
            assert run(UPG_MOUNT, image, point).returncode == 0
    finally:
        force_away(point)


def test_readers_at_work_while_the_daemon_is_killed(image, tmp_path):
    """At any moment, not at one that was waited for."""
    point, draw = tmp_path / "point", random.Random(1)
    code = "import sys\nwhile open(sys.argv[1], 'rb', buffering=0).read(3 << 20): pass"
    try:
        for _ in range(often(3, 60)):
            with mounted(image, point, "--cache-size", "8M"):
                (daemon,) = daemons(point)
                command = [sys.executable, "-c", code, str(point / "m.safetensors")]
                quiet = {"stderr": subprocess.DEVNULL}
                processes = [subprocess.Popen(command, **quiet) for _ in range(4)]
                time.sleep(draw.uniform(0.02, 0.5))
                os.kill(daemon, signal.SIGKILL)
                end = time.monotonic() + RELEASED
                for process in processes:
                    assert process.wait(max(0.1, end - time.monotonic())) == 1
                wait_until(lambda daemon=daemon: not is_process(daemon), "the daemon has ended")
                assert run(UPG_MOUNT, "-u", point).returncode == 0
                assert run(UPG_MOUNT, image, point).returncode == 0
    finally:
        force_away(point)


def test_killed_while_it_starts(image, model, tmp_path):
    """Whatever is left can be cleared, and then it can be mounted."""
    require_fuse()
    point, draw = tmp_path / "point", random.Random(2)
    point.mkdir()
    expected = tensors.tree(model)
    start = time.monotonic()
    assert run(UPG_MOUNT, image, point).returncode == 0
    duration = time.monotonic() - start
    assert run(UPG_MOUNT, "-u", point).returncode == 0
    try:
        for turn in range(often(8, 200)):
            command = [str(part) for part in (UPG_MOUNT, image, point)]
            parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            time.sleep(duration * draw.random())
            # Everyone, or the one in the background alone.
            for pid in daemons(point) if turn % 2 else children(parent.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            _, errors = parent.communicate(timeout=RELEASED)
            assert parent.returncode in (0, 1, -signal.SIGKILL), (parent.returncode, errors)
            if parent.returncode == 1:
                assert "died before it was ready" in errors or "does not answer" in errors
                assert_gone(point)
            elif daemons(point):
                assert run(UPG_MOUNT, "-u", point).returncode == 0
            wait_until(lambda: not any(map(is_process, daemons(point))), "all have ended")
            if is_mounted(point):
                stale(image, point)
        assert run(UPG_MOUNT, image, point).returncode == 0
        assert tensors.tree(point) == expected
        assert run(UPG_MOUNT, "-u", point).returncode == 0
        assert_gone(point)
    finally:
        force_away(point)


def test_killed_while_it_ends(image, tmp_path):
    require_fuse()
    point, draw = tmp_path / "point", random.Random(3)
    point.mkdir()
    try:
        for turn in range(often(6, 200)):
            assert run(UPG_MOUNT, image, point).returncode == 0
            (daemon,) = daemons(point)
            command = [str(part) for part in (UPG_MOUNT, "-u", point)]
            unmounting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            time.sleep(0.02 * draw.random())
            with contextlib.suppress(ProcessLookupError):
                os.kill(daemon, signal.SIGKILL)
            if turn % 2:
                unmounting.kill()
            _, errors = unmounting.communicate(timeout=RELEASED)
            assert unmounting.returncode == 0 or turn % 2, errors
            wait_until(lambda: not any(map(is_process, daemons(point))), "all have ended")
            if is_mounted(point):
                stale(image, point)
    finally:
        force_away(point)
