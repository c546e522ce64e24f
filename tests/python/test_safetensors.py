"""The safetensors package on a mount: each backend, each framework, each way to read."""

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

from support import tensors
from support.programs import needed

torch = needed("torch")
needed("ml_dtypes")  # gives numpy the name bfloat16
by_torch = needed("safetensors.torch")

FRAMEWORKS = ("pt", "numpy")
BACKENDS = ("mmap", "pread")


def as_bytes(value):
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_safe_open(tiny, tiny_lossless, mount, framework, backend):
    with mount(tiny_lossless.path) as root:
        seen = 0
        for shard in sorted(tiny.glob("*.safetensors")):
            source = tensors.read(shard)
            with safe_open(root / shard.name, framework=framework, backend=backend) as file:
                assert set(file.keys()) == set(source)
                assert file.metadata() == {"format": "pt"}
                for name in file.keys():
                    value = file.get_tensor(name)
                    assert tuple(value.shape) == source[name].shape
                    assert as_bytes(value) == source[name].data
                    seen += 1
                    del value  # a view into the mapping holds the mount
        assert seen == 15


@pytest.mark.parametrize("backend", BACKENDS)
def test_get_slice(tiny, tiny_lossless, mount, backend):
    name, shard = "model.layers.0.mlp.down_proj.weight", "model-00002-of-00004.safetensors"
    source = tensors.read(tiny / shard)[name]
    bits = np.frombuffer(source.data, np.uint16).reshape(source.shape)
    with mount(tiny_lossless.path) as root:
        with safe_open(root / shard, framework="pt", backend=backend) as file:
            view = file.get_slice(name)
            assert tuple(view.get_shape()) == source.shape
            for part in (np.s_[10:20], np.s_[:, 33:77], np.s_[3:250, 500:], np.s_[255:256, 0:1]):
                assert as_bytes(view[part]) == bits[part].tobytes(), part
            del view  # it holds the file, closed or not


@pytest.mark.parametrize("backend", BACKENDS)
def test_load_file(tiny, tiny_lossy, mount, backend):
    """A lossy file gives by every way what a plain read of it gives."""
    with mount(tiny_lossy.path) as root:
        for shard in sorted(tiny.glob("*.safetensors")):
            plain = tensors.read(root / shard.name)
            loaded = by_torch.load_file(root / shard.name, backend=backend)
            arrays = safetensors.numpy.load_file(root / shard.name, backend=backend)
            assert loaded.keys() == arrays.keys() == plain.keys()
            for name, tensor in plain.items():
                assert loaded[name].dtype == torch.bfloat16
                assert as_bytes(loaded[name]) == as_bytes(arrays[name]) == tensor.data
            del loaded, arrays


def test_torch_may_write_to_what_it_mapped(tiny, tiny_lossless, mount):
    """The mapping is private: an in-place operation changes memory and not the mount."""
    shard = "model-00001-of-00004.safetensors"
    with mount(tiny_lossless.path) as root:
        loaded = by_torch.load_file(root / shard)
        for value in loaded.values():
            value.mul_(2.0)
        changed = as_bytes(loaded["model.embed_tokens.weight"])
        del loaded, value
        assert changed != tensors.read(tiny / shard)["model.embed_tokens.weight"].data
        assert tensors.sha256(root / shard) == tensors.sha256(tiny / shard)
