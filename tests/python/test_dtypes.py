"""Every element type of safetensors 0.8, in every shape a file may hold."""

import json

import pytest

from support import tensors
from support.programs import convert

SHAPES = {
    "matrix": (300, 520),
    "vector": (4096,),
    "small": (2, 4),
    "no rows": (0, 16),
    "no columns": (16, 0),
}


def every_dtype():
    """Random bits: NaNs, infinities, subnormals and values of every size."""
    content = []
    for dtype, bits in tensors.DTYPES.items():
        for i, (kind, shape) in enumerate(SHAPES.items()):
            content.append(tensors.random_bits(f"{dtype} {kind}", dtype, shape, seed=i))
        if bits % 8 == 0:
            content.append(tensors.random_bits(f"{dtype} scalar", dtype, (), seed=9))
            content.append(tensors.random_bits(f"{dtype} cube", dtype, (3, 5, 7), seed=10))
    return content


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("dtypes") / "all.safetensors"
    return tensors.write(path, every_dtype())


def test_lossless_is_exact_for_every_dtype(source, tmp_path, mount):
    image = convert(source, tmp_path / "all.upg", "--lossless")
    assert {t["dtype"] for t in image.report["tensors"]} == set(tensors.DTYPES)
    assert len(image.report["tensors"]) == len(every_dtype())
    with mount(image.path) as root:
        assert tensors.sha256(root / "all.safetensors") == tensors.sha256(source)


def test_lossy_leaves_everything_but_float_matrices_exact(source, tmp_path, mount):
    image = convert(source, tmp_path / "all.upg", "--bits", "3.2")
    before = tensors.read(source)
    with mount(image.path) as root:
        after = tensors.read(root / "all.safetensors")
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert (after[name].dtype, after[name].shape) == (tensor.dtype, tensor.shape), name
        may_differ = tensor.dtype in tensors.LOSSY and len(tensor.shape) >= 2
        if not may_differ:
            assert after[name].data == tensor.data, name
            assert image.tensor(name)["codec"] != "prime-sparse", name
            assert image.tensor(name)["snr_db"] is None, name


@pytest.mark.parametrize("padded", (True, False))
@pytest.mark.parametrize("metadata", (None, {}, {"format": "pt", '\u00fcber "x"': "\n\t"}))
def test_headers_come_back_byte_for_byte(tmp_path, mount, padded, metadata):
    content = [tensors.gaussian("w", (64, 96)), tensors.random_bits("b", "U8", (7,))]
    path = tensors.write(tmp_path / "m.safetensors", content, metadata, padded)
    image = convert(path, tmp_path / "m.upg", "--lossless")
    with mount(image.path) as root:
        assert (root / "m.safetensors").read_bytes() == path.read_bytes()


def test_a_file_without_tensors(tmp_path, mount):
    path = tensors.write(tmp_path / "none.safetensors", [], {"format": "pt"})
    image = convert(path, tmp_path / "none.upg")
    with mount(image.path) as root:
        assert (root / "none.safetensors").read_bytes() == path.read_bytes()


def test_tensors_in_another_order_than_their_offsets(tmp_path, mount):
    """The header may list tensors in any order; only the offsets say where they lie."""
    content = [tensors.gaussian(name, (40, 50), seed=i) for i, name in enumerate("cab")]
    body = tensors.write(tmp_path / "sorted.safetensors", content).read_bytes()
    length = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + length])
    text = json.dumps(dict(sorted(header.items()))).encode()
    assert list(json.loads(text)) == ["a", "b", "c"] != list(header)
    path = tmp_path / "order.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + body[8 + length :])
    image = convert(path, tmp_path / "order.upg", "--lossless")
    with mount(image.path) as root:
        assert (root / "order.safetensors").read_bytes() == path.read_bytes()
