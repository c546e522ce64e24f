"""The ways in which programs read model files, each in a process of its own:

    loads.py PATTERN DIRECTORY      prints {"seconds": ..., "bytes": ...}

What is timed is the reading alone, not the start of Python and of the packages.
"""

import json
import mmap
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PIECE = 8 << 20
PAGE = mmap.PAGESIZE
# What bench_mount.py reads from.
SUBJECTS = ["plain", "3.2", "lossless", "zeros", "squashfs", "squashfuse", "dwarfs"]


def shards(root):
    return sorted(Path(root).glob("*.safetensors"))


def pieces(paths, size=PIECE):
    for path in paths:
        length = path.stat().st_size
        for at in range(0, length, size):
            yield path, at, min(size, length - at)


def in_threads(count, paths, open_file, read):
    """Neighbouring parts of the files for each thread, as loaders divide them."""
    work = list(pieces(paths))
    share = -(-len(work) // count)

    def one(part):
        files, done = {}, 0
        for path, at, length in part:
            if path not in files:
                files[path] = open_file(path)
            done += read(files[path], at, length)
        return done

    with ThreadPoolExecutor(count) as pool:
        return sum(pool.map(one, (work[i : i + share] for i in range(0, len(work), share))))


def by_mmap(count):
    def open_file(path):
        import numpy as np

        with open(path, "rb") as file:
            return np.frombuffer(mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ), np.uint8)

    def read(view, at, length):
        view[at : at + length : PAGE].max()  # a byte of every page
        return length

    return lambda root: in_threads(count, shards(root), open_file, read)


def by_pread(count, flags=0):
    def open_file(path):
        # Anonymous memory is aligned as O_DIRECT wants it.
        return os.open(path, os.O_RDONLY | flags), mmap.mmap(-1, PIECE)

    def read(file, at, length):
        descriptor, buffer = file
        # O_DIRECT wants whole sectors, beyond the end of the file too.
        return min(length, os.preadv(descriptor, [buffer], at))

    return lambda root: in_threads(count, shards(root), open_file, read)


def at_random(root, size=64 << 10, count=4000):
    path = max(shards(root), key=lambda path: path.stat().st_size)
    places = path.stat().st_size // size
    chosen = random.Random(1).sample(range(places), min(count, places))
    descriptor, buffer, done = os.open(path, os.O_RDONLY), bytearray(size), 0
    for place in chosen:
        done += os.preadv(descriptor, [buffer], place * size)
    return done


def one_tensor(root):
    from safetensors import safe_open

    with safe_open(shards(root)[0], framework="np") as file:
        names = [name for name in file.keys() if name.endswith("o_proj.weight")]
    import ml_dtypes  # noqa: F401  teaches numpy the name bfloat16

    start = time.perf_counter()
    with safe_open(shards(root)[0], framework="np") as file:
        done = file.get_tensor(names[-1]).nbytes
    return done, time.perf_counter() - start


def transformers_f32(root):
    import torch
    from transformers import AutoModelForCausalLM

    start = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(root, dtype=torch.float32)
    seconds = time.perf_counter() - start
    return sum(p.numel() for p in model.parameters()) * 2, seconds


def fast_safetensors(root):
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    start = time.perf_counter()
    loader = SafeTensorsFileLoader(SingleGroup(), "cpu", nogds=True)
    loader.add_filenames({0: [str(path) for path in shards(root)]})
    buffer = loader.copy_files_to_device()
    done = sum(buffer.get_tensor(key).nbytes for key in list(buffer.key_to_rank_lidx))
    return done, time.perf_counter() - start


def run_ai(root):
    from runai_model_streamer import SafetensorsStreamer

    start = time.perf_counter()
    with SafetensorsStreamer() as streamer:
        streamer.stream_files([str(path) for path in shards(root)])
        done = sum(tensor.nbytes for _, tensor in streamer.get_tensors())
    return done, time.perf_counter() - start


PATTERNS = {
    "mmap x1": by_mmap(1),
    "mmap x4": by_mmap(4),
    "pread x1": by_pread(1),
    "O_DIRECT x4": by_pread(4, os.O_DIRECT),
    "random 64 KiB": at_random,
    "one tensor": one_tensor,
    "transformers float32": transformers_f32,
    "fastsafetensors": fast_safetensors,
    "Run:ai streamer": run_ai,
}


def main():
    pattern, root = sys.argv[1:]
    start = time.perf_counter()
    done = PATTERNS[pattern](root)
    done, seconds = done if isinstance(done, tuple) else (done, time.perf_counter() - start)
    print(json.dumps({"seconds": seconds, "bytes": done}))


if __name__ == "__main__":
    main()
