"""`upg convert`: what it writes, keeps and refuses, and that it leaves no half work."""

import json
import os
import shutil
import signal
import subprocess
import time
from fnmatch import fnmatchcase

import numpy as np
import pytest

from support import tensors
from support.programs import UPG, convert, run


@pytest.fixture
def small(tmp_path):
    return tensors.write(tmp_path / "small.safetensors", [tensors.gaussian("w", (256, 384))])


@pytest.mark.parametrize(
    "patterns", (["model.layers.0.*"], ["*o_proj*", "lm_head.weight"]), ids=" ".join
)
def test_keep_leaves_matching_tensors_exact(tiny, tmp_path, mount, patterns):
    options = [o for p in patterns for o in ("--keep", p)]
    image = convert(tiny, tmp_path / "keep.upg", "--bits", "3.2", *options)
    source = tensors.read_model(tiny)
    with mount(image.path) as root:
        decoded = tensors.read_model(root)
    kept = 0
    for name, tensor in source.items():
        if any(fnmatchcase(name, p) for p in patterns):
            assert decoded[name].data == tensor.data, name
            assert image.tensor(name)["codec"] != "prime-sparse"
            kept += len(tensor.shape) == 2
        elif len(tensor.shape) == 2:
            assert decoded[name].data != tensor.data, name
    assert kept >= 3


def test_directory_as_output(tiny, tmp_path):
    out = tmp_path / "anything"
    done = run(UPG, "convert", tiny, "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    (image,) = out.glob("*.upg")
    assert image.stat().st_size == json.loads(done.stdout)["file_bytes"]
    assert json.loads((out / "upg-metadata.json").read_text()) == json.loads(done.stdout)
    catalog = (out / f"{image.stem}-catalog.json").read_text()
    for name in tensors.read_model(tiny):
        assert name in catalog
    json.loads(catalog)
    copies = tensors.tree(out)
    for name in (image.name, "upg-metadata.json", f"{image.stem}-catalog.json"):
        del copies[name]
    small = {p: sha for p, sha in tensors.tree(tiny).items() if not p.endswith(".safetensors")}
    assert copies == small


def test_default_output_is_beside_the_caller(tiny, tmp_path):
    done = run(UPG, "convert", tiny, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path) == ["tiny-upg"]
    assert (tmp_path / "tiny-upg" / "tiny.upg").is_file()
    report = json.loads((tmp_path / "tiny-upg" / "upg-metadata.json").read_text())
    # 3.2, and the small files, which are much beside so few weights.
    assert 3.2 < report["bits_per_weight"] < 3.8


def test_upg_as_output_is_the_file_alone(tiny, tmp_path):
    convert(tiny, tmp_path / "alone.upg")
    assert os.listdir(tmp_path) == ["alone.upg"]


@pytest.mark.parametrize("out", ("there.upg", "there"))
def test_an_existing_output_is_kept_without_force(small, tmp_path, out):
    out = tmp_path / out
    if out.suffix:
        out.write_text("precious")
    else:
        out.mkdir()
        (out / "file").write_text("precious")
    done = run(UPG, "convert", small, "-o", out)
    assert done.returncode == 1
    assert str(out) in done.stderr
    if out.suffix:
        assert out.read_text() == "precious"
    else:
        assert tensors.tree(out) == {"file": tensors.sha256(out / "file")}


def test_force_replaces(small, tmp_path):
    fresh = convert(small, tmp_path / "fresh.upg").path.read_bytes()
    (tmp_path / "there.upg").write_text("not needed")
    assert convert(small, tmp_path / "there.upg", "--force").path.read_bytes() == fresh


@pytest.mark.parametrize("options", (("--bits", "3.2"), ("--lossless",)), ids=" ".join)
def test_the_number_of_threads_changes_no_byte(tiny, tmp_path, options):
    one = convert(tiny, tmp_path / "one.upg", "--threads", "1", *options)
    two = convert(tiny, tmp_path / "two.upg", "--threads", "2", *options)
    assert one.path.read_bytes() == two.path.read_bytes()


@pytest.mark.parametrize("grid", ("prime", "uniform"))
def test_grids(tmp_path, mount, grid):
    source = tensors.write(tmp_path / "g.safetensors", [tensors.gaussian("w", (1000, 1024))])
    image = convert(source, tmp_path / "g.upg", "--grid", grid, "--bits", "2.5", "--effort", "1")
    assert image.tensor("w")["grid"] == grid
    with mount(image.path) as root:
        decoded = tensors.read(root / "g.safetensors")["w"]
    assert tensors.snr(tensors.read(source)["w"], decoded) > 13.0
    # An INT8 grid of primes, or of all integers: the positive levels, in steps of the grid.
    levels = np.unique(np.abs(tensors.floats(decoded)))[:6]
    primes, integers = np.array([0, 5, 11, 17, 23, 29]), np.arange(6)
    expected = primes / 5 if grid == "prime" else integers
    assert levels / levels[1] == pytest.approx(expected, rel=0.01)


def test_json_is_all_there_is_on_stdout(small, tmp_path):
    done = run(UPG, "convert", small, "-o", tmp_path / "j.upg", "--json")
    assert json.loads(done.stdout)["output"] == str(tmp_path / "j.upg")
    assert done.stdout.count("\n") <= done.stdout.rstrip().count("\n") + 1


def test_without_json_the_report_names_its_bases(small, tmp_path):
    done = run(UPG, "convert", small, "-o", tmp_path / "t.upg")
    assert done.returncode == 0
    text = done.stdout + done.stderr
    assert "bits per weight" in text.lower()
    assert "fp32" in text.lower() and "source" in text.lower()


def test_no_progress_bar_where_nobody_looks(small, tmp_path):
    done = run(UPG, "convert", small, "-o", tmp_path / "p.upg", "--json")
    assert done.stderr == ""


WRONG_USAGE = """
--bits 3.2 --lossless
--bits 3.2 --ratio 5
--lossless --ratio 2
--bits none
--bits 0
--bits -1
--bits nan
--ratio 0
--memory much
--threads x
--grid square
--keep [a
--no-such-option
another-source
"""


@pytest.mark.parametrize("arguments", WRONG_USAGE.strip().splitlines())
def test_wrong_usage_is_exit_2(small, tmp_path, arguments):
    done = run(UPG, "convert", small, "-o", tmp_path / "o.upg", *arguments.split())
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stderr.strip() and done.stdout == ""
    assert not (tmp_path / "o.upg").exists()


@pytest.mark.parametrize("arguments", ("convert", "info", "", "no-such-command"))
def test_missing_arguments_are_exit_2(arguments):
    assert run(UPG, *arguments.split()).returncode == 2


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM))
def test_an_interrupt_leaves_nothing(tmp_path, number):
    """The signal comes as soon as there is something beside the output's place."""
    source = tensors.write(tmp_path / "big.safetensors", [tensors.gaussian("w", (8000, 5000))])
    out = tmp_path / "out"
    out.mkdir()
    command = [UPG, "convert", source, "-o", out / "big.upg", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and not os.listdir(out):
        time.sleep(0.001)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0, "it was done before the signal came"
    assert b"panic" not in errors
    assert os.listdir(out) == []


def test_info(tiny_lossy):
    done = run(UPG, "info", tiny_lossy.path)
    assert done.returncode == 0, done.stderr
    assert "bits per weight" in done.stdout.lower()
    done = run(UPG, "info", tiny_lossy.path, "--tensors")
    for entry in tiny_lossy.report["tensors"]:
        (line,) = (text for text in done.stdout.splitlines() if f" {entry['name']}" in text)
        assert entry["codec"] in line
    done = run(UPG, "info", tiny_lossy.path, "--tensors", "--json")
    assert tiny_lossy.path.stat().st_size in json.loads(done.stdout).values()


def test_info_of_a_bad_file(tmp_path):
    for content in (b"", b"text", b"\x89UPG\r\n\x1a\n" + bytes(100)):
        (tmp_path / "bad.upg").write_bytes(content)
        done = run(UPG, "info", tmp_path / "bad.upg")
        assert done.returncode == 1
        assert done.stdout == ""
        assert "bad.upg" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("output", ("out.upg", "out"))
def test_who_may_not_read_the_source_may_not_read_the_result(output, tiny, tmp_path):
    source = tmp_path / "private"
    shutil.copytree(tiny, source)
    max(source.glob("*.safetensors")).chmod(0o600)
    convert(source, tmp_path / output)
    made = [tmp_path / output]
    if output == "out":
        made = [made[0] / name for name in ("private.upg", "private-catalog.json", "upg-metadata.json")]
    assert [path.stat().st_mode & 0o777 for path in made] == [0o600] * len(made)
