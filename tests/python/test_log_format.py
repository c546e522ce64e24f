"""upg-mount --log-format: text for people, JSON for programs, wherever the log goes."""

import json
import os
import re
import socket

import pytest

from support.mounting import daemons, foreground, mounted
from support.programs import UPG_MOUNT, require, require_fuse, run
from support.tensors import read


@pytest.fixture(scope="module")
def damaged(mixed, mixed_lossless, tmp_path_factory):
    """An image, and the tensor of it in which a block is damaged."""
    data = bytearray(mixed_lossless.path.read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path_factory.mktemp("upg") / "damaged.upg"
    path.write_bytes(data)
    done = run(UPG_MOUNT.with_name("upg"), "verify", path, "--json")
    (finding,) = json.loads(done.stdout)["findings"]
    return path, finding


def fail_to_read(path):
    with pytest.raises(OSError):
        path.read_bytes()


def check(record, mixed, finding):
    """A record names the file, the tensor and the byte that a read failed at."""
    assert record["level"] == "ERROR" and "checksum" in record["message"]
    assert (record["file"], record["tensor"]) == (mixed.name, finding["tensor"])
    start, end = finding["bytes"]
    assert start <= record["offset"] < end and finding["tensor"] in read(mixed)


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def test_to_standard_error(mixed, damaged, tmp_path):
    require_fuse()
    image, finding = damaged
    with foreground(image, tmp_path / "point", "--log-format", "json") as daemon:
        fail_to_read(tmp_path / "point" / mixed.name)
        daemon.terminate()
        _, text = daemon.communicate(timeout=15)
    for record in records(text):
        check(record, mixed, finding)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", record["timestamp"])
    assert records(text)


def test_to_a_file(mixed, damaged, tmp_path):
    image, finding = damaged
    log = tmp_path / "log"
    options = ("--log-format", "json", "--log-file", log, "--metrics", "127.0.0.1:0")
    with mounted(image, tmp_path / "point", *options) as root:
        fail_to_read(root / mixed.name)
    first, *others = records(log.read_text())
    assert first["level"] == "INFO" and first["message"].startswith("metrics at http://127.0.0.1:")
    assert others
    for record in others:
        check(record, mixed, finding)


def test_to_the_log_of_the_system(mixed, damaged, tmp_path):
    require(os.getuid() == 0 and not os.path.lexists("/dev/log"), "/dev/log is there, or may not be made")
    image, finding = damaged
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind("/dev/log")
        log.settimeout(15)
        try:
            with mounted(image, tmp_path / "point", "--log-format", "json") as root:
                fail_to_read(root / mixed.name)
                # Facility daemon, severity error.
                head = f"<27>upg-mount[{daemons(root)[0]}]: "
                lines = iter(lambda: log.recv(65536).decode(), "")
                # Others may write to it, too.
                line = next(line for line in lines if line.startswith(head))
        finally:
            os.unlink("/dev/log")
    record = json.loads(line.removeprefix(head))
    check(record, mixed, finding)
    assert "timestamp" not in record


def test_text_is_what_it_was(mixed, damaged, tmp_path):
    image, finding = damaged
    log = tmp_path / "log"
    with mounted(image, tmp_path / "point", "--log-file", log) as root:
        fail_to_read(root / mixed.name)
    for line in log.read_text().splitlines():
        assert re.match(r"\S+Z ERROR read of \d+ bytes at \d+: ", line) and "checksum" in line
        assert f'file="{mixed.name}" tensor="{finding["tensor"]}" offset=' in line


def test_a_format_that_is_none(damaged, tmp_path):
    (tmp_path / "point").mkdir()
    done = run(UPG_MOUNT, damaged[0], tmp_path / "point", "--log-format", "xml")
    assert done.returncode == 2 and "xml" in done.stderr
