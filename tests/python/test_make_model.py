"""scripts/make_model.py makes what the hub would hold."""

import json
import sys
from types import SimpleNamespace

import numpy as np

from support import tensors
from support.programs import MAKE_MODEL, make_model, needed

sys.path.insert(0, str(MAKE_MODEL.parent))
from model_families import PHI4, phi_tensors  # noqa: E402
from model_tensors import split_into_shards  # noqa: E402
from model_weights import to_bf16  # noqa: E402

torch = needed("torch")
by_torch = needed("safetensors.torch")


def test_full_size_is_phi_4():
    """Counts and shards of the real model, without its 29 GB."""
    plan = phi_tensors(SimpleNamespace(**PHI4))
    assert len(plan) == 243
    assert sum(t.weights for t in plan) == 14_659_507_200
    shards = split_into_shards(plan, 5 * 10**9)
    sizes = [sum(t.bytes for t in shard) / 1e9 for shard in shards]
    assert [round(s, 2) for s in sizes] == [4.93, 4.95, 4.90, 4.77, 4.77, 4.99]
    two = phi_tensors(SimpleNamespace(**{**PHI4, "layers": 2}))
    assert sum(t.weights for t in two) == 1_709_204_480


def test_files_are_those_that_safetensors_would_write(tiny):
    for shard in tiny.glob("*.safetensors"):
        raw = shard.read_bytes()
        assert by_torch.save(by_torch.load(raw), {"format": "pt"}) == raw


def test_index_names_the_shard_of_every_tensor(tiny):
    index = json.loads((tiny / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(
        len(t.data) for t in tensors.read_model(tiny).values()
    )
    for name, shard in index["weight_map"].items():
        assert name in tensors.read(tiny / shard)
    assert len(index["weight_map"]) == 15


def test_deterministic_whatever_the_threads(tiny, tmp_path):
    made = tensors.tree(make_model(tmp_path / "one", "--tiny", "--threads", "1"))
    assert made == tensors.tree(make_model(tmp_path / "three", "--tiny", "--threads", "3"))
    assert made.items() <= tensors.tree(tiny).items()
    other = tensors.tree(make_model(tmp_path / "other", "--tiny", "--seed", "5"))
    assert other["config.json"] == made["config.json"]
    assert other["model-00001-of-00004.safetensors"] != made["model-00001-of-00004.safetensors"]


def test_rounding_is_to_nearest_even():
    random = np.random.default_rng(0)
    values = random.standard_normal(100_000, dtype=np.float32) * np.exp(
        random.normal(0, 8, 100_000)
    ).astype(np.float32)
    halves = (np.arange(0x3F00, 0x3F80, dtype=np.uint32) << 16 | 0x8000).view(np.float32)
    values = np.concatenate([values, halves])
    expected = torch.from_numpy(values.copy()).to(torch.bfloat16).view(torch.uint16).numpy()
    assert np.array_equal(to_bf16(values.copy()), expected)


def test_weights_are_distributed_as_documented(tmp_path):
    model = make_model(
        tmp_path / "m",
        "--layers",
        "1",
        "--hidden",
        "1024",
        "--intermediate",
        "4096",
        "--vocab",
        "1024",
    )
    weights = tensors.floats(tensors.read_model(model)["model.layers.0.mlp.gate_up_proj.weight"])
    assert weights.shape == (8192, 1024)
    rows = weights.std(axis=1)
    assert 0.08 < rows.std() / rows.mean() < 0.15
    normal = weights / rows[:, None]
    assert abs(normal.mean()) < 0.001
    assert 0.66 < np.mean(np.abs(normal) < 1) < 0.70  # Gaussian: 0.683
    assert 1e-6 < np.mean(np.abs(normal) > 10) < 5e-5
    assert 25 < np.abs(normal).max() < 120
    norm = tensors.floats(tensors.read_model(model)["model.norm.weight"])
    assert abs(norm.mean() - 1) < 0.02 and 0.05 < norm.std() < 0.2
