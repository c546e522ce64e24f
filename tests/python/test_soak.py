"""scripts/soak_mount.py for some seconds: every byte right, and memory within the budget."""

import json
import sys

import numpy as np
import pytest

from support import tensors
from support.programs import BINARIES, REPO, often, require_fuse, run

SCRIPT = REPO / "scripts" / "soak_mount.py"
MIB = 1 << 20


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Larger than the cache below: tensors of several blocks, and many that are small."""
    large = [tensors.gaussian(f"large {i}", (1500, 1000), "BF16", seed=i) for i in range(8)]
    sizes = np.random.default_rng(1).integers(1000, 60_000, 400)
    small = [tensors.gaussian(f"small {i}", (int(n),), "BF16", seed=i) for i, n in enumerate(sizes)]
    root = tmp_path_factory.mktemp("source") / "soaked"
    tensors.write(root / "model.safetensors", large + small, {"format": "pt"}, padded=False)
    (root / "config.json").write_text("{}")
    return root


@pytest.mark.parametrize("options", ("", "--threads 16 --decoders 16 --drop-compressed"))
def test_many_readers_get_the_right_bytes_within_the_budget(model, tmp_path, options):
    require_fuse()
    report = tmp_path / "report.json"
    given = ["--seconds", str(often(3, 300)), "--readers", str(often(12, 64)), "--cache-size", "16MiB", "--work", tmp_path]
    given += ["--bin", BINARIES, "--json", report, f"--mount-options={options}"]
    done = run(sys.executable, SCRIPT, model, *given, timeout=often(240, 600))
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(report.read_text())["results"]
    assert result["wrong"] == [] and result["bytes"] > 10 * MIB
    assert all(count > 0 for count in result["requests"].values())
    # The cache was full, and blocks had to go.
    assert result["stats"]["cache"]["evictions"] > 0
    assert result["memory"]["VmHWM"] <= result["allowed"] == 80 * MIB


def test_a_wrong_byte_is_found(model, tmp_path):
    """Else the test above would prove nothing."""
    require_fuse()
    image = tmp_path / "image"
    done = run(BINARIES / "upg", "convert", model, "-o", image, "--lossless")
    assert done.returncode == 0, done.stderr
    other = tmp_path / "other"
    other.mkdir()
    content = bytearray((model / "model.safetensors").read_bytes())
    content[::1000] = bytes(byte ^ 1 for byte in content[::1000])
    (other / "model.safetensors").write_bytes(content)
    given = ["--image", next(image.glob("*.upg")), "--seconds", "1", "--readers", "2"]
    done = run(sys.executable, SCRIPT, other, *given, "--work", tmp_path, "--bin", BINARIES)
    assert done.returncode == 1 and "differ" in done.stdout, done.stdout + done.stderr
