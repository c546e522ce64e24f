"""upg convert --part, and upg merge of the parts: the model that one conversion would have made."""

import json
import os
import shutil

import numpy as np
import pytest

from support import tensors
from support.merging import below, merge, shown
from support.mounting import mounts_below
from support.programs import UPG, UPG_MOUNT, convert, one_line, require_fuse, run

PARTS = 3


def convert_parts(source, directory, *options, of=PARTS):
    """The parts' files."""
    made = []
    for i in range(1, of + 1):
        out = directory / f"part-{i}-of-{of}.upg"
        report = convert(source, out, "--part", f"{i}/{of}", *options).report
        assert (report["part"]["number"], report["part"]["of"]) == (i, of)
        made.append(out)
    return made


@pytest.fixture(scope="module")
def lossy_parts(tiny, tmp_path_factory):
    return convert_parts(tiny, tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def lossless_parts(tiny, tmp_path_factory):
    return convert_parts(tiny, tmp_path_factory.mktemp("parts"), "--lossless")


def info(image):
    return json.loads(run(UPG, "info", image, "--json").stdout)


def files(image):
    return {file["path"]: file["size"] for model in info(image)["models"] for file in model["files"]}


def failed(out, *inputs, options=()):
    done = run(UPG, "merge", *inputs, "-o", out, *options)
    assert done.returncode == 1 and not out.exists()
    return one_line(done.stderr)


def test_every_file_is_in_one_part(tiny, lossy_parts):
    held = [files(part) for part in lossy_parts]
    together = {}
    for part in held:
        assert any(path.endswith(".safetensors") for path in part)
        assert not together.keys() & part.keys()
        together |= part
    assert together == {path: (tiny / path).stat().st_size for path in tensors.tree(tiny)}
    assert all(path.endswith(".safetensors") for part in held[1:] for path in part)


@pytest.mark.parametrize("options", (("--lossless",), ("--like",)), ids=("lossless", "rates given"))
def test_joined_parts_are_the_very_file(options, tiny, tiny_lossless, tiny_lossy, lossless_parts, tmp_path):
    """Where no rate depends on the tensors before, not a byte differs; in whatever order they come."""
    if options == ("--like",):
        whole, parts = tiny_lossy.path, convert_parts(tiny, tmp_path, "--like", tiny_lossy.path)
    else:
        whole, parts = tiny_lossless.path, lossless_parts
    report = merge(tmp_path / "tiny.upg", *reversed(parts))
    assert (report["models"], report["parts"]) == (["tiny"], PARTS)
    assert tensors.sha256(tmp_path / "tiny.upg") == tensors.sha256(whole)


def test_joined_lossy_parts_are_the_model(tiny, tiny_lossy, lossy_parts, mount, tmp_path):
    """The rate that was asked for, and the names, sizes and exact bytes of a single conversion."""
    out = tmp_path / "tiny.upg"
    merge(out, *lossy_parts)
    done = run(UPG, "verify", out, "--against", tiny)
    assert done.returncode == 0, done.stdout
    whole, joined = info(tiny_lossy.path), info(out)
    assert joined["bits_per_weight"] == pytest.approx(whole["bits_per_weight"], rel=0.004)
    assert files(out) == files(tiny_lossy.path)
    before, after = whole["models"][0]["metadata"], joined["models"][0]["metadata"]
    rates = [metadata["options"].pop("tensor_bits") for metadata in (before, after)]
    assert before == after and len(rates[0]) == len(rates[1])
    for one, other in zip(*rates):
        assert one == other if None in (one, other) else other == pytest.approx(one, rel=0.06)
    assert joined["models"][0]["part"] is None

    one, other = shown(tiny_lossy.path, mount), shown(out, mount)
    assert one.keys() == other.keys() == tensors.tree(tiny).keys()
    exact = [path for path in one if not path.endswith(".safetensors")]
    assert [other[path] for path in exact] == [one[path] for path in exact]
    with mount(out) as root:
        source, decoded = tensors.read_model(tiny), tensors.read_model(root)
    for name, tensor in source.items():
        if tensor.data != decoded[name].data:
            assert tensors.snr(tensor, decoded[name]) > 12, name
        else:
            assert len(tensor.shape) < 2 or tensor.data == decoded[name].data
    # It is a model like any other: another can be converted like it.
    again = convert(tiny, tmp_path / "again.upg", "--like", out)
    assert tensors.sha256(again.path) == tensors.sha256(out)


@pytest.mark.parametrize("of", (2, 4))
def test_any_number_of_parts(of, tiny, tmp_path):
    parts = convert_parts(tiny, tmp_path, "--bits", "4", "--keep", "lm_head.*", of=of)
    merge(tmp_path / "tiny.upg", *parts)
    assert run(UPG, "verify", tmp_path / "tiny.upg", "--against", tiny).returncode == 0
    whole = convert(tiny, tmp_path / "whole.upg", "--bits", "4", "--keep", "lm_head.*")
    assert info(tmp_path / "tiny.upg")["bits_per_weight"] == pytest.approx(
        whole.report["bits_per_weight"], rel=0.004
    )


def test_the_only_part_is_the_whole(tiny, tiny_lossless, tmp_path):
    whole = convert(tiny, tmp_path / "tiny.upg", "--lossless", "--part", "1/1")
    assert whole.report["part"] is None
    assert tensors.sha256(whole.path) == tensors.sha256(tiny_lossless.path)


def test_a_part_alone_says_so(tiny, lossy_parts, tmp_path):
    part = lossy_parts[1]
    text = run(UPG, "info", part).stdout
    assert "part 2 of 3 of tiny" in text and "upg merge" in text
    assert info(part)["models"][0]["part"] == {"number": 2, "of": 3}
    for against in ((), ("--against", tiny)):
        done = run(UPG, "verify", part, *against)
        assert done.returncode == 0 and "part 2 of 3 of tiny" in done.stdout, done.stdout
    assert json.loads(run(UPG, "verify", part, "--json").stdout)["parts"] == [["tiny", {"number": 2, "of": 3}]]

    require_fuse()
    (tmp_path / "point").mkdir()
    done = run(UPG_MOUNT, part, tmp_path / "point")
    assert done.returncode == 1 and "part 2 of 3" in one_line(done.stderr) and "upg merge" in done.stderr
    assert mounts_below(tmp_path) == []
    done = run(UPG, "convert", tiny, "-o", tmp_path / "like.upg", "--like", part)
    assert done.returncode == 1 and "is a part" in one_line(done.stderr)


def test_parts_of_another_source_differ_from_it(tiny, lossy_parts, tmp_path):
    """A part is compared with its own files, and with all of them."""
    fewer = shutil.copytree(tiny, tmp_path / "tiny")
    path = next(path for path in files(lossy_parts[1]))
    (fewer / path).unlink()
    done = run(UPG, "verify", lossy_parts[1], "--against", fewer)
    assert done.returncode == 3 and path in done.stdout


def test_what_cannot_be_joined(tiny, tuned, lossy_parts, lossless_parts, tmp_path):
    out = tmp_path / "tiny.upg"
    line = failed(out, lossy_parts[0])
    assert "2/3, 3/3" in line and "--part 2/3" in line and str(lossy_parts[0]) in line
    assert "1/3" in failed(out, *lossy_parts[1:])
    line = failed(out, *lossy_parts, lossy_parts[1])
    assert "both are part 2/3" in line and str(lossy_parts[1]) in line
    assert "different options" in failed(out, lossy_parts[0], lossless_parts[1], lossy_parts[2])
    assert "different numbers of parts" in failed(out, *lossy_parts[:2], *convert_parts(tiny, tmp_path, of=2)[1:])

    # Other weights under the same name, with the same headers.
    other = shutil.copytree(tiny, tmp_path / "other" / "tiny")
    for path in other.glob("*.safetensors"):
        data = bytearray(path.read_bytes())
        data[-2:] = b"\0\0"
        path.write_bytes(data)
    part = convert(other, tmp_path / "other.upg", "--part", "2/3").path
    assert "different sources" in failed(out, lossy_parts[0], part, lossy_parts[2])
    kept = convert(tiny, tmp_path / "kept.upg", "--part", "2/3", "--keep", "*down_proj*").path
    assert "different options" in failed(out, lossy_parts[0], kept, lossy_parts[2])
    assert "join the parts first" in failed(out, *lossy_parts, options=("--delta", "tiny"))
    assert "same name" in failed(out, *lossy_parts, convert(tiny, tmp_path / "whole.upg").path)


def test_parts_and_whole_models_at_once(tiny, tuned, tuned_lossless, lossless_parts, mount, tmp_path):
    out = tmp_path / "both.upg"
    named = [f"joined={part}" for part in lossless_parts]
    report = merge(out, named[0], tuned_lossless.path, *named[1:])
    assert report["models"] == ["joined", "tuned"]
    assert shown(out, mount) == below("joined", tensors.tree(tiny)) | below("tuned", tensors.tree(tuned))


def test_a_model_that_cannot_be_divided_so(tiny, mixed, tmp_path):
    def refused(source, *options):
        done = run(UPG, "convert", source, *options, cwd=tmp_path)
        assert done.returncode == 1 and os.listdir(tmp_path) == []
        return one_line(done.stderr)

    line = refused(mixed, "-o", "part.upg", "--part", "1/2")
    assert "whole safetensors files" in line and "max_shard_size" in line
    assert "there are 4 of them for 5 parts" in refused(tiny, "-o", "part.upg", "--part", "5/5")
    assert "must end in .upg" in refused(tiny, "-o", "directory", "--part", "1/2")
    for wrong in ("0/2", "3/2", "2", "1/0"):
        assert run(UPG, "convert", tiny, "--part", wrong, cwd=tmp_path).returncode == 2


def test_the_name_of_a_part(tiny, tmp_path):
    assert run(UPG, "convert", tiny, "--lossless", "--part", "2/3", cwd=tmp_path).returncode == 0
    assert os.listdir(tmp_path) == ["tiny-2-of-3.upg"]


def test_tensors_in_files_of_their_own(tmp_path):
    """Rates come from all files: a part of one matrix does not get the average for it."""
    source = tmp_path / "model"
    names = ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "lm_head.weight")
    for i, name in enumerate(names):
        rows = (600, 900, 600)[i]
        content = [tensors.gaussian(name, (rows, 512), seed=i)]
        tensors.write(source / f"model-{i}.safetensors", content, {"format": "pt"})
    whole = convert(source, tmp_path / "whole.upg")
    merge(tmp_path / "joined.upg", *convert_parts(source, tmp_path))
    rates = [
        [t["bits_per_weight"] for f in info(image)["models"][0]["files"] for t in f["tensors"]]
        for image in (whole.path, tmp_path / "joined.upg")
    ]
    assert np.ptp(rates[0]) > 0.5
    assert rates[1] == pytest.approx(rates[0], rel=0.01)
