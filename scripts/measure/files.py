"""The safetensors files of a model directory."""

import json
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from . import Trouble

# Bytes per element of what is read here; other types are passed over.
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
FLOATS = ("F32", "F16", "BF16")  # what quantisers apply to


@dataclass
class Tensor:
    file: Path
    name: str
    dtype: str
    shape: tuple
    offset: int  # in the file
    size: int  # bytes

    @property
    def weights(self):
        return math.prod(self.shape)

    @property
    def is_matrix(self):
        """Quantised, on both sides of a comparison; everything else stays exact."""
        return len(self.shape) >= 2 and self.dtype in FLOATS and self.weights > 0


def shards(root):
    """The files that transformers would load from a directory."""
    root = Path(root)
    if not root.is_dir():
        raise Trouble(f"{root} is not a directory")
    index = root / "model.safetensors.index.json"
    if index.exists():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    elif (root / "model.safetensors").exists():
        names = ["model.safetensors"]
    else:
        names = sorted(p.name for p in root.glob("*.safetensors"))
    missing = [name for name in names if not (root / name).exists()]
    if missing or not names:
        raise Trouble(f"{root} lacks {missing[0] if missing else 'any .safetensors file'}")
    return [root / name for name in names]


def tensors(path):
    """The tensors of one file, in the order of their bytes."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    found = []
    for name, info in header.items():
        start, end = info["data_offsets"]
        shape = tuple(info["shape"])
        found.append(Tensor(path, name, info["dtype"], shape, 8 + length + start, end - start))
    return sorted(found, key=lambda t: t.offset)


def all_tensors(root):
    return [tensor for path in shards(root) for tensor in tensors(path)]


def write(path, described, arrays, metadata=None):
    """Write a safetensors file array by array, so that no more than one is in memory.

    `described` lists (name, dtype, shape); `arrays` yields numpy arrays in that order."""
    header, offset = {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for name, dtype, shape in described:
        end = offset + math.prod(shape) * WIDTHS[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays:
            file.write(array.data if array.flags.c_contiguous else array.tobytes())
        if file.tell() != 8 + len(text) + offset:
            raise AssertionError(f"{path}: the arrays are not those that were described")


def fingerprint(root):
    """What tells one state of a model directory from another, without reading it all."""
    root = Path(root).resolve()
    files = sorted(p for p in root.iterdir() if p.is_file())
    return [str(root)] + [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files]


def link_others(source, target):
    """Make `target` a model directory with everything of `source` but its tensors."""
    target.mkdir()
    for path in Path(source).iterdir():
        if path.is_file() and path.suffix != ".safetensors":
            os.symlink(path.resolve(), target / path.name)
