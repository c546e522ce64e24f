#!/usr/bin/env python3
"""Make a BF16 model directory shaped like phi-4, as it lies on the Hugging Face hub.

    make_model.py OUT                 phi-4: 243 tensors, 14,659,507,200 weights, 29.3 GB
    make_model.py OUT --layers 2      the same with two layers: 1.71 G weights, 3.42 GB
    make_model.py OUT --tiny          real structure in 3 MB, several shards

Needs numpy only. The weights are random, drawn as trained ones are distributed:
Gaussian within a row, rows that differ in scale, rare outliers of up to 100 sigma.
They depend on the seed alone and not on the number of threads; a tensor keeps its
values when only the number of layers changes.
"""

import argparse
import json
import math
import os
import struct
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_files import write_small_files

PHI4 = dict(layers=40, hidden=5120, intermediate=17920, vocab=100352, heads=40, kv_heads=10)
PHI4_TENSORS = 243
PHI4_WEIGHTS = 14_659_507_200
TINY = dict(layers=2, hidden=256, intermediate=512, vocab=512, heads=4, kv_heads=2)

# A thread holds two arrays of four bytes per weight of one chunk.
CHUNK_WEIGHTS = 1 << 20

# Outliers: this share of the weights has a magnitude of 4 u^(-1/3) sigma (Pareto
# with exponent 3, cut at 100 sigma): 1 in 10^5 exceeds 10 sigma, 1 in 10^7 50.
OUTLIER_SHARE = 2e-4
OUTLIER_SMALLEST = 4.0
OUTLIER_LARGEST = 100.0

# Standard deviation at hidden size 5120, and coefficient of variation of the rows'
# scales. None: the gains of a norm, which lie around 1.
KINDS = {
    "embed_tokens": (0.030, 0.30),
    "lm_head": (0.018, 0.30),
    "qkv_proj": (0.022, 0.15),
    "o_proj": (0.017, 0.12),
    "gate_up_proj": (0.019, 0.10),
    "down_proj": (0.016, 0.10),
    "norm": None,
}


@dataclass
class Tensor:
    name: str
    shape: tuple
    offset: int = 0  # in the data part of its shard

    @property
    def weights(self):
        return math.prod(self.shape)

    @property
    def bytes(self):
        return 2 * self.weights

    @property
    def columns(self):
        return self.shape[1] if len(self.shape) == 2 else 1

    @property
    def kind(self):
        last = self.name.removesuffix(".weight").rsplit(".", 1)[-1]
        return "norm" if last.endswith("norm") else last


def phi_tensors(model):
    """The tensors of Phi3ForCausalLM in the order of its state dict."""
    hidden, inner = model.hidden, model.intermediate
    head = hidden // model.heads
    qkv = (model.heads + 2 * model.kv_heads) * head
    tensors = [Tensor("model.embed_tokens.weight", (model.vocab, hidden))]
    for layer in range(model.layers):
        prefix = f"model.layers.{layer}."
        tensors += [
            Tensor(prefix + "self_attn.o_proj.weight", (hidden, model.heads * head)),
            Tensor(prefix + "self_attn.qkv_proj.weight", (qkv, hidden)),
            Tensor(prefix + "mlp.gate_up_proj.weight", (2 * inner, hidden)),
            Tensor(prefix + "mlp.down_proj.weight", (hidden, inner)),
            Tensor(prefix + "input_layernorm.weight", (hidden,)),
            Tensor(prefix + "post_attention_layernorm.weight", (hidden,)),
        ]
    tensors.append(Tensor("model.norm.weight", (hidden,)))
    tensors.append(Tensor("lm_head.weight", (model.vocab, hidden)))
    return tensors


def split_into_shards(tensors, shard_size):
    """Shards as transformers cuts them: full before the limit would be passed.

    Within a shard the tensors lie in the order of their names, as safetensors
    writes tensors of one dtype."""
    shards, size = [[]], 0
    for tensor in tensors:
        if shards[-1] and size + tensor.bytes > shard_size:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.bytes
    for shard in shards:
        shard.sort(key=lambda t: t.name)
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
        header[t.name] = {"dtype": "BF16", "shape": t.shape, "data_offsets": [t.offset, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def index_json(shards, names):
    tensors = [t for shard in shards for t in shard]
    where = {t.name: name for name, shard in zip(names, shards, strict=True) for t in shard}
    total = sum(t.bytes for t in tensors)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    return json.dumps(index, indent=2, sort_keys=True) + "\n"


def random_stream(seed, tensor, part):
    """Every part of every tensor has a stream of its own: any thread may draw it."""
    key = [seed, zlib.crc32(tensor.name.encode()), part]
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(key)))


def row_scales(seed, tensor, hidden):
    sigma, variation = KINDS[tensor.kind]
    random = random_stream(seed, tensor, 0)
    # No two matrices of a kind are quite alike, and narrow models have larger weights.
    sigma *= math.exp(0.15 * random.standard_normal()) * math.sqrt(5120 / hidden)
    spread = math.sqrt(math.log1p(variation**2))
    rows = random.standard_normal(tensor.shape[0])
    return (sigma * np.exp(spread * rows - spread**2 / 2)).astype(np.float32)


def add_outliers(values, random):
    count = random.poisson(OUTLIER_SHARE * values.size)
    where = random.integers(0, values.size, count)
    size = OUTLIER_SMALLEST * (1 - random.random(count)) ** (-1 / 3)
    size = np.minimum(size, OUTLIER_LARGEST) * random.choice((-1.0, 1.0), count)
    values.reshape(-1)[where] = size


def to_bf16(values):
    """The upper halves, rounded to nearest even. Overwrites its argument."""
    bits = values.view(np.uint32)
    odd = bits >> 16
    odd &= 1
    odd += 0x7FFF
    bits += odd
    return bits.view(np.uint16).reshape(-1)[1::2].copy()


def draw(seed, tensor, scales, first_row, rows, part):
    random = random_stream(seed, tensor, part)
    values = random.standard_normal((rows, tensor.columns), dtype=np.float32)
    if tensor.kind == "norm":
        values *= 0.1
        values += 1.0
    else:
        add_outliers(values, random)
        values *= scales[first_row : first_row + rows, None]
    return to_bf16(values)


def chunks(tensor):
    """(first row, rows, part): whole rows, independent of the number of threads."""
    step = max(1, CHUNK_WEIGHTS // tensor.columns)
    starts = range(0, tensor.shape[0], step)
    return [(a, min(step, tensor.shape[0] - a), i + 1) for i, a in enumerate(starts)]


class Progress:
    """One line on stderr, only when somebody is looking."""

    def __init__(self, total):
        self.total, self.done, self.start = total, 0, time.monotonic()
        self.shown = 0.0
        self.terminal = sys.stderr.isatty()

    def add(self, size):
        self.done += size
        now = time.monotonic()
        if not self.terminal or (now - self.shown < 0.2 and self.done < self.total):
            return
        self.shown = now
        rate = self.done / max(now - self.start, 1e-3)
        end = "\n" if self.done == self.total else ""
        print(
            f"\r{self.done / 1e9:.2f} of {self.total / 1e9:.2f} GB, {rate / 1e6:.0f} MB/s ",
            end=end,
            file=sys.stderr,
            flush=True,
        )


def write_at(file, data, at):
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written
    return data.nbytes


def write_shard(path, shard, pool, seed, hidden, progress):
    header = safetensors_header(shard)

    def write(tensor, scales, first_row, rows, part):
        data = draw(seed, tensor, scales, first_row, rows, part)
        at = len(header) + tensor.offset + 2 * first_row * tensor.columns
        return write_at(file.fileno(), data, at)

    with open(path, "wb", buffering=0) as file:
        write_at(file.fileno(), np.frombuffer(header, np.uint8), 0)
        file.truncate(len(header) + sum(t.bytes for t in shard))
        jobs = []
        for tensor in shard:
            scales = None if tensor.kind == "norm" else row_scales(seed, tensor, hidden)
            jobs += [pool.submit(write, tensor, scales, *c) for c in chunks(tensor)]
        for job in as_completed(jobs):
            progress.add(job.result())


def parse_size(text):
    units = {"K": 10**3, "M": 10**6, "G": 10**9}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    return int(float(number) * unit)


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="directory to make")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--hidden", type=int)
    parser.add_argument("--intermediate", type=int)
    parser.add_argument("--vocab", type=int)
    parser.add_argument("--heads", type=int, help="default: hidden / 128")
    parser.add_argument("--kv-heads", type=int, help="default: heads / 4")
    parser.add_argument(
        "--shard-size",
        type=parse_size,
        help="bytes, or 150M, 5G (the default, which cuts phi-4 in six)",
    )
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--tiny", action="store_true", help="hidden 256, two layers, shards of 1 MB"
    )
    given = parser.parse_args()

    if given.tiny:
        defaults = dict(TINY, shard_size=10**6)
    else:
        defaults = dict(PHI4, shard_size=5 * 10**9)
        if given.hidden is not None:
            defaults["heads"] = max(1, given.hidden // 128)
        if given.heads is not None or given.hidden is not None:
            defaults["kv_heads"] = max(1, (given.heads or defaults["heads"]) // 4)
    for name, value in defaults.items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    if given.hidden % given.heads or given.heads % given.kv_heads:
        parser.error("hidden must be a multiple of heads, and heads of kv-heads")
    return parser, given


def main():
    parser, given = arguments()
    tensors = phi_tensors(given)
    weights = sum(t.weights for t in tensors)
    if all(getattr(given, name) == value for name, value in PHI4.items()):
        assert (len(tensors), weights) == (PHI4_TENSORS, PHI4_WEIGHTS)

    if given.out.exists() and (not given.out.is_dir() or any(given.out.iterdir())):
        parser.error(f"{given.out} exists and is not an empty directory")
    given.out.mkdir(parents=True, exist_ok=True)

    shards = split_into_shards(tensors, given.shard_size)
    count = len(shards)
    names = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    if count == 1:
        names = ["model.safetensors"]
    else:
        (given.out / "model.safetensors.index.json").write_text(index_json(shards, names))
    write_small_files(given.out, given)
    progress = Progress(sum(t.bytes for t in tensors))
    with ThreadPoolExecutor(given.threads) as pool:
        for name, shard in zip(names, shards, strict=True):
            write_shard(given.out / name, shard, pool, given.seed, given.hidden, progress)
    size = 2 * weights / 1e9
    print(
        f"{given.out}: {len(tensors)} tensors, {weights:,} weights, {size:.2f} GB, {count} shard(s)"
    )


if __name__ == "__main__":
    main()
