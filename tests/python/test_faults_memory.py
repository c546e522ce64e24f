"""Little memory: a conversion or a mount works, or says that it cannot; no byte is ever wrong."""

import errno
import os
import shutil

import pytest

from support import tensors
from support.conversions import temporaries
from support.limits import memory_group
from support.mounting import assert_gone, daemons, drop_page_cache, force_away, mounted
from support.programs import UPG, UPG_MOUNT, convert, often, require, require_fuse, run

pytestmark = pytest.mark.timeout(often(300, 7200))

MIB = 1 << 20
LEAST = ("--memory", "128MiB", "--threads", "2", "--effort", "1")


@pytest.fixture(scope="module", autouse=True)
def tools():
    require(shutil.which("prlimit"), "no prlimit")
    # The standard library waits for itself if there is no memory for the backtrace of a panic.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUST_BACKTRACE", "0")
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """80 MB: more than what conversion and mount below may have, apart from their code."""
    base = tmp_path_factory.mktemp("source")
    content = [tensors.gaussian(f"w{i}", (2000, 4000), seed=i) for i in range(5)]
    return tensors.write(base / "m.safetensors", content)


@pytest.fixture(scope="module")
def result(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("upg") / "m.upg"
    return convert(source, path, "--effort", "1").path.read_bytes()


@pytest.fixture(scope="module")
def image(source, tmp_path_factory):
    return convert(source, tmp_path_factory.mktemp("upg") / "m.upg", "--lossless").path


def test_a_conversion_within_its_least_memory(source, result, tmp_path):
    """And what the program itself takes. The page cache counts, too, and makes room."""
    with memory_group((128 + 32) * MIB) as group:
        command = (UPG, "convert", source, "-o", tmp_path / "m.upg", *LEAST)
        done = run(*command, preexec_fn=group.enter)
        assert (done.returncode, group.killed()) == (0, 0), done.stderr
    assert (tmp_path / "m.upg").read_bytes() == result


def test_a_conversion_short_of_address_space(source, result, tmp_path):
    """Whatever is refused it, the destination is whole or absent, and there is a word about it."""
    for limit in range(24, 300, often(60, 6)):
        out = tmp_path / "m.upg"
        done = run("prlimit", f"--as={limit * MIB}", UPG, "convert", source, "-o", out, *LEAST)
        assert out.exists() == (done.returncode == 0), (limit, done.returncode, done.stderr)
        if out.exists():
            assert out.read_bytes() == result, limit
            assert temporaries(tmp_path) == []
            out.unlink()
        else:
            assert done.stderr.strip(), limit
    assert run(UPG, "convert", source, "-o", tmp_path / "m.upg", *LEAST).returncode == 0
    assert os.listdir(tmp_path) == ["m.upg"]


def test_a_mount_within_its_budget_and_100_mib(source, image, tmp_path):
    require_fuse()
    point, content = tmp_path / "point", source.read_bytes()
    point.mkdir()
    budget = 16
    try:
        with memory_group((budget + 100) * MIB) as group:
            options = ("--cache-size", f"{budget}MiB")
            assert run(UPG_MOUNT, image, point, *options, preexec_fn=group.enter).returncode == 0
            for _ in range(2):
                drop_page_cache(point / source.name)
                assert (point / source.name).read_bytes() == content
            assert run(UPG_MOUNT, "-u", point).returncode == 0
            assert group.killed() == 0
    finally:
        force_away(point)


def address_space(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmSize"))


@pytest.mark.parametrize("slack", (0, 4, 16, 40))
def test_a_daemon_that_gets_no_more_memory(source, image, tmp_path, slack):
    """A read that there is no memory for is EIO, and right again once there is."""
    content = source.read_bytes()
    with mounted(image, tmp_path / "point", "--cache-size", "256MiB", "--no-push") as point:
        (daemon,) = daemons(point)
        limit = address_space(daemon) + slack * MIB
        assert run("prlimit", "--pid", daemon, f"--as={limit}:unlimited").returncode == 0
        fd = os.open(point / source.name, os.O_RDONLY | os.O_DIRECT)
        try:
            lost = 0
            for offset in range(0, len(content), MIB):
                try:
                    assert os.pread(fd, MIB, offset) == content[offset : offset + MIB]
                except OSError as failure:
                    assert failure.errno == errno.EIO
                    lost += 1
            assert lost > 0
            assert run("prlimit", "--pid", daemon, "--as=unlimited:unlimited").returncode == 0
            for offset in range(0, len(content), MIB):
                assert os.pread(fd, MIB, offset) == content[offset : offset + MIB]
        finally:
            os.close(fd)


def test_a_mount_short_of_address_space(source, image, tmp_path):
    require_fuse()
    point = tmp_path / "point"
    point.mkdir()
    try:
        for limit in range(16, 120, often(24, 4)):
            command = ("prlimit", f"--as={limit * MIB}", UPG_MOUNT, image, point)
            done = run(*command, "--cache-size", "16MiB")
            if done.returncode:
                assert done.stderr.strip(), limit
                assert_gone(point)
                continue
            try:
                assert (point / source.name).read_bytes() == source.read_bytes()
            except OSError as failure:
                # Without memory for the smallest things the daemon ends.
                assert failure.errno in (errno.EIO, errno.ENOTCONN, errno.ECONNABORTED)
            assert run(UPG_MOUNT, "-u", point).returncode == 0
    finally:
        force_away(point)
