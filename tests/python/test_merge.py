"""upg merge: several models in one file, what is the same stored once."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from support import tensors
from support.conversions import merge_job
from support.disks import MIB, small
from support.merging import below, merge, shown
from support.processes import STRACE, require_strace
from support.programs import GOLDEN, UPG, often, one_line, run


FORCE = pytest.mark.parametrize("force", (False, True), ids=("fresh", "replacing"))


def failed(out, *inputs):
    before = sorted(os.listdir(out.parent))
    done = run(UPG, "merge", *inputs, "-o", out)
    assert done.returncode == 1 and sorted(os.listdir(out.parent)) == before
    return one_line(done.stderr)


def test_models_lie_in_directories_of_their_own(tiny, tiny_lossless, tiny_lossy, mount, tmp_path):
    out = tmp_path / "both.upg"
    report = merge(out, tiny_lossless.path, f"small={tiny_lossy.path}")
    assert report["models"] == ["tiny", "small"]
    expected = below("tiny", tensors.tree(tiny)) | below("small", shown(tiny_lossy.path, mount))
    assert shown(out, mount) == expected
    assert run(UPG, "verify", out, "--against", tiny, "--model", "tiny").returncode == 0
    info = json.loads(run(UPG, "info", out, "--json").stdout)
    assert [model["name"] for model in info["models"]] == report["models"]


def test_what_is_the_same_is_stored_once(tiny, tuned, tiny_lossless, tuned_lossless, mount, tmp_path):
    """A fine-tune costs what differs: one tensor, and the headers and the index."""
    out = tmp_path / "both.upg"
    report = merge(out, tiny_lossless.path, tuned_lossless.path)
    assert shown(out, mount) == below("tiny", tensors.tree(tiny)) | below("tuned", tensors.tree(tuned))
    info = json.loads(run(UPG, "info", tuned_lossless.path, "--json").stdout)
    stored = {t["name"]: t["stored_bytes"] for f in info["models"][0]["files"] for t in f["tensors"]}
    changed = stored["model.layers.1.mlp.down_proj.weight"]
    more = out.stat().st_size - tiny_lossless.path.stat().st_size
    assert changed < more < changed + 25_000
    assert report["shared_bytes"] > sum(stored.values()) - changed - 1
    assert report["shared_arrays"] >= len(stored) - 1


def test_one_file_with_itself_costs_an_index(tiny, tiny_lossless, mount, tmp_path):
    out = tmp_path / "twice.upg"
    report = merge(out, tiny_lossless.path, f"again={tiny_lossless.path}")
    assert report["shared_arrays"] * 2 == report["arrays"]
    assert out.stat().st_size < tiny_lossless.path.stat().st_size + 20_000
    assert shown(out, mount) == below("tiny", tensors.tree(tiny)) | below("again", tensors.tree(tiny))


def test_merged_files_merge(tiny, tiny_lossless, tuned_lossless, mount, tmp_path):
    """In whatever order, the same models come out, and a file of one model is what it was."""
    one, two = tmp_path / "one.upg", tmp_path / "two.upg"
    merge(one, tiny_lossless.path)
    assert shown(one, mount) == tensors.tree(tiny)
    assert one.stat().st_size == tiny_lossless.path.stat().st_size
    merge(two, one, tuned_lossless.path)
    merge(tmp_path / "three.upg", f"third={tiny_lossless.path}", two)
    assert set(below("third", tensors.tree(tiny))) < set(shown(tmp_path / "three.upg", mount))


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*.upg")), ids=lambda path: path.stem)
def test_every_codec_is_copied(golden, tiny_lossless, mount, tmp_path):
    info = json.loads(run(UPG, "info", golden, "--json").stdout)
    merge(tmp_path / "m.upg", tiny_lossless.path, golden)
    assert run(UPG, "verify", tmp_path / "m.upg").returncode == 0
    alone, merged = shown(golden, mount), shown(tmp_path / "m.upg", mount)
    names = [model["name"] for model in info["models"]]
    expected = alone if len(names) > 1 else below(names[0], alone)
    assert expected.items() <= merged.items()


def test_two_models_of_one_name(tiny_lossless, tiny_lossy, tmp_path):
    line = failed(tmp_path / "m.upg", tiny_lossless.path, tiny_lossy.path)
    assert "tiny" in line and "NAME=FILE" in line
    line = failed(tmp_path / "m.upg", tiny_lossless.path, f"TINY={tiny_lossy.path}")
    assert "case" in line
    assert "name" in failed(tmp_path / "m.upg", f"..={tiny_lossy.path}")


def test_what_exists_stays_unless_told(tiny_lossless, tmp_path):
    out = tmp_path / "m.upg"
    out.write_text("precious")
    assert "--force" in failed(out, tiny_lossless.path)
    assert out.read_text() == "precious"
    merge(out, tiny_lossless.path, options=["--force"])
    (tmp_path / "directory").mkdir()
    done = run(UPG, "merge", tiny_lossless.path, "-o", tmp_path / "directory", "--force")
    assert done.returncode == 1 and "is a directory" in one_line(done.stderr)


def test_a_damaged_block_is_not_copied(tiny_lossless, tuned_lossless, tmp_path):
    data = bytearray(tiny_lossless.path.read_bytes())
    data[len(data) // 3] ^= 1
    damaged = tmp_path / "damaged.upg"
    damaged.write_bytes(data)
    line = failed(tmp_path / "m.upg", tuned_lossless.path, damaged)
    assert "damaged.upg" in line and "checksum" in line and "byte" in line


def test_no_room(tiny_lossless, tiny_lossy, tmp_path):
    with small(tmp_path / "full", MIB) as disk:
        line = failed(disk / "m.upg", tiny_lossless.path, f"small={tiny_lossy.path}")
        assert "No space left" in line and "make room" in line


@pytest.fixture
def merging(tiny_lossless, tuned_lossless, tmp_path):
    """A merge to disturb; its inputs stay as they are."""
    inputs = [tiny_lossless.path, tuned_lossless.path]
    before = [tensors.sha256(path) for path in inputs]
    yield merge_job(inputs, tmp_path)
    assert [tensors.sha256(path) for path in inputs] == before


@FORCE
def test_killed_at_every_step_of_the_end(merging, force):
    """Whole, old or new, or absent; and the next run works."""
    require_strace()
    steps = "write,fsync,rename,renameat2,unlink,unlinkat"
    renewed = []
    for step in range(1, 100):
        merging.reset(force)
        inject = ["-e", f"trace={steps}", "-e", f"inject={steps}:signal=KILL:when={step}"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        done = subprocess.run([*STRACE, *inject, *merging.command(force)], check=False, **quiet)
        renewed.append(merging.check(force))
        if done.returncode == 0:
            break
        assert done.returncode in (-signal.SIGKILL, 137)
        if step % often(4, 1) == 0:
            merging.rerun()
    assert renewed == sorted(renewed) and len(renewed) > 4 and renewed.count(True) >= 1


@FORCE
def test_killed_at_random_moments(merging, force):
    merging.reset(force)
    start = time.monotonic()
    assert merging.start(force).wait() == 0
    duration = time.monotonic() - start
    draw, killed, finished = random.Random(9), 0, 0
    while killed < often(10, 200):
        merging.reset(force)
        process = merging.start(force)
        time.sleep(duration * draw.random())
        process.kill()
        if process.wait() == -signal.SIGKILL:
            killed += 1
        else:
            finished += 1
            duration *= 0.95
            assert merging.check(force) and finished < 500
        merging.check(force)
    merging.rerun()


def test_the_rights_of_the_inputs(tiny_lossless, tuned_lossless, tmp_path):
    """Who may not read one of them may not read what was made of both."""
    private = tmp_path / "private.upg"
    shutil.copy(tuned_lossless.path, private)
    private.chmod(0o600)
    merge(tmp_path / "m.upg", tiny_lossless.path, private)
    assert (tmp_path / "m.upg").stat().st_mode & 0o777 == 0o600
