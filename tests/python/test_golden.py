"""Golden files: programs and reference decoder give the bytes that were written down."""

import sys

import pytest

from support import tensors
from support.programs import GOLDEN, REFERENCE_DECODER, convert, require, run

IMAGES = sorted(GOLDEN.glob("*.upg"))


def reference(image):
    """{path: sha256} by the decoder that was written from the document."""
    done = run(sys.executable, REFERENCE_DECODER, image, "--sha256")
    assert done.returncode == 0, done.stderr
    return hashes(done.stdout)


def hashes(text):
    lines = [line.split(maxsplit=1) for line in text.splitlines()]
    found = {path: sha for sha, path in lines}
    assert len(found) == len(lines)
    return found


def test_there_are_golden_files():
    require(IMAGES, f"no golden files in {GOLDEN}")


@pytest.mark.parametrize("image", IMAGES, ids=lambda p: p.stem)
def test_reference_decoder(image):
    assert reference(image) == hashes(image.with_suffix(".sha256").read_text())


@pytest.mark.parametrize("image", IMAGES, ids=lambda p: p.stem)
def test_mount(image, mount):
    with mount(image) as root:
        assert tensors.tree(root) == hashes(image.with_suffix(".sha256").read_text())


@pytest.mark.parametrize(
    "options", (["--bits", "3.2"], ["--bits", "7"], ["--lossless"]), ids=" ".join
)
def test_reference_decoder_on_what_is_written_today(tmp_path, mount, options):
    require(REFERENCE_DECODER.exists(), f"no {REFERENCE_DECODER}")
    source = tmp_path / "model"
    content = [
        tensors.gaussian("bf16", (260, 311), "BF16", seed=1),
        tensors.gaussian("f16", (90, 200), "F16", seed=2),
        tensors.gaussian("f32", (70, 129), "F32", seed=3),
        tensors.random_bits("nan", "BF16", (64, 64), seed=4),
        tensors.random_bits("u8", "U8", (1001,), seed=5),
        tensors.Tensor("empty", "F32", (0, 3), b""),
    ]
    tensors.write(source / "model.safetensors", content, {"format": "pt"}, padded=False)
    (source / "config.json").write_text('{"a": 1}\n' * 100)
    (source / "empty").write_bytes(b"")
    image = convert(source, tmp_path / "m.upg", *options).path
    expected = reference(image)
    assert set(expected) == {"model.safetensors", "config.json", "empty"}
    with mount(image) as root:
        assert tensors.tree(root) == expected
    if options == ["--lossless"]:
        assert expected == tensors.tree(source)
