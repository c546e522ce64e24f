"""upg convert --like: what two models have alike comes out alike, so that it is stored once."""

import json
import shutil

import numpy as np
import pytest

from support import tensors
from support.merging import merge
from support.programs import GOLDEN, UPG, convert, one_line, run

# The first one: all others are coded after it.
CHANGED = "model.embed_tokens.weight"


def retrained(source, out, changed):
    """A model of which some tensors are others, with its other files."""
    random = np.random.default_rng(3)
    shutil.copytree(source, out)
    for path in out.glob("*.safetensors"):
        listed = [t if t.name not in changed else other(t, random) for t in tensors.read(path).values()]
        tensors.write(path, listed, {"format": "pt"})
    return out


def other(tensor, random):
    values = (np.frombuffer(tensor.data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(tensor.shape)
    values = values * (1 + 0.1 * random.standard_normal(values.shape, dtype=np.float32))
    return tensors.from_floats(tensor.name, values, tensor.dtype)


@pytest.fixture(scope="module")
def base(tiny, tmp_path_factory):
    return convert(tiny, tmp_path_factory.mktemp("upg") / "base.upg")


@pytest.fixture(scope="module")
def tuned(tiny, tmp_path_factory):
    return retrained(tiny, tmp_path_factory.mktemp("source") / "tuned", {CHANGED})


def stored(image):
    """{name: bytes in the file}"""
    info = json.loads(run(UPG, "info", image, "--json").stdout)
    return {t["name"]: t["stored_bytes"] for m in info["models"] for f in m["files"] for t in f["tensors"]}


def refused(source, tmp_path, *options, code=1):
    done = run(UPG, "convert", source, "-o", tmp_path / "out.upg", *options)
    assert done.returncode == code and not (tmp_path / "out.upg").exists()
    return done.stderr


def test_a_fine_tune_costs_what_it_changed(tiny, base, tuned, tmp_path):
    like = convert(tuned, tmp_path / "tuned.upg", "--like", base.path)
    assert like.report["bits_per_weight"] == pytest.approx(base.report["bits_per_weight"], rel=0.01)
    report = merge(tmp_path / "both.upg", base.path, like.path)
    changed = stored(like.path)[CHANGED]
    more = (tmp_path / "both.upg").stat().st_size - base.path.stat().st_size
    assert changed < more < changed + 25_000
    assert report["shared_arrays"] >= len(stored(base.path)) - 1
    for model, source in (("tiny", tiny), ("tuned", tuned)):
        done = run(UPG, "verify", tmp_path / "both.upg", "--against", source, "--model", model)
        assert done.returncode == 0, done.stdout

    # By itself its tensors get other rates, and what is the same comes out otherwise.
    alone = convert(tuned, tmp_path / "alone.upg")
    apart = merge(tmp_path / "apart.upg", base.path, f"alone={alone.path}")
    assert apart["shared_bytes"] < 0.8 * report["shared_bytes"]


def test_the_same_model_comes_out_the_same(tiny, base, tmp_path):
    again = convert(tiny, tmp_path / "again.upg", "--like", base.path)
    assert tensors.sha256(again.path) == tensors.sha256(base.path)


def test_options_are_those_of_the_other(tiny, tuned, tmp_path):
    options = ("--bits", "4", "--effort", "16", "--grid", "prime", "--flat", "--keep", "lm_head.*")
    base = convert(tiny, tmp_path / "base.upg", *options)
    like = convert(tuned, tmp_path / "like.upg", "--like", base.path)
    again = convert(tuned, tmp_path / "again.upg", "--like", like.path)
    assert tensors.sha256(again.path) == tensors.sha256(like.path)
    described = [{t["name"]: (t["codec"], t["grid"], t["exact"]) for t in c.report["tensors"]} for c in (base, like)]
    assert described[0] == described[1]
    assert described[0]["lm_head.weight"][2] == "asked"


def test_a_tensor_that_the_other_lacks(tiny, base, tmp_path):
    """It gets what the others got on average."""
    more = tmp_path / "more"
    more.mkdir()
    added = tensors.gaussian("model.layers.9.mlp.down_proj.weight", (256, 1024))
    tensors.write(more / "model.safetensors", [*tensors.read_model(tiny).values(), added], {"format": "pt"})
    like = convert(more, tmp_path / "more.upg", "--like", base.path)
    found = {t["name"]: t for t in like.report["tensors"]}[added.name]
    assert found["bits_per_weight"] == pytest.approx(3.2, rel=0.05)


def test_one_of_several_models(tiny, base, tuned, tmp_path):
    four = convert(tiny, tmp_path / "four.upg", "--bits", "4")
    both = tmp_path / "both.upg"
    merge(both, base.path, f"four={four.path}")
    line = one_line(refused(tuned, tmp_path, "--like", both))
    assert "--like-model" in line and '"tiny", "four"' in line
    assert '"five"' in one_line(refused(tuned, tmp_path, "--like", both, "--like-model", "five"))
    like = convert(tuned, tmp_path / "like.upg", "--like", both, "--like-model", "four")
    assert like.report["bits_per_weight"] == pytest.approx(four.report["bits_per_weight"], rel=0.01)


def test_files_that_tell_no_rates(tuned, tiny_lossless, tmp_path):
    assert "--lossless" in one_line(refused(tuned, tmp_path, "--like", tiny_lossless.path))
    # Made before models said what their tensors were given.
    assert "convert it again" in one_line(refused(tuned, tmp_path, "--like", GOLDEN / "model-3.2.upg"))
    assert "no-such.upg" in one_line(refused(tuned, tmp_path, "--like", tmp_path / "no-such.upg"))


@pytest.mark.parametrize(
    "option", (("--bits", "4"), ("--lossless",), ("--ratio", "5"), ("--grid", "prime"), ("--effort", "8"), ("--flat",))
)
def test_rates_are_asked_for_in_one_way(option, tuned, base, tmp_path):
    assert "--like" in refused(tuned, tmp_path, "--like", base.path, *option, code=2)
    assert "--like" in refused(tuned, tmp_path, "--like-model", "tiny", code=2)
