"""Sources that are not what they say: exit 1, the file is named, nothing is written."""

import os
import random
import shutil

import pytest

from support import tensors
from support.programs import REPO, UPG, one_line, run


BAD = sorted((REPO / "tests" / "bad").glob("*.safetensors"))


def refused(source, out, names):
    """One line that names the file, exit 1, and no trace in the directory of the output."""
    out.parent.mkdir(exist_ok=True)
    before = sorted(os.listdir(out.parent))
    done = run(UPG, "convert", source, "-o", out)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert names in one_line(done.stderr)
    assert done.stdout == ""
    assert sorted(os.listdir(out.parent)) == before


@pytest.mark.parametrize("bad", BAD, ids=lambda path: path.stem)
def test_bad_safetensors(tmp_path, bad):
    refused(bad, tmp_path / "out" / "o.upg", bad.name)


def test_there_are_bad_files():
    assert len(BAD) >= 20


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
