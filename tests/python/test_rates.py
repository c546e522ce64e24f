"""The rate that was asked for is met, and the report says what is true."""

import math

import numpy as np
import pytest

from support import tensors
from support.programs import convert

ROWS, COLUMNS = 1200, 1024
WEIGHTS = ROWS * COLUMNS
# Trellis-coded quantisation of a Gaussian, a quarter of a decibel below its best; at 8 bits the
# rounding to BF16 costs half a decibel.
LEAST_SNR = {2.5: 14.2, 3.2: 18.4, 4: 23.2, 6: 35.1, 8: 46.8}


def heavy_tailed(name, dtype, shape=(ROWS, COLUMNS)):
    """Rows of different scale, and outliers of up to 100 sigma."""
    random = np.random.default_rng(8)
    values = random.standard_normal(shape, dtype=np.float32)
    values *= 0.02 * np.exp(0.3 * random.standard_normal((shape[0], 1), dtype=np.float32))
    where = random.integers(0, values.size, values.size // 5000)
    values.reshape(-1)[where] *= random.uniform(5, 30, where.size)
    return tensors.from_floats(name, values, dtype)


def assert_rate(entry, bits):
    measured = entry["stored_bytes"] * 8 / entry["weights"]
    assert 0.99 * bits <= measured <= 1.003 * bits
    assert entry["bits_per_weight"] == pytest.approx(measured, abs=1e-3)


@pytest.mark.parametrize("bits", LEAST_SNR)
def test_bits_are_met_on_a_gaussian_matrix(tmp_path, mount, bits):
    source = tensors.write(tmp_path / "g.safetensors", [tensors.gaussian("w", (ROWS, COLUMNS))])
    image = convert(source, tmp_path / "g.upg", "--bits", str(bits))
    entry = image.tensor("w")
    assert entry["weights"] == WEIGHTS and entry["codec"] == "prime-sparse"
    assert_rate(entry, bits)
    # Index, header and trailer of a file with one tensor.
    assert 0 < image.path.stat().st_size - entry["stored_bytes"] < 4096

    with mount(image.path) as root:
        decoded = tensors.read(root / "g.safetensors")["w"]
    measured = tensors.snr(tensors.read(source)["w"], decoded)
    assert measured > LEAST_SNR[bits]
    assert entry["snr_db"] == pytest.approx(measured, abs=0.01)


@pytest.mark.parametrize("dtype", tensors.LOSSY)
def test_bits_are_met_with_outliers_in_every_dtype(tmp_path, mount, dtype):
    source = tensors.write(tmp_path / "h.safetensors", [heavy_tailed("w", dtype)])
    image = convert(source, tmp_path / "h.upg", "--bits", "3.2")
    assert_rate(image.tensor("w"), 3.2)
    with mount(image.path) as root:
        decoded = tensors.read(root / "h.safetensors")["w"]
    before, after = tensors.floats(tensors.read(source)["w"]), tensors.floats(decoded)
    assert tensors.snr(tensors.read(source)["w"], decoded) > 17.0
    # Outliers survive: none may be clipped to the end of the grid.
    largest = np.argsort(np.abs(before), axis=None)[-50:]
    ratio = after.reshape(-1)[largest] / before.reshape(-1)[largest]
    assert np.all(np.abs(ratio - 1) < 0.1)


def test_lossless_is_near_the_entropy_of_the_exponents(tmp_path):
    """BF16: the order-0 entropy of the exponent, eight raw bits, and 1 % for everything else."""
    tensor = heavy_tailed("w", "BF16")
    source = tensors.write(tmp_path / "l.safetensors", [tensor])
    image = convert(source, tmp_path / "l.upg", "--lossless")
    entry = image.tensor("w")
    exponents = (np.frombuffer(tensor.data, np.uint16) >> 7) & 0xFF
    share = np.bincount(exponents, minlength=256) / exponents.size
    entropy = -sum(p * math.log2(p) for p in share if p)
    assert entry["codec"] == "lossless" and entry["snr_db"] is None
    bits = entry["stored_bytes"] * 8 / WEIGHTS
    assert 0.98 * (entropy + 8) < bits < 1.01 * (entropy + 8)


@pytest.mark.parametrize("ratio", (4, 5, 6.5))
def test_ratio_is_against_the_bytes_of_the_source(tmp_path, ratio):
    content = [heavy_tailed("a", "BF16"), tensors.gaussian("b", (ROWS, COLUMNS), seed=2)]
    content.append(tensors.gaussian("norm", (COLUMNS,), "F32"))
    source = tensors.write(tmp_path / "r.safetensors", content)
    image = convert(source, tmp_path / "r.upg", "--ratio", str(ratio))
    reached = source.stat().st_size / image.path.stat().st_size
    assert 0.997 * ratio <= reached <= 1.015 * ratio
    assert image.report["ratio_source"] == pytest.approx(reached, rel=1e-3)


def test_report_agrees_with_the_files(tiny, tiny_lossy, mount):
    report = tiny_lossy.report
    size = tiny_lossy.path.stat().st_size
    source = tensors.read_model(tiny)
    weights = sum(math.prod(t.shape) for t in source.values())
    with mount(tiny_lossy.path) as root:
        decoded = tensors.read_model(root)

    assert report["file_bytes"] == size
    assert report["source_bytes"] == sum(p.stat().st_size for p in tiny.glob("*.safetensors"))
    assert report["weights"] == weights
    assert report["bits_per_weight"] == pytest.approx(8 * size / weights, rel=1e-3)
    assert report["ratio_source"] == pytest.approx(report["source_bytes"] / size, rel=1e-3)
    assert report["ratio_fp32"] == pytest.approx(4 * weights / size, rel=1e-3)
    assert report["seconds"] > 0 and report["threads"] >= 1

    signal = error = zeros = 0
    assert sorted(t["name"] for t in report["tensors"]) == sorted(source)
    for entry in report["tensors"]:
        tensor, got = source[entry["name"]], decoded[entry["name"]]
        count = math.prod(tensor.shape)
        assert (entry["dtype"], tuple(entry["shape"])) == (tensor.dtype, tensor.shape)
        assert entry["source_bytes"] == len(tensor.data)
        assert entry["weights"] == count
        assert entry["bits_per_weight"] == pytest.approx(
            8 * entry["stored_bytes"] / count, rel=1e-3
        )
        assert entry["ratio_source"] == pytest.approx(
            len(tensor.data) / entry["stored_bytes"], rel=1e-3
        )
        assert entry["ratio_fp32"] == pytest.approx(4 * count / entry["stored_bytes"], rel=1e-3)
        a, b = tensors.floats(tensor), tensors.floats(got)
        assert entry["sparsity"] == pytest.approx(np.mean(b == 0), abs=1e-4)
        zeros += np.sum(b == 0)
        if tensor.data == got.data:
            assert entry["snr_db"] is None
        else:  # the total is over what was stored lossily: exact norms would flatter it
            signal += np.sum(a * a)
            error += np.sum((a - b) ** 2)
            assert entry["snr_db"] == pytest.approx(tensors.snr(tensor, got), abs=0.01)
        with_file = (tiny / entry["file"]).read_bytes()
        assert tensor.data in with_file, f"{entry['name']} is not in {entry['file']}"
    assert report["sparsity"] == pytest.approx(zeros / weights, abs=1e-4)
    assert report["snr_db"] == pytest.approx(10 * math.log10(signal / error), abs=0.05)
    assert sum(t["stored_bytes"] for t in report["tensors"]) < size


def test_special_values_in_a_lossy_matrix(tmp_path, mount):
    """What no grid can hold comes back exactly, and does not disturb the rest."""
    values = np.random.default_rng(3).standard_normal((400, 512), dtype=np.float32)
    special = {(0, 0): np.inf, (1, 511): -np.inf, (200, 3): 3e38, (399, 511): -1e30, (50, 50): 0.0}
    for where, value in special.items():
        values[where] = value
    values[300, 300] = np.nan
    source = tensors.write(tmp_path / "s.safetensors", [tensors.from_floats("w", values)])
    image = convert(source, tmp_path / "s.upg", "--bits", "4")
    with mount(image.path) as root:
        decoded = tensors.floats(tensors.read(root / "s.safetensors")["w"])
    expected = tensors.floats(tensors.read(source)["w"])
    assert np.isnan(decoded[300, 300]) and np.isnan(decoded).sum() == 1
    for where, value in special.items():
        assert decoded[where] == expected[where], value
    ordinary = np.abs(np.nan_to_num(values)) < 10
    ordinary[300, 300] = False
    error = decoded[ordinary] - expected[ordinary]
    assert 10 * np.log10(np.sum(expected[ordinary] ** 2) / np.sum(error**2)) > 20


@pytest.mark.parametrize("value", (0.0, 0.03125, -1.5))
def test_matrices_of_one_value(tmp_path, mount, value):
    source = tensors.write(
        tmp_path / "c.safetensors",
        [tensors.from_floats("w", np.full((512, 600), value, np.float32))],
    )
    image = convert(source, tmp_path / "c.upg", "--bits", "3.2")
    with mount(image.path) as root:
        decoded = tensors.floats(tensors.read(root / "c.safetensors")["w"])
    if value == 0:
        assert np.all(decoded == 0)
    else:
        assert np.all(np.abs(decoded / value - 1) < 0.2)
    assert image.tensor("w")["stored_bytes"] * 8 <= 3.2 * 1.003 * decoded.size
