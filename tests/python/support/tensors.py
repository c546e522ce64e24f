"""safetensors files by hand, so that no library stands between the test and the bytes."""

import hashlib
import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Every element type of safetensors 0.8 and its size in bits.
DTYPES = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8,
    "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
# Those that lossy coding applies to.
LOSSY = ("BF16", "F16", "F32")


@dataclass
class Tensor:
    name: str
    dtype: str
    shape: tuple
    data: bytes

    def __post_init__(self):
        bits = math.prod(self.shape) * DTYPES[self.dtype]
        assert bits == 8 * len(self.data), f"{self.name}: {bits} bits, {len(self.data)} bytes"


def header_bytes(tensors, metadata=None, padded=True):
    header, offset = {}, 0
    if metadata is not None:
        header["__metadata__"] = metadata
    for t in tensors:
        end = offset + len(t.data)
        header[t.name] = {"dtype": t.dtype, "shape": list(t.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    if padded:
        text += b" " * (-len(text) % 8)
    elif len(text) % 2 == 0:
        text += b" "  # an odd length: every offset behind it is odd, too
    return struct.pack("<Q", len(text)) + text


def write(path, tensors, metadata=None, padded=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header_bytes(tensors, metadata, padded) + b"".join(t.data for t in tensors))
    return path


def read(path):
    """{name: Tensor} of a whole file, by plain reads."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    found = {}
    for name, info in header.items():
        start, end = (8 + length + o for o in info["data_offsets"])
        found[name] = Tensor(name, info["dtype"], tuple(info["shape"]), data[start:end])
    return found


def metadata(path):
    """What a shard says of itself."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length])["__metadata__"]


def read_model(directory):
    """{name: Tensor} over all shards of a directory."""
    found = {}
    for path in sorted(Path(directory).rglob("*.safetensors")):
        found |= read(path)
    return found


def from_floats(name, values, dtype="BF16"):
    """A tensor of these values, BF16 rounded to nearest even."""
    values = np.asarray(values, dtype=np.float32, order="C")
    if dtype == "F32":
        data = values.tobytes()
    elif dtype == "F16":
        data = values.astype(np.float16).tobytes()
    else:
        bits = values.view(np.uint32).astype(np.uint64)
        bits += 0x7FFF + ((bits >> 16) & 1)
        data = (bits >> 16).astype(np.uint16).tobytes()
    return Tensor(name, dtype, values.shape, data)


def floats(tensor):
    """The values of a BF16, F16 or F32 tensor as float64."""
    if tensor.dtype == "BF16":
        bits = np.frombuffer(tensor.data, np.uint16).astype(np.uint32) << 16
        values = bits.view(np.float32)
    else:
        values = np.frombuffer(tensor.data, {"F16": np.float16, "F32": np.float32}[tensor.dtype])
    return values.astype(np.float64).reshape(tensor.shape)


def snr(source, decoded):
    """10 log10(sum w^2 / sum (w - w')^2) in dB."""
    a, b = floats(source), floats(decoded)
    return 10 * math.log10(np.sum(a * a) / np.sum((a - b) ** 2))


def gaussian(name, shape, dtype="BF16", sigma=0.02, seed=1):
    random = np.random.default_rng(seed)
    return from_floats(name, random.standard_normal(shape, dtype=np.float32) * sigma, dtype)


def random_bits(name, dtype, shape, seed=1):
    """Any bit pattern: for floats that is NaNs, infinities and subnormals, too."""
    size = math.prod(shape) * DTYPES[dtype] // 8
    data = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    if dtype == "BOOL":
        data &= 1
    return Tensor(name, dtype, tuple(shape), data.tobytes())


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def tree(root):
    """{relative path: sha256} of all files."""
    root = Path(root)
    return {str(p.relative_to(root)): sha256(p) for p in sorted(root.rglob("*")) if p.is_file()}
