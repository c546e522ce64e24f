"""Tensors of a model that is to be made, and the safetensors files that hold them."""

import json
import math
import struct
from dataclasses import dataclass

# Bytes per element, in the order in which safetensors writes element types: its files begin
# with the last.
DTYPES = {"U8": 1, "F8_E4M3": 1, "BF16": 2, "F32": 4}


@dataclass
class Tensor:
    name: str
    shape: tuple
    dtype: str = "BF16"
    # What the values are like (model_weights says which there are), if the name does not say it.
    likeness: str = ""
    # Elements or scales of a quantised matrix: the matrix before that, in two dimensions, and the
    # function that makes this tensor's bytes of its values.
    matrix: object = None
    pack: object = None
    offset: int = 0  # in the data part of its shard

    @property
    def weights(self):
        return math.prod(self.shape)

    @property
    def bytes(self):
        return DTYPES[self.dtype] * self.weights

    @property
    def is_scale(self):
        return self.matrix is not None and self.name.endswith(("_scales", "_scale_inv"))

    @property
    def columns(self):
        """Elements per row; a vector has a row per element."""
        return self.weights // self.shape[0] if len(self.shape) > 1 else 1

    @property
    def kind(self):
        if self.likeness:
            return self.likeness
        last = self.name.removesuffix(".weight").rsplit(".", 1)[-1]
        return "norm" if last.endswith("norm") else last


def split_into_shards(tensors, shard_size):
    """Shards as transformers cuts them: full before the limit would be passed.

    Within a shard the tensors lie in the order of their element types and names, as safetensors
    writes them."""
    shards, size = [[]], 0
    for tensor in tensors:
        if shards[-1] and size + tensor.bytes > shard_size:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.bytes
    order = {dtype: -i for i, dtype in enumerate(DTYPES)}
    for shard in shards:
        shard.sort(key=lambda t: (order[t.dtype], t.name))
        offset = 0
        for tensor in shard:
            tensor.offset = offset
            offset += tensor.bytes
    return shards


def safetensors_header(shard):
    """Length and header as safetensors writes them, spaces up to a multiple of 8."""
    header = {"__metadata__": {"format": "pt"}}
    for t in shard:
        end = t.offset + t.bytes
        header[t.name] = {"dtype": t.dtype, "shape": t.shape, "data_offsets": [t.offset, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def index_json(shards, names):
    tensors = [t for shard in shards for t in shard]
    where = {t.name: name for name, shard in zip(names, shards, strict=True) for t in shard}
    total = sum(t.bytes for t in tensors)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    return json.dumps(index, indent=2, sort_keys=True) + "\n"
