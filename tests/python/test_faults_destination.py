"""Where a conversion writes: no room, limits, errors of the disk, others who write there. It fails
with one line that names the place, and leaves nothing."""

import os
import shutil
import signal
import subprocess

import pytest

from support import tensors
from support.conversions import content, temporaries
from support.disks import MIB, small
from support.processes import STRACE, require_strace
from support.programs import UPG, often, one_line, require, run


def failed(done, *words):
    assert done.returncode == 1, (done.returncode, done.stderr)
    line = one_line(done.stderr)
    assert all(str(word) in line for word in words), line


@pytest.mark.parametrize("out", ("alone.upg", "directory"))
def test_no_room_for_the_archive(conversion_source, tmp_path, out):
    with small(tmp_path / "full", 4 * MIB) as disk:
        done = run(UPG, "convert", conversion_source, "-o", disk / out, "--lossless")
        failed(done, disk, "No space left", "make room")
        assert os.listdir(disk) == []
        # With more room the same works.
        assert run("mount", "-o", "remount,size=64M", disk).returncode == 0
        assert run(UPG, "convert", conversion_source, "-o", disk / out, "--lossless").returncode == 0
        assert os.listdir(disk) == [out]


def test_no_room_for_what_lies_beside_the_archive(tmp_path):
    """It shrinks well within the archive, and its copy does not."""
    source = tmp_path / "model"
    tensors.write(source / "m.safetensors", [tensors.gaussian("w", (300, 500))])
    (source / "vocabulary.txt").write_text("word\n" * MIB)
    with small(tmp_path / "full", 4 * MIB) as disk:
        done = run(UPG, "convert", source, "-o", disk / "directory")
        failed(done, disk, "vocabulary.txt", "No space left", "make room")
        assert os.listdir(disk) == []
        assert run(UPG, "convert", source, "-o", disk / "alone.upg").returncode == 0


def test_a_limit_on_the_size_of_files(conversion):
    """By default its signal would end the process, with everything left behind."""
    require(shutil.which("prlimit"), "no prlimit")
    conversion.reset(force=True)
    done = run("prlimit", f"--fsize={MIB}", *conversion.command(force=True))
    failed(done, ".upg", "File too large", "ulimit")
    assert not conversion.check(force=True)
    conversion.rerun()


@pytest.mark.parametrize("call", ("fsync", "rename,renameat2"))
def test_the_disk_fails_at_the_end(conversion, call):
    require_strace()
    conversion.reset(force=True)
    fail = ["-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when=1"]
    done = run(*STRACE, *fail, *conversion.command(force=True))
    failed(done, conversion.out.parent, "Input/output error")
    assert not conversion.check(force=True)
    assert temporaries(conversion.out.parent) == []


def test_everything_is_on_the_disk_before_it_has_its_name(conversion, tmp_path):
    require_strace()
    conversion.reset(force=True)
    calls = "fsync,fdatasync,rename,renameat2"
    watch = ["strace", "-f", "-y", "-qq", "-o", tmp_path / "calls", "-e", f"trace={calls}"]
    assert run(*watch, *conversion.command(force=True)).returncode == 0
    lines = (tmp_path / "calls").read_text().splitlines()
    named = max(i for i, line in enumerate(lines) if f'"{conversion.out}"' in line)
    synced = [{line.split("<")[1].split(">")[0] for line in part if "sync(" in line}
              for part in (lines[:named], lines[named:])]  # fmt: skip
    assert str(conversion.out.parent) in synced[1]
    if conversion.out.suffix:
        assert len(synced[0]) == 1
        return
    inside = {os.path.relpath(path, conversion.out.parent).partition("/")[2] for path in synced[0]}
    there = {str(path.relative_to(conversion.out)) for path in conversion.out.rglob("*")}
    # The archive was synced under the name it had before its own.
    archive = {name for name in inside if name.endswith(".partial")}
    assert inside - archive == there - {"model.upg"} | {""} and len(archive) == 1


def test_where_names_cannot_be_exchanged(conversion):
    """As on some network file systems. What is replaced is set aside, and never lost."""
    require_strace()
    conversion.reset(force=True)
    strace = [*STRACE, "-e", "inject=renameat2:error=EINVAL"]
    for force in (True, False):
        conversion.reset(force)
        assert run(*strace, *conversion.command(force)).returncode == 0
        assert conversion.check(force)
        assert temporaries(conversion.out.parent) == []
    if conversion.out.suffix:
        return
    conversion.reset(force=True)
    kill = ["-e", "trace=rename,renameat2", "-e", "inject=rename:signal=KILL:when=2"]
    run(*strace, *kill, *conversion.command(force=True))
    assert not conversion.out.exists()
    done = run(*conversion.command(force=True))
    assert done.returncode == 0 and conversion.check(force=True)
    (aside,) = temporaries(conversion.out.parent)
    assert content(conversion.out.parent / aside) == conversion.before
    shutil.rmtree(conversion.out.parent / aside)


def test_something_comes_to_be_at_the_destination(conversion):
    """Nobody said --force: it stays."""
    conversion.reset(force=False)
    process = conversion.stopped(force=False, stderr=subprocess.PIPE)
    conversion.reset(force=True)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and str(conversion.out) in one_line(errors), errors
    assert content(conversion.out) == conversion.before
    assert temporaries(conversion.out.parent) == []


def test_several_conversions_to_one_place(conversion):
    """Without --force one of them gets there; with it the last one does."""
    for force, successes in ((False, 1), (True, 4)):
        conversion.reset(force)
        processes = [conversion.start(force) for _ in range(4)]
        codes = sorted(process.wait(120) for process in processes)
        assert codes == [0] * successes + [1] * (4 - successes)
        assert conversion.check(force)
        assert temporaries(conversion.out.parent) == []


@pytest.mark.parametrize("out", ("alone.upg", "directory"))
def test_many_small_conversions_at_once(tmp_path, out):
    """They take what others have just made for a dead one's, unless it is locked at once."""
    source = tensors.write(tmp_path / "m.safetensors", [tensors.gaussian("w", (100, 100))])
    place = tmp_path / "place"
    place.mkdir()
    command = [str(part) for part in (UPG, "convert", source, "-o", place / out, "--force")]
    for _ in range(often(40, 500)):
        quiet = {"stdout": subprocess.DEVNULL}
        processes = [subprocess.Popen(command, **quiet) for _ in range(6)]
        assert [process.wait(60) for process in processes] == [0] * 6
        assert os.listdir(place) == [out]
