"""llama.cpp's quantisers, as compiled C code: the ggml library inside a Python package.

No wheel of llama.cpp itself is on PyPI, but pywhispercpp carries the same library, which
whisper.cpp and llama.cpp share. It is called with ctypes; the package is not imported."""

import ctypes
import importlib.metadata
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from safetensors import safe_open

from . import files
from . import Trouble
from .programs import progress

PACKAGE = "pywhispercpp"
CHUNK = 1 << 22  # weights quantised by one call


@dataclass
class Type:
    number: int  # in enum ggml_type
    block: int  # weights per block; a row must be whole blocks
    bytes: int  # per block
    fallback: str = ""  # llama.cpp's choice for rows that are not
    importance: bool = False  # made for an importance matrix; gets one of ones


TYPES = {
    "Q2_K": Type(10, 256, 84, "IQ4_NL"),
    "Q3_K": Type(11, 256, 110, "IQ4_NL"),
    "IQ3_S": Type(21, 256, 110, "IQ4_NL", importance=True),
    "IQ4_XS": Type(23, 256, 136, "IQ4_NL", importance=True),
    "Q4_K": Type(12, 256, 144, "Q5_0"),
    "Q5_K": Type(13, 256, 176, "Q5_1"),
    "Q6_K": Type(14, 256, 210, "Q8_0"),
    "Q8_0": Type(8, 32, 34),
    "IQ4_NL": Type(20, 32, 18),
    "Q5_0": Type(6, 32, 22),
    "Q5_1": Type(7, 32, 24),
}
DEFAULT = ["Q2_K", "IQ3_S", "Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K", "Q8_0"]


def library_path():
    """The ggml library in the installed package, or None."""
    try:
        listed = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [f.locate() for f in listed if f.name.startswith("libggml-base") and ".so" in f.name]
    # The copy beside the libraries that it needs comes first.
    found.sort(key=lambda p: p.parent.name != f"{PACKAGE}.libs")
    return next((str(p) for p in found if p.exists()), None)


class Ggml:
    def __init__(self, path):
        try:
            self.library = library = ctypes.CDLL(path)
            quantize, size = library.ggml_quantize_chunk, library.ggml_row_size
            self.decode = {
                name: getattr(library, "dequantize_row_" + name.lower().replace("_k", "_K"))
                for name in TYPES
            }
        except (OSError, AttributeError) as failure:
            raise Trouble(f"{path} is no ggml library that is usable here: {failure}") from None
        floats, long = ctypes.POINTER(ctypes.c_float), ctypes.c_int64
        quantize.restype = size.restype = ctypes.c_size_t
        size.argtypes = [ctypes.c_int, long]
        quantize.argtypes = [ctypes.c_int, floats, ctypes.c_void_p, long, long, long, floats]
        for function in self.decode.values():
            function.restype, function.argtypes = None, [ctypes.c_void_p, floats, long]
        for name, kind in TYPES.items():
            if size(kind.number, kind.block) != kind.bytes:
                raise Trouble(f"{path}: {name} is not the type that it is elsewhere")
        self.quantize = quantize

    def round_trip(self, name, rows):
        """(bytes, decoded rows) of float32 rows."""
        kind, (count, width) = TYPES[name], rows.shape
        ones = np.ones(width, np.float32) if kind.importance else None
        coded = np.empty(count * width // kind.block * kind.bytes, np.uint8)
        decoded = np.empty_like(rows)
        size = self.quantize(
            kind.number, pointer(rows), coded.ctypes.data, 0, count, width, pointer(ones)
        )
        if size != coded.nbytes:
            raise AssertionError(f"{name}: {size} bytes, expected {coded.nbytes}")
        self.decode[name](coded.ctypes.data, pointer(decoded), rows.size)
        return size, decoded

    def matrix(self, name, values, pool):
        """The same for a matrix of any size, on all threads."""
        rows = values.reshape(-1, values.shape[-1])
        step = max(1, min(CHUNK // rows.shape[1], -(-len(rows) // (os.cpu_count() or 1))))
        parts = [rows[at : at + step] for at in range(0, len(rows), step)]
        done = list(pool.map(lambda part: self.round_trip(name, part), parts))
        return sum(size for size, _ in done), np.concatenate([d for _, d in done])


def pointer(array):
    return None if array is None else array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def chosen(name, tensor):
    """The type that llama.cpp would take for a tensor, or None if it has to stay exact."""
    width = tensor.shape[-1]
    for candidate in (name, TYPES[name].fallback):
        if candidate and width % TYPES[candidate].block == 0:
            return candidate
    return None


def write_model(ggml, name, source, target, threads):
    """Make `target` a model directory whose matrices went through quantiser `name`, as F32.

    Returns bytes and weights of the matrices, and {other type: tensors} for those whose
    rows do not fit."""
    files.link_others(source, target)
    total = weights = 0
    others = {}

    def arrays(path, described, pool):
        nonlocal total, weights
        with safe_open(path, framework="pt") as file:
            for tensor in described:
                progress(f"{name}: {tensor.name}")
                values = file.get_tensor(tensor.name)
                if not tensor.is_matrix:
                    yield values.reshape(-1).view(torch.uint8).numpy()
                    continue
                values = np.ascontiguousarray(values.float().numpy())
                kind, weights = chosen(name, tensor), weights + tensor.weights
                if kind != name:
                    others[kind or "F16"] = others.get(kind or "F16", 0) + 1
                if kind is None:
                    total += 2 * tensor.weights
                    yield values.astype(np.float16).astype(np.float32)
                    continue
                size, values = ggml.matrix(kind, values, pool)
                total += size
                yield values

    with ThreadPoolExecutor(threads) as pool:
        for path in files.shards(source):
            found = files.tensors(path)
            described = [(t.name, "F32" if t.is_matrix else t.dtype, t.shape) for t in found]
            files.write(target / path.name, described, arrays(path, found, pool), {"format": "pt"})
    progress()
    return total, weights, others
