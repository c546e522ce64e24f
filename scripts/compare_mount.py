#!/usr/bin/env python3
"""Load a mounted model with the safetensors package and compare it with its source.

    compare_mount.py SOURCE MOUNT UPG_FILE

Exits with 1 if a name, size, header, shape or dtype differs, or a tensor is not like
its source. Prints sizes, ratios, signal-to-noise ratios and speeds.
"""

import math
import os
import sys
import time
from collections import defaultdict
from pathlib import Path

import ml_dtypes  # noqa: F401  teaches numpy the name bfloat16
import numpy as np
from safetensors import safe_open

SLICE = 1 << 22  # weights compared at a time
WORST_SNR = 10.0  # dB; 3.2 bits give over 17, a wrong row order or scale about 0


def files(root):
    return {p.relative_to(root): p.stat().st_size for p in sorted(root.rglob("*")) if p.is_file()}


def load_all(root, shards):
    """Seconds and bytes of loading every tensor of every shard, one thread."""
    start, size = time.perf_counter(), 0
    for shard in shards:
        with safe_open(root / shard, framework="np") as file:
            for name in file.keys():
                size += file.get_tensor(name).nbytes
    return time.perf_counter() - start, size


def noise(source, mounted):
    """Sums of w^2 and (w - w')^2."""
    source, mounted = source.reshape(-1), mounted.reshape(-1)
    signal = error = 0.0
    for at in range(0, source.size, SLICE):
        a = source[at : at + SLICE].astype(np.float32)
        d = a - mounted[at : at + SLICE].astype(np.float32)
        signal += float(np.dot(a, a))
        error += float(np.dot(d, d))
    return signal, error


def decibel(signal, error):
    return math.inf if error == 0 else 10 * math.log10(max(signal, 1e-300) / error)


def compare(source, mount, shards):
    """(weights, {kind: [signal, error, tensors]}, complaints)"""
    weights, kinds, complaints = 0, defaultdict(lambda: [0.0, 0.0, 0]), []
    for shard in shards:
        with safe_open(source / shard, "np") as a, safe_open(mount / shard, "np") as b:
            if list(a.offset_keys()) != list(b.offset_keys()) or a.metadata() != b.metadata():
                complaints.append(f"{shard}: the headers differ")
                continue
            for name in a.offset_keys():
                want, got = a.get_tensor(name), b.get_tensor(name)
                weights += want.size
                if (want.shape, want.dtype) != (got.shape, got.dtype):
                    complaints.append(
                        f"{name}: {want.shape} {want.dtype} became {got.shape} {got.dtype}"
                    )
                    continue
                if want.tobytes() == got.tobytes():
                    signal, error = 0.0, 0.0
                elif want.dtype.kind not in "fV":
                    complaints.append(f"{name}: {want.dtype} must be exact")
                    continue
                else:
                    signal, error = noise(want, got)
                    if decibel(signal, error) < WORST_SNR:
                        complaints.append(f"{name}: SNR {decibel(signal, error):.2f} dB")
                kind = kinds[name.removesuffix(".weight").rsplit(".", 1)[-1]]
                kind[0] += signal
                kind[1] += error
                kind[2] += 1
    return weights, kinds, complaints


def main():
    source, mount, upg = map(Path, sys.argv[1:])
    here, there = files(source), files(mount)
    complaints = (
        []
        if here == there
        else [f"other files or sizes: {sorted(set(here.items()) ^ set(there.items()))}"]
    )
    shards = [p for p in here if p.suffix == ".safetensors" and p in there]

    cold, size = load_all(mount, shards)
    warm, _ = load_all(mount, shards)
    plain, _ = load_all(source, shards)
    weights, kinds, found = compare(source, mount, shards)
    complaints += found

    for kind, (signal, error, count) in sorted(kinds.items()):
        quality = f"SNR {decibel(signal, error):6.2f} dB" if error else "exact"
        print(f"{kind:28} {count:4} tensors   {quality}")
    total, stored = sum(here[shard] for shard in shards), os.path.getsize(upg)
    print(f"source         {total:>14,} bytes of safetensors files")
    print(f".upg           {stored:>14,} bytes")
    print(f"               {8 * stored / weights:.3f} bits per weight over all {weights:,} weights")
    print(f"ratio          {total / stored:.2f} : 1 against the source's safetensors files")
    print(f"               {4 * weights / stored:.2f} : 1 against the same weights in FP32")
    rows = [
        ("mount, decoding", cold),
        ("mount, again", warm),
        ("source, plain files, cached", plain),
    ]
    for what, seconds in rows:
        print(f"load           {size / seconds / 1e9:.2f} GB/s  {seconds:6.2f} s  {what}")
    for complaint in complaints:
        print(f"WRONG: {complaint}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
