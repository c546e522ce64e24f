"""Models that came of one another, and files merged of several."""

import json
import os

import numpy as np

from . import tensors
from .programs import UPG, require_fuse, run


def merge(out, *inputs, options=()):
    done = run(UPG, "merge", *inputs, "-o", out, "--json", *options)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["file_bytes"] == out.stat().st_size
    assert report["input_bytes"] == sum(os.stat(str(i).split("=")[-1]).st_size for i in inputs)
    return report


def shown(image, mount):
    require_fuse()
    with mount(image) as root:
        return tensors.tree(root)


def below(name, tree):
    return {f"{name}/{path}": digest for path, digest in tree.items()}


def tune(source, out, changed):
    """A model that differs from another in one tensor, and in where its tensors lie."""
    out.mkdir()
    for path in source.iterdir():
        if path.suffix == ".safetensors":
            listed = list(tensors.read(path).values())
            for i, tensor in enumerate(listed):
                if tensor.name == changed:
                    values = np.frombuffer(tensor.data, "<u2").copy()
                    values[::7] ^= 1
                    listed[i] = tensors.Tensor(tensor.name, tensor.dtype, tensor.shape, values.tobytes())
            tensors.write(out / path.name, listed, {"format": "pt"})
        elif path.is_file():
            (out / path.name).write_bytes(path.read_bytes())
    return out


def trained(source, out, seed=5):
    """What a little training makes of a model: its matrices moved, its norms as they were."""
    random = np.random.default_rng(seed)
    out.mkdir()
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            if path.is_file():
                (out / path.name).write_bytes(path.read_bytes())
            continue
        moved = []
        for tensor in tensors.read(path).values():
            data = tensor.data
            if len(tensor.shape) == 2:
                values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
                values = values * (1 + 0.004 * random.standard_normal(values.shape, dtype=np.float32))
                data = ((values.view(np.uint32) + 0x8000) >> 16).astype("<u2").tobytes()
            moved.append(tensors.Tensor(tensor.name, tensor.dtype, tensor.shape, data))
        tensors.write(out / path.name, moved, {"format": "pt"})
    return out
