"""A source that changes while it is converted: an error that names it, and never a mixture."""

import os
import signal
import subprocess
import time

import pytest

from support import tensors
from support.conversions import temporaries, write_model
from support.programs import UPG, one_line

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def appended(path):
    with open(path, "ab") as file:
        file.write(b"\0")


def shortened(path):
    os.truncate(path, path.stat().st_size // 2)


def overwritten(path):
    """Its size and time stay as they were."""
    before = path.stat()
    with open(path, "r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"\x3c" * 999)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path):
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[:-1] + b"\x11")
    other.replace(path)


def replaced_for_a_while(path):
    """Whoever opens it in the meantime gets another one."""
    away = path.with_name("away")
    path.rename(away)
    path.write_bytes(away.read_bytes()[:-1] + b"\x11")
    away.replace(path)


def deleted(path):
    path.unlink()


CHANGES = [appended, shortened, overwritten, replaced, replaced_for_a_while, deleted]


def converting(source, out):
    """Stopped in the middle: what it writes has been begun, and is far from done."""
    command = [UPG, "convert", source, "-o", out, "--threads", "1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen([str(part) for part in command], text=True, **quiet)
    while process.poll() is None and not temporaries(out.parent):
        time.sleep(0.001)
    process.send_signal(signal.SIGSTOP)
    return process


@pytest.mark.parametrize(
    "name, out", ((FIRST, "directory"), (SECOND, "alone.upg"), ("config.json", "directory"))
)
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(tmp_path, change, name, out):
    source, place = write_model(tmp_path / "model"), tmp_path / "place"
    if name == "config.json":
        (source / name).write_text('{"text": "' + "x" * 2000 + '"}')
    place.mkdir()
    process = converting(source, place / out)
    change(source / name)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert name in one_line(errors)
    assert os.listdir(place) == []


def test_reading_it_is_no_change(tmp_path):
    source, place = write_model(tmp_path / "model"), tmp_path / "place"
    place.mkdir()
    process = converting(source, place / "alone.upg")
    tensors.tree(source)
    (source / "appeared.txt").write_text("not there when it was looked for")
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
