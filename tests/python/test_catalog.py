"""upg catalog: what a model is made of, from its headers alone."""

import json
import shutil
import sys
from types import SimpleNamespace

from support import tensors
from support.programs import REPO, UPG, require, run

sys.path.insert(0, str(REPO / "scripts"))
from model_families import PHI4, deepseek_tensors, phi_tensors  # noqa: E402
from model_tensors import safetensors_header, split_into_shards  # noqa: E402


def catalog(source):
    done = run(UPG, "catalog", source, "--json")
    assert done.returncode == 0, done.stderr
    (one,) = json.loads(done.stdout)
    return one


def total(tensors_):
    keys = ("parameters", "bytes")
    return {"tensors": len(tensors_)} | {key: sum(t[key] for t in tensors_) for key in keys}


def test_every_tensor_and_its_totals(tiny, tiny_lossless):
    found = catalog(tiny)
    expected = tensors.read_model(tiny)
    assert {t["name"]: (t["dtype"], tuple(t["shape"]), t["bytes"]) for t in found["tensors"]} == {
        name: (t.dtype, tuple(t.shape), len(t.data)) for name, t in expected.items()
    }
    assert found["bytes"] == sum(path.stat().st_size for path in tiny.glob("*.safetensors"))
    assert found["parameters"] == total(found["tensors"])["parameters"]
    kinds = {kind["name"]: {k: v for k, v in kind.items() if k != "name"} for kind in found["kinds"]}
    assert set(kinds) == {"embedding", "attention", "mlp", "norm", "head"}
    for kind, amounts in kinds.items():
        assert amounts == total([t for t in found["tensors"] if t["kind"] == kind])
    for number, layer in enumerate(found["layers"]):
        assert layer.pop("name") == f"model.layers.{number}"
        inside = [t for t in found["tensors"] if t["name"].startswith(f"model.layers.{number}.")]
        assert layer == total(inside)
    # What was converted has the same catalogue, and so has the file beside it.
    assert catalog(tiny_lossless.path) == catalog(tiny)


def test_beside_an_archive_lies_its_catalogue(tiny, tmp_path):
    assert run(UPG, "convert", tiny, "-o", tmp_path / "out").returncode == 0
    assert json.loads((tmp_path / "out" / "tiny-catalog.json").read_text()) == catalog(tiny)


def headers_only(root, listed):
    """Shards that are nothing but their headers and a hole for each tensor."""
    root.mkdir()
    shards = split_into_shards(listed, 5_000_000_000)
    for number, shard in enumerate(shards, 1):
        header = safetensors_header(shard)
        path = root / f"model-{number:05}-of-{len(shards):05}.safetensors"
        path.write_bytes(header)
        with open(path, "r+b") as file:
            file.truncate(len(header) + sum(t.bytes for t in shard))
    return root


def test_the_whole_of_phi_4(tmp_path):
    """Layers in the order of their numbers, those that are alike in one line."""
    listed = phi_tensors(SimpleNamespace(**PHI4))
    root = headers_only(tmp_path / "phi-4", listed)
    found = catalog(root)
    assert (len(found["tensors"]), found["parameters"]) == (243, 14_659_507_200)
    assert [layer["name"] for layer in found["layers"]] == [f"model.layers.{i}" for i in range(40)]
    text = run(UPG, "catalog", root).stdout
    assert len(text.splitlines()) < 10 and "model.layers.0 to 39, each" in text
    assert len(run(UPG, "catalog", root, "--tensors").stdout.splitlines()) > 243


DEEPSEEK_V3 = dict(
    layers=61, hidden=7168, dense_layers=3, heads=128, head=128, rope_head=64, q_rank=1536, kv_rank=512,
    intermediate=18432, experts=256, expert_inner=2048, vocab=129280,
)  # fmt: skip


def test_671_billion_parameters_within_memory(tmp_path):
    """As many tensors and shards as DeepSeek-V3 has; of the memory, most is for the list."""
    listed = deepseek_tensors(SimpleNamespace(**DEEPSEEK_V3))
    root = headers_only(tmp_path / "deepseek-v3", listed)
    command = ["prlimit", f"--data={256 << 20}", UPG, "catalog", root]
    require(shutil.which("prlimit"), "no prlimit")
    done = run(*command, "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert len(found["tensors"]) == len(listed) == 91_991
    # Without the scales, and without the layer that predicts a token further on.
    plain = [t for t in found["tensors"] if "_scale_inv" not in t["name"] and ".layers.61." not in t["name"]]
    assert round(sum(t["parameters"] for t in plain) / 1e9, 1) == 671.0
    assert len(run(*command).stdout.splitlines()) < 20


def test_names_do_not_reach_the_terminal_as_they_are(tmp_path):
    name = "model.layers.0.\x1b[2Jx"
    source = tensors.write(tmp_path / "m.safetensors", [tensors.gaussian(name, (3, 5))])
    for done in (run(UPG, "catalog", source, "--tensors"), run(UPG, "catalog", source, "--json")):
        assert done.returncode == 0 and "\x1b" not in done.stdout and "[2Jx" in done.stdout


def test_what_is_no_model_is_an_error(tmp_path):
    done = run(UPG, "catalog", tmp_path)
    assert done.returncode == 1 and "no .safetensors file" in done.stderr
