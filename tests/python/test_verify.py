"""upg verify: what is wrong is named by tensor, block and byte range, and the exit code says it."""

import json
import os
import shutil
import struct

import pytest

from support import tensors
from support.mounting import assert_gone, is_mounted
from support.programs import GOLDEN, UPG, UPG_MOUNT, convert, one_line, require_fuse, run

WRONG = 3
SHARD = "model-00001-of-00004.safetensors"


def verify(image, *options):
    """(exit code, report)"""
    done = run(UPG, "verify", image, "--json", *options)
    assert done.returncode in (0, WRONG), (done.returncode, done.stderr)
    report = json.loads(done.stdout)
    assert (done.returncode == 0) == (report["findings"] == [])
    return done.returncode, report


def damaged(image, out, offset, bit=1):
    data = bytearray(image.read_bytes())
    data[offset] ^= bit
    out.write_bytes(data)
    return out


def test_whole_files_are_whole(tiny, tiny_lossless, tiny_lossy, mixed, mixed_lossy):
    for image, source in (
        (tiny_lossless.path, tiny),
        (tiny_lossy.path, tiny),
        (mixed_lossy.path, mixed),
    ):
        code, report = verify(image, "--against", source)
        assert code == 0
        assert report["file_bytes"] == image.stat().st_size
        names = {t["name"] for t in report["against"]["tensors"]}
        assert names == set(tensors.read_model(source) if source.is_dir() else tensors.read(source))
        assert report["decoded_bytes"] > 0


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*.upg")), ids=lambda path: path.stem)
def test_golden_files_are_whole(golden):
    assert verify(golden)[0] == 0


def test_noise_is_measured_and_not_believed(tiny, tiny_lossy):
    """What the report says is what an independent measurement gives."""
    _, report = verify(tiny_lossy.path, "--against", tiny)
    lossy = [t for t in report["against"]["tensors"] if t["snr_db"] is not None]
    assert lossy
    for tensor in lossy:
        assert tensor["snr_db"] == pytest.approx(tensor["recorded_snr_db"], abs=1e-4)
        assert tensor["snr_db"] == pytest.approx(tiny_lossy.tensor(tensor["name"])["snr_db"], abs=1e-4)
        assert tensor["differing_bytes"] is None
    exact = [t for t in report["against"]["tensors"] if t["snr_db"] is None]
    assert exact and all(t["differing_bytes"] == 0 for t in exact)


def spans(path):
    """{tensor: (first byte, one after the last)} in the file."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return {n: tuple(8 + length + o for o in t["data_offsets"]) for n, t in header.items()}


def test_a_damaged_block_is_named(tmp_path, mixed, mixed_lossless):
    """Every finding says where the bytes would have been, and all others were decoded."""
    image = mixed_lossless.path
    whole = verify(image)[1]
    size = image.stat().st_size
    found = set()
    for offset in (16, size // 3, size // 2, 2 * size // 3):
        code, report = verify(damaged(image, tmp_path / "bad.upg", offset))
        assert code == WRONG
        (finding,) = report["findings"]
        assert finding["offset"] <= offset
        assert "checksum mismatch" in finding["what"]
        start, end = finding["bytes"]
        found.add(finding["tensor"])
        if finding["tensor"]:
            first, last = spans(mixed)[finding["tensor"]]
            assert first <= start < end <= last
        text = run(UPG, "verify", tmp_path / "bad.upg")
        assert text.returncode == WRONG and text.stderr == ""
        (line,) = (line for line in text.stdout.splitlines() if "checksum mismatch" in line)
        told = [f"{finding['model']}/{finding['file']}"] if finding["file"] else []
        told += [f'tensor "{finding["tensor"]}"'] if finding["tensor"] else []
        if finding["blocks"]:
            first, last = finding["blocks"]
            told.append(f"block {first}" if first == last else f"blocks {first} to {last}")
        told += [f"bytes {start} to {end - 1}", f"stored at byte {finding['offset']}"]
        assert line.strip().startswith(f"{', '.join(told)}: "), line
        if "side block" not in finding["what"]:
            assert report["blocks"] == whole["blocks"] - 1
            assert report["decoded_bytes"] == whole["decoded_bytes"] - (end - start)
    assert len(found) > 1


def test_neighbours_with_one_defect_are_one_finding(tmp_path, mixed_lossless):
    data = bytearray(mixed_lossless.path.read_bytes())
    middle = slice(len(data) // 4, 3 * len(data) // 4)
    data[middle] = bytes(b ^ 0xFF for b in data[middle])
    (tmp_path / "bad.upg").write_bytes(data)
    code, report = verify(tmp_path / "bad.upg")
    assert code == WRONG
    assert any(last > first for f in report["findings"] for first, last in [f["blocks"]])
    text = run(UPG, "verify", tmp_path / "bad.upg")
    assert text.returncode == WRONG
    assert f"{len(report['findings'])} things are wrong" in text.stdout
    assert "checksum mismatch" in text.stdout and text.stderr == ""


def test_broken_structure_is_a_finding(tmp_path, tiny_lossless):
    """A file that does not open at all: damage, too, and told in the same form."""
    size = tiny_lossless.path.stat().st_size
    index = damaged(tiny_lossless.path, tmp_path / "index.upg", size - 100)
    cut = tmp_path / "cut.upg"
    cut.write_bytes(tiny_lossless.path.read_bytes()[: size - 1000])
    for path, what in ((index, "checksum"), (cut, "magic")):
        code, report = verify(path)
        assert code == WRONG
        (finding,) = report["findings"]
        assert what in finding["what"] and finding["offset"] is not None


def test_what_cannot_be_checked_is_no_damage(tmp_path, tiny_lossless):
    for image, options in (
        (tmp_path / "absent.upg", ()),
        (tmp_path, ()),
        (tiny_lossless.path, ("--against", tmp_path / "absent")),
    ):
        done = run(UPG, "verify", image, *options)
        assert done.returncode == 1
        assert done.stdout == "" and str(tmp_path) in one_line(done.stderr)
    assert run(UPG, "verify").returncode == 2


def changed_source(tiny, to):
    shutil.copytree(tiny, to, copy_function=shutil.copyfile)
    return to


def flip_weight(path, name):
    data = bytearray(path.read_bytes())
    start, end = spans(path)[name]
    data[(start + end) // 4 * 2] ^= 1
    path.write_bytes(data)


def with_other_metadata(path):
    found = list(tensors.read(path).values())
    tensors.write(path, found, {"format": "other"})


def without_a_tensor(path):
    found = list(tensors.read(path).values())
    tensors.write(path, found[1:], {"format": "pt"})


def as_another_type(path):
    found = list(tensors.read(path).values())
    found[0].dtype = {"BF16": "F16"}[found[0].dtype]
    tensors.write(path, found, {"format": "pt"})


CHANGES = {
    "a weight": (lambda root: flip_weight(root / SHARD, first_tensor(root)), "source", SHARD),
    "a small file": (lambda root: (root / "LICENSE").write_text("mine"), "bytes", "LICENSE"),
    "one byte of a small file": (
        lambda root: (root / "LICENSE").write_bytes(
            (root / "LICENSE").read_bytes()[:-1] + b"!"
        ),
        "differs from the source in 1 of",
        "LICENSE",
    ),
    "a new file": (lambda root: (root / "new.json").write_text("{}"), "missing", "new.json"),
    "a removed file": (lambda root: (root / "LICENSE").unlink(), "not in the source", "LICENSE"),
    "metadata": (lambda root: with_other_metadata(root / SHARD), "header", SHARD),
    "a removed tensor": (lambda root: without_a_tensor(root / SHARD), "not in the source", SHARD),
    "an element type": (lambda root: as_another_type(root / SHARD), "F16", SHARD),
}


def first_tensor(root):
    return next(iter(spans(root / SHARD)))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ("lossless", "lossy"))
def test_another_source_differs(tmp_path, tiny, tiny_lossless, tiny_lossy, kind, change):
    image = {"lossless": tiny_lossless, "lossy": tiny_lossy}[kind].path
    source = changed_source(tiny, tmp_path / tiny.name)
    make, what, file = CHANGES[change]
    make(source)
    code, report = verify(image, "--against", source)
    assert code == WRONG
    assert any(what in f["what"] and f["file"] == file for f in report["findings"]), report["findings"]


def test_one_of_several_models(tmp_path):
    """The model is named, and a name that is not there is an error that lists them."""
    image = GOLDEN / "several-models.upg"
    info = json.loads(run(UPG, "info", image, "--json").stdout)
    names = [model["name"] for model in info["models"]]
    assert len(names) > 1
    source = tmp_path / "elsewhere"
    tensors.write(source / "a.safetensors", [tensors.gaussian("w", (4, 4))])
    done = run(UPG, "verify", image, "--against", source)
    assert done.returncode == 1
    assert all(name in one_line(done.stderr) for name in names)
    code, report = verify(image, "--against", source, "--model", names[1])
    assert code == WRONG and report["against"]["model"] == names[1]


def test_reports_are_the_same_with_any_number_of_threads(tmp_path, mixed, mixed_lossy):
    bad = damaged(mixed_lossy.path, tmp_path / "bad.upg", mixed_lossy.path.stat().st_size // 2)
    reports = []
    for threads in (1, 2, 7):
        _, report = verify(bad, "--against", mixed, "--threads", threads)
        del report["seconds"]
        for tensor in report["against"]["tensors"]:
            tensor["snr_db"] = tensor["snr_db"] and round(tensor["snr_db"], 6)
        report["against"]["snr_db"] = round(report["against"]["snr_db"], 6)
        reports.append(report)
    assert reports[0] == reports[1] == reports[2]


def test_mount_verifies_first(tmp_path, tiny_lossless, mount):
    require_fuse()
    with mount(tiny_lossless.path, "--verify") as root:
        assert (root / "config.json").stat().st_size > 0
    point = tmp_path / "refused"
    point.mkdir()
    bad = damaged(tiny_lossless.path, tmp_path / "bad.upg", 20)
    done = run(UPG_MOUNT, "--verify", bad, point)
    assert done.returncode == WRONG
    line = one_line(done.stderr)
    assert "bad.upg" in line and "checksum mismatch" in line and "upg verify" in line
    assert not is_mounted(point)
    assert_gone(point)


def test_names_cannot_drive_a_terminal(tmp_path):
    content = [tensors.gaussian("w\x1b[2J", (64, 64))]
    source = tensors.write(tmp_path / "m.safetensors", content)
    image = convert(source, tmp_path / "m.upg", "--lossless").path
    other = tensors.write(tmp_path / "n.safetensors", [tensors.gaussian("v", (64, 64))])
    os.replace(other, source)
    done = run(UPG, "verify", image, "--against", source, "--tensors")
    assert done.returncode == WRONG
    assert "\x1b" not in done.stdout and "[2J" in done.stdout
