"""Sources that are not what they say: exit 1, the file is named, nothing is written."""

import json
import os
import random
import shutil
import struct

import pytest

from support import tensors
from support.programs import UPG, one_line, run


def with_header(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(dtype="F32", shape=(2, 2), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


BAD = {
    "empty": b"",
    "seven bytes": b"\x02\0\0\0\0\0\0",
    "length beyond the file": with_header({}, length=1 << 20),
    "length near 2^64": with_header({}, length=(1 << 64) - 4),
    "not JSON": with_header(b"[not json"),
    "not UTF-8": with_header(b'{"\xff\xfe": 1}'),
    "not an object": with_header(b"[]"),
    "unknown dtype": with_header({"w": entry("F128", (2, 2), (0, 64))}, bytes(64)),
    "shape and bytes differ": with_header({"w": entry(shape=(2, 3))}, bytes(16)),
    "offsets reversed": with_header({"w": entry(offsets=(16, 0))}, bytes(16)),
    "negative shape": with_header({"w": entry(shape=(-2, -2))}, bytes(16)),
    "shape overflows": with_header({"w": entry(shape=(1 << 40, 1 << 40), offsets=(0, 0))}),
    "a gap": with_header({"a": entry(), "b": entry(offsets=(20, 36))}, bytes(36)),
    "an overlap": with_header({"a": entry(), "b": entry(offsets=(8, 24))}, bytes(24)),
    "a part of a byte": with_header({"w": entry("F4", (3,), (0, 2))}, bytes(2)),
    "bytes behind the last tensor": with_header({"w": entry()}, bytes(17)),
    "bytes missing": with_header({"w": entry()}, bytes(15)),
    "metadata of numbers": with_header({"__metadata__": {"a": 1}, "w": entry()}, bytes(16)),
}


def refused(source, out, names):
    """One line that names the file, exit 1, and no trace in the directory of the output."""
    out.parent.mkdir(exist_ok=True)
    before = sorted(os.listdir(out.parent))
    done = run(UPG, "convert", source, "-o", out)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert names in one_line(done.stderr)
    assert done.stdout == ""
    assert sorted(os.listdir(out.parent)) == before


@pytest.mark.parametrize("what", BAD)
def test_bad_safetensors(tmp_path, what):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(BAD[what])
    refused(path, tmp_path / "out" / "o.upg", "bad.safetensors")


@pytest.mark.parametrize("out", ("o.upg", "directory"))
def test_one_bad_shard_among_good_ones(tiny, tmp_path, out):
    """Found at the end of the work or at its beginning: nothing is left."""
    copy = tmp_path / "model"
    shutil.copytree(tiny, copy)
    shard = copy / "model-00003-of-00004.safetensors"
    os.truncate(shard, shard.stat().st_size - 1000)
    refused(copy, tmp_path / "out" / out, shard.name)


def test_seeded_cuts(tiny, tmp_path):
    good = (tiny / "model-00001-of-00004.safetensors").read_bytes()
    draw = random.Random(12)
    header = 8 + int.from_bytes(good[:8], "little")
    lengths = [draw.randrange(header) for _ in range(8)] + [
        draw.randrange(header, len(good)) for _ in range(8)
    ]
    path = tmp_path / "cut.safetensors"
    for length in lengths:
        path.write_bytes(good[:length])
        refused(path, tmp_path / "out" / "o.upg", "cut.safetensors")


def test_seeded_damage_to_the_header_never_crashes(tmp_path):
    """Some damage leaves a valid file (another name, say); the rest must be refused in order."""
    content = [tensors.gaussian("w", (16, 16)), tensors.random_bits("b", "U8", (5,))]
    good = tensors.header_bytes(content, {"format": "pt"}) + b"".join(t.data for t in content)
    header = len(tensors.header_bytes(content, {"format": "pt"}))
    draw = random.Random(13)
    path, out = tmp_path / "damaged.safetensors", tmp_path / "out.upg"
    outcomes = []
    for _ in range(60):
        data = bytearray(good)
        for _ in range(draw.randrange(1, 4)):
            data[draw.randrange(header)] = draw.randrange(256)
        path.write_bytes(data)
        done = run(UPG, "convert", path, "-o", out, "--force")
        assert done.returncode in (0, 1), (done.returncode, done.stderr)
        if done.returncode == 1:
            assert "damaged.safetensors" in one_line(done.stderr)
        outcomes.append(done.returncode)
        out.unlink(missing_ok=True)
    assert outcomes.count(1) > 30


def test_missing_source(tmp_path):
    refused(tmp_path / "absent", tmp_path / "out" / "o.upg", "absent")


def test_a_directory_without_a_model(tmp_path):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "README.md").write_text("no weights here\n")
    refused(tmp_path / "nothing", tmp_path / "out" / "o.upg", "nothing")


def test_output_that_cannot_be_written(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    done = run(UPG, "convert", tiny, "-o", tmp_path / "file" / "o.upg")
    assert done.returncode == 1
    assert str(tmp_path / "file") in one_line(done.stderr)
