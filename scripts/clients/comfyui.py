"""ComfyUI's ways of loading safetensors files. It is an application and in no registry of packages, so
these are the calls that comfy.utils.load_torch_file makes: safe_open, tensor by tensor; the same, each
copied, as with --disable-mmap; and tensors over a mapping of the file, as it has them beside a GPU. There
comfy-aimdo maps the file, which needs the GPU's driver, so here Python does."""

import json
import mmap
import struct
import warnings

import torch
from measure.client import main, of_tensors, shards
from safetensors import safe_open

TYPES = dict(BF16=torch.bfloat16, F16=torch.float16, F32=torch.float32)
warnings.filterwarnings("ignore", message="The given buffer is not writable")  # so it is meant


def opened(shard, copy):
    with safe_open(shard, framework="pt", device="cpu") as file:
        for name in file.keys():
            tensor = file.get_tensor(name)
            yield name, tensor.to(device="cpu", copy=True) if copy else tensor


def mapped(shard):
    with open(shard, "rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
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
    main("its calls alone", "safe_open, the same copied, mmap and frombuffer: every tensor", load, look)
