"""upg merge --delta: what training changed a little is stored as a difference."""

import json
import os
import sys

import pytest

from support import tensors
from support.merging import below, merge, shown, trained
from support.programs import REFERENCE_DECODER, UPG, convert, one_line, run


@pytest.fixture(scope="module")
def run_7(tiny, tmp_path_factory):
    return trained(tiny, tmp_path_factory.mktemp("source") / "run-7")


@pytest.fixture(scope="module")
def run_7_lossless(run_7, tmp_path_factory):
    return convert(run_7, tmp_path_factory.mktemp("upg") / "run-7.upg", "--lossless")


def sums(image):
    """{path: sha256} by the decoder that shares nothing with the programs."""
    done = run(sys.executable, REFERENCE_DECODER, image, "--sha256")
    assert done.returncode == 0, done.stderr
    return {path: digest for digest, path in (line.split("  ", 1) for line in done.stdout.splitlines())}


def test_what_training_changed(tiny, run_7, tiny_lossless, run_7_lossless, mount, tmp_path):
    """A difference is exact, wherever it is read, and smaller than what it stands for."""
    plain, delta = tmp_path / "plain.upg", tmp_path / "delta.upg"
    merge(plain, tiny_lossless.path, run_7_lossless.path)
    # The base comes second: differences are to what lies before them all the same.
    report = merge(delta, run_7_lossless.path, tiny_lossless.path, options=["--delta", "tiny"])
    matrices = [name for name, t in tensors.read_model(tiny).items() if len(t.shape) == 2]
    assert report["differences"] == len(matrices) > 8
    expected = below("tiny", tensors.tree(tiny)) | below("run-7", tensors.tree(run_7))
    assert shown(delta, mount) == expected
    assert sums(delta) == expected
    own, alone = (image.path.stat().st_size for image in (run_7_lossless, tiny_lossless))
    assert delta.stat().st_size - alone < 0.4 * own < 0.4 * (plain.stat().st_size - alone) + 25_000
    for name, source in (("tiny", tiny), ("run-7", run_7)):
        done = run(UPG, "verify", delta, "--against", source, "--model", name)
        assert done.returncode == 0, done.stdout
    unpacked = run(UPG, "unpack", delta, "-o", tmp_path / "out")
    assert unpacked.returncode == 0 and tensors.tree(tmp_path / "out") == expected


def test_differences_merge_again(tiny, run_7, tiny_lossless, run_7_lossless, tuned, tuned_lossless, mount, tmp_path):
    one, two = tmp_path / "one.upg", tmp_path / "two.upg"
    merge(one, tiny_lossless.path, run_7_lossless.path, options=["--delta", "tiny"])
    merge(two, tuned_lossless.path, one, f"again={run_7_lossless.path}", options=["--delta", "tiny"])
    expected = {}
    for name, source in (("tuned", tuned), ("tiny", tiny), ("run-7", run_7), ("again", run_7)):
        expected |= below(name, tensors.tree(source))
    assert shown(two, mount) == expected and sums(two) == expected


@pytest.mark.parametrize("delta", ("tuned", "run-7"))
def test_differences_from_another_base(delta, tiny, run_7, tuned, tiny_lossless, run_7_lossless, tuned_lossless, mount, tmp_path):
    """What others are differences from stays whole, and a base that is a difference stands for its own."""
    one, two, again = tmp_path / "one.upg", tmp_path / "two.upg", tmp_path / "again.upg"
    merge(one, tiny_lossless.path, run_7_lossless.path, options=["--delta", "tiny"])
    report = merge(two, one, tuned_lossless.path, options=["--delta", delta])
    expected = {}
    for name, source in (("tuned", tuned), ("tiny", tiny), ("run-7", run_7)):
        expected |= below(name, tensors.tree(source))
    assert shown(two, mount) == expected and sums(two) == expected
    assert report["differences"] >= (delta == "run-7")
    # The same again is the same file.
    merge(again, one, tuned_lossless.path, options=["--delta", delta])
    assert tensors.sha256(again) == tensors.sha256(two)


def test_what_two_runs_share_is_one_difference(tiny_lossless, run_7_lossless, tmp_path):
    first, second = tmp_path / "first.upg", tmp_path / "second.upg"
    merge(first, tiny_lossless.path, run_7_lossless.path, options=["--delta", "tiny"])
    inputs = (tiny_lossless.path, run_7_lossless.path, f"again={run_7_lossless.path}")
    report = merge(second, *inputs, options=["--delta", "tiny"])
    assert second.stat().st_size < first.stat().st_size + 20_000
    assert report["differences"] < report["shared_arrays"]


def test_lossy_tensors_are_no_differences(tiny_lossy, tiny_lossless, tmp_path):
    report = merge(tmp_path / "m.upg", tiny_lossless.path, f"small={tiny_lossy.path}", options=["--delta", "tiny"])
    assert report["differences"] == 0


def test_differences_need_a_model(tiny_lossless, tmp_path):
    done = run(UPG, "merge", tiny_lossless.path, "-o", tmp_path / "m.upg", "--delta", "other")
    line = one_line(done.stderr)
    assert done.returncode == 1 and '"other"' in line and "tiny" in line
    assert os.listdir(tmp_path) == []


def test_damage_to_the_base_is_named(tiny_lossless, run_7_lossless, mount, tmp_path):
    """In the tensors of both models, and in nothing else."""
    image = tmp_path / "delta.upg"
    merge(image, tiny_lossless.path, run_7_lossless.path, options=["--delta", "tiny"])
    data = bytearray(image.read_bytes())
    data[len(data) // 4] ^= 1
    image.write_bytes(data)
    done = run(UPG, "verify", image, "--json")
    findings = json.loads(done.stdout)["findings"]
    assert done.returncode == 3 and len(findings) == 2, findings
    assert all("checksum" in json.dumps(finding) for finding in findings)
