"""upg unpack: what a mount shows, in a directory; each file whole or not at all; to be gone on with."""

import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import time

import pytest

from support import tensors
from support.disks import MIB, small
from support.programs import GOLDEN, UPG, needed, one_line, require_fuse, run

JOURNAL = ".upg-unpack.json"
SHARD = "model-00002-of-00004.safetensors"


def unpack(image, out, *options):
    """The report of a run that must succeed; nothing but the files is left."""
    done = run(UPG, "unpack", image, "-o", out, "--json", *options)
    assert done.returncode == 0, done.stderr
    assert not [path for path in out.rglob(".*")]
    return json.loads(done.stdout)


def failed(image, out, *options):
    done = run(UPG, "unpack", image, "-o", out, *options)
    assert done.returncode == 1, (done.returncode, done.stdout)
    return one_line(done.stderr)


def test_everything_is_what_it_was(tiny, tiny_lossless, tmp_path):
    report = unpack(tiny_lossless.path, tmp_path / "out")
    expected = tensors.tree(tiny)
    assert tensors.tree(tmp_path / "out") == expected
    size = sum(path.stat().st_size for path in tiny.rglob("*") if path.is_file())
    assert (report["files"], report["bytes"], report["written_bytes"]) == (len(expected), size, size)
    assert report["kept"] == 0


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*.upg")), ids=lambda path: path.stem)
def test_it_is_what_a_mount_shows(golden, mount, tmp_path):
    require_fuse()
    unpack(golden, tmp_path / "out", "--threads", "3")
    with mount(golden) as root:
        assert tensors.tree(tmp_path / "out") == tensors.tree(root)


def test_files_by_glob(tiny, tiny_lossless, tmp_path):
    unpack(tiny_lossless.path, tmp_path / "out", "--file", "*.json", "--file", "extra/deep/*")
    everything = tensors.tree(tiny)
    wanted = {k: v for k, v in everything.items() if k.endswith(".json") or k.startswith("extra/deep/")}
    assert tensors.tree(tmp_path / "out") == wanted and len(wanted) < len(everything)


def test_tensors_by_glob(tiny, tiny_lossless, tmp_path):
    """Shards with fewer tensors, which loaders take as they are."""
    safetensors = needed("safetensors.numpy")
    out = tmp_path / "out"
    unpack(tiny_lossless.path, out, "--tensor", "*layernorm*", "--tensor", "lm_head.weight")
    expected = {k: v for k, v in tensors.read_model(tiny).items() if "layernorm" in k or k == "lm_head.weight"}
    found = tensors.read_model(out)
    assert {k: (t.dtype, t.shape, t.data) for k, t in found.items()} == {
        k: (t.dtype, t.shape, t.data) for k, t in expected.items()
    }
    assert all(path.suffix == ".safetensors" for path in out.iterdir())
    for path in out.iterdir():
        assert tensors.metadata(path) == {"format": "pt"}
        assert set(safetensors.safe_open(path, "np").keys()) <= set(expected)


def test_nothing_that_exists_is_replaced_unless_asked(tiny_lossless, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / SHARD).write_text("precious")
    (out / "other").write_text("precious, too")
    line = failed(tiny_lossless.path, out)
    assert SHARD in line and "--force" in line
    assert sorted(os.listdir(out)) == [SHARD, "other"] and (out / SHARD).read_text() == "precious"
    done = run(UPG, "unpack", tiny_lossless.path, "-o", out, "--force")
    assert done.returncode == 0, done.stderr
    assert (out / SHARD).stat().st_size > 1000 and (out / "other").read_text() == "precious, too"


def test_nothing_matches(tiny_lossless, tmp_path):
    assert "nothing in it matches" in failed(tiny_lossless.path, tmp_path / "out", "--tensor", "x")
    assert not (tmp_path / "out").exists()


def interrupted(image, out, number):
    """A run that a signal ended when its first file was there, and before its last was."""
    for _ in range(50):
        process = subprocess.Popen(
            [str(part) for part in (UPG, "unpack", image, "-o", out)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        while process.poll() is None and not any(path.suffix for path in out.glob("[!.]*")):
            time.sleep(0.0002)
        process.send_signal(number)
        _, message = process.communicate(timeout=30)
        if (out / JOURNAL).exists():
            return process.returncode, message
        run("rm", "-r", out)
    raise AssertionError("every run was done before it could be interrupted")


def finished(out):
    """The files that the journal has, and that are there."""
    lines = [json.loads(line) for line in (out / JOURNAL).read_text().splitlines()[1:] if line]
    return [line["path"] for line in lines if (out / line["path"]).exists()]


@pytest.mark.parametrize("number", (signal.SIGKILL, signal.SIGINT), ids=("killed", "interrupted"))
def test_goes_on_where_it_was_interrupted(tiny, tiny_lossless, tmp_path, number):
    out = tmp_path / "out"
    code, message = interrupted(tiny_lossless.path, out, number)
    if number == signal.SIGINT:
        assert code == 130 and "goes on" in one_line(message)
    expected = tensors.tree(tiny)
    there = {path: digest for path, digest in tensors.tree(out).items() if not path.startswith(".upg-")}
    assert 0 < len(there) < len(expected) and there.items() <= expected.items()
    before = {path: (out / path).stat().st_ino for path in finished(out)}
    assert there.keys() == before.keys()
    report = unpack(tiny_lossless.path, out)
    assert tensors.tree(out) == expected
    assert report["kept"] == len(before)
    assert {path: (out / path).stat().st_ino for path in before} == before


def test_what_somebody_changed_or_put_there_since_stays(tiny, tiny_lossless, tmp_path):
    """It is not what an earlier run wrote, whatever that finished."""
    out = tmp_path / "out"
    interrupted(tiny_lossless.path, out, signal.SIGKILL)
    changed = finished(out)[0]
    (out / changed).write_bytes(bytes((out / changed).stat().st_size))
    line = failed(tiny_lossless.path, out)
    assert changed in line and "--force" in line and not (out / changed).read_bytes().strip(b"\0")
    (out / changed).unlink()
    missing = next(path for path in tensors.tree(tiny) if not (out / path).exists() and path != changed)
    (out / missing).parent.mkdir(parents=True, exist_ok=True)
    (out / missing).write_text("precious")
    assert missing in failed(tiny_lossless.path, out)
    assert (out / missing).read_text() == "precious"
    (out / missing).unlink()
    unpack(tiny_lossless.path, out)
    assert tensors.tree(out) == tensors.tree(tiny)


@pytest.mark.parametrize("half", ("", "{", '{"path":"', "\n\n{}\nnonsense"))
def test_half_a_line_in_the_journal(tiny, tiny_lossless, tmp_path, half):
    """As a power cut leaves one; the next run appends behind it."""
    out = tmp_path / "out"
    interrupted(tiny_lossless.path, out, signal.SIGKILL)
    with open(out / JOURNAL, "a") as journal:
        journal.write(half)
    unpack(tiny_lossless.path, out)
    assert tensors.tree(out) == tensors.tree(tiny)


def test_does_not_go_on_with_something_else(tiny, tiny_lossless, tiny_lossy, tmp_path):
    """Another file, or other tensors of it: what is finished is part of no other work."""
    out = tmp_path / "out"
    interrupted(tiny_lossless.path, out, signal.SIGKILL)
    there = tensors.tree(out)
    for image, options in (
        (tiny_lossy.path, ()),
        (tiny_lossless.path, ("--tensor", "*norm*")),
        (tiny_lossless.path, ("--file", "*.json")),
    ):
        line = failed(image, out, *options)
        assert "something else" in line and "--force" in line
        assert tensors.tree(out) == there
    unpack(tiny_lossless.path, out)
    assert tensors.tree(out) == tensors.tree(tiny)


def test_one_at_a_time(tiny_lossless, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with open(out / JOURNAL, "w") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        assert "another upg unpack" in failed(tiny_lossless.path, out)
    unpack(tiny_lossless.path, out)


def test_the_rights_of_the_file(tiny_lossless, tmp_path):
    """Who may not read the .upg file may not read what was unpacked from it."""
    image = tmp_path / "m.upg"
    shutil.copy(tiny_lossless.path, image)
    image.chmod(0o640)
    unpack(image, tmp_path / "out")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert modes == {0o640}


def test_damage_is_named_and_what_is_whole_stays(tiny, tiny_lossless, tmp_path):
    info = json.loads(run(UPG, "info", tiny_lossless.path, "--json").stdout)
    last = info["models"][0]["files"][-1]["path"]
    assert last == "tokenizer_config.json"
    data = bytearray(tiny_lossless.path.read_bytes())
    # The last block of the body is that of the last file.
    (offset,) = struct.unpack_from("<Q", data, len(data) - 64)
    data[offset - 1] ^= 1
    image = tmp_path / "damaged.upg"
    image.write_bytes(data)
    line = failed(image, tmp_path / "out")
    assert "checksum" in line and last in line and "damaged.upg" in line
    found = {k: v for k, v in tensors.tree(tmp_path / "out").items() if k != JOURNAL}
    expected = tensors.tree(tiny)
    assert found.items() <= expected.items() and last not in found


def test_no_room(tiny_lossless, tmp_path):
    with small(tmp_path / "full", 2 * MIB) as disk:
        line = failed(tiny_lossless.path, disk / "out")
        assert "No space left" in line and "make room" in line
        left = [path for path in (disk / "out").rglob("*") if path.name.endswith(".partial")]
        assert left == []
