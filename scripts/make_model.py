#!/usr/bin/env python3
"""Make a model directory as it lies on the Hugging Face hub, with random weights.

    make_model.py OUT                 phi-4: 243 tensors, 14,659,507,200 weights, 29.3 GB
    make_model.py OUT --layers 2      the same with two layers: 1.71 G weights, 3.42 GB
    make_model.py OUT --tiny          real structure in 3 MB, several shards
    make_model.py OUT --family NAME   another family in 3 to 6 MB, several shards

Families: grok-1 and mixtral (experts), qwen3 and qwen3-moe, deepseek-v3 (FP8 with scales per block,
low-rank attention), gemma-3 (vision tower, tied embedding, F32 norms), gpt-oss (MXFP4). Names,
element types and the structure of the shapes are those of the published models, sizes are not.

Needs numpy only. The weights are random, drawn as trained ones are distributed:
Gaussian within a row, rows that differ in scale, rare outliers of up to 100 sigma.
They depend on the seed alone and not on the number of threads; a tensor keeps its
values when only the number of layers changes.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from model_families import FAMILIES, PHI4, PHI4_TENSORS, PHI4_WEIGHTS, TINY, small
from model_files import write_small_files
from model_tensors import index_json, safetensors_header, split_into_shards
from model_weights import chunks, draw, draw_packed, row_scales


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
        before = tensor.bytes // tensor.shape[0] * first_row
        return write_at(file.fileno(), data, len(header) + tensor.offset + before)

    def write_packed(tensor):
        data = draw_packed(seed, tensor, hidden)
        assert data.nbytes == tensor.bytes, tensor.name
        return write_at(file.fileno(), data, len(header) + tensor.offset)

    with open(path, "wb", buffering=0) as file:
        write_at(file.fileno(), np.frombuffer(header, np.uint8), 0)
        file.truncate(len(header) + sum(t.bytes for t in shard))
        jobs = []
        for tensor in shard:
            if tensor.matrix:
                jobs.append(pool.submit(write_packed, tensor))
                continue
            scales = row_scales(seed, tensor, hidden)
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
    parser.add_argument("--family", choices=FAMILIES, default="phi-4", help="default: phi-4")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--hidden", type=int)
    parser.add_argument("--intermediate", type=int)
    parser.add_argument("--vocab", type=int)
    parser.add_argument("--heads", type=int, help="default: hidden / 128")
    parser.add_argument("--kv-heads", type=int, help="default: heads / 4")
    parser.add_argument(
        "--shard-size",
        type=parse_size,
        help="bytes, or 150M, 5G (the default, which cuts phi-4 in six; small models: 1M)",
    )
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--tiny", action="store_true", help="hidden 256, two layers, shards of 1 MB"
    )
    given = parser.parse_args()
    if given.family != "phi-4":
        set_small_sizes(parser, given)
    else:
        set_phi_sizes(given)
    if given.hidden % given.heads or given.heads % given.kv_heads:
        parser.error("hidden must be a multiple of heads, and heads of kv-heads")
    return parser, given


def set_small_sizes(parser, given):
    """Only the number of layers can be chosen: the other sizes depend on each other."""
    for name in ("hidden", "intermediate", "vocab", "heads", "kv_heads"):
        if getattr(given, name) is not None:
            parser.error(f"--{name.replace('_', '-')} is for phi-4 only")
    sizes = vars(small(given.family))
    if given.layers is not None:
        sizes["layers"] = given.layers
    vars(given).update(sizes)
    given.shard_size = given.shard_size or 10**6


def set_phi_sizes(given):
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


def main():
    parser, given = arguments()
    tensors = FAMILIES[given.family][0](given)
    weights = sum((t.matrix or t).weights for t in tensors if not t.is_scale)
    if all(getattr(given, name) == value for name, value in PHI4.items()):
        assert (len(tensors), weights) == (PHI4_TENSORS, PHI4_WEIGHTS)

    if given.out.exists() and (not given.out.is_dir() or any(given.out.iterdir())):
        parser.error(f"{given.out} exists and is not an empty directory")
    given.out.mkdir(parents=True, exist_ok=True)

    shards = split_into_shards(tensors, given.shard_size)
    count, size = len(shards), sum(t.bytes for t in tensors)
    names = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    if count == 1:
        names = ["model.safetensors"]
    else:
        (given.out / "model.safetensors.index.json").write_text(index_json(shards, names))
    write_small_files(given.out, given.family, given)
    progress = Progress(size)
    with ThreadPoolExecutor(given.threads) as pool:
        for name, shard in zip(names, shards, strict=True):
            write_shard(given.out / name, shard, pool, given.seed, given.hidden, progress)
    print(
        f"{given.out}: {len(tensors)} tensors, {weights:,} weights, {size / 1e9:.2f} GB, {count} shard(s)"
    )


if __name__ == "__main__":
    main()
