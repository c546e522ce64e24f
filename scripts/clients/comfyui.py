"""ComfyUI's ways of loading safetensors files. It is an application and in no registry of packages, so
these are the calls that it makes, in its order: safe_open, tensor by tensor; the same, each copied, as
with --disable-mmap; and a mapping of the file with tensors over it, as its newer releases do."""

import json
import mmap
import struct

import torch
from measure.client import main, of_tensors, shards
from safetensors import safe_open

TYPES = dict(BF16=torch.bfloat16, F16=torch.float16, F32=torch.float32)


def opened(shard, copy):
    with safe_open(shard, framework="pt", device="cpu") as file:
        for name in file.keys():
            tensor = file.get_tensor(name)
            yield name, tensor.to(device="cpu", copy=True) if copy else tensor


def mapped(shard):
    with open(shard, "rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    start = 8 + struct.unpack("<Q", view[:8])[0]
    for name, entry in json.loads(bytes(view[8:start])).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            bits = torch.frombuffer(view[start + first : start + last], dtype=TYPES[entry["dtype"]])
            yield name, bits.view(entry["shape"])


def load(directory):
    ways = (lambda shard: opened(shard, False), lambda shard: opened(shard, True), mapped)
    return [{n: t for shard in shards(directory) for n, t in way(shard)} for way in ways]


def look(loaded):
    first, *others = (of_tensors(tensors.items()) for tensors in loaded)
    assert all(other == first for other in others), "one way gives other tensors than another"
    return first


if __name__ == "__main__":
    main("its calls", "safe_open, the same copied, mmap and frombuffer: every tensor", load, look)
