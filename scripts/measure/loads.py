"""The ways in which programs read model files, each in a process of its own:

    loads.py PATTERN DIRECTORY [GIB]      prints {"seconds": ..., "bytes": ...}

What is timed is the reading alone, not the start of Python and of the packages. Just before it,
GIB of memory are touched and given back.
"""

import json
import mmap
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

PIECE = 8 << 20
PAGE = mmap.PAGESIZE
MADV_POPULATE_WRITE = 23
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


def by_mmap(count, root, timed):
    import numpy as np

    def open_file(path):
        with open(path, "rb") as file:
            return np.frombuffer(mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ), np.uint8)

    def read(view, at, length):
        view[at : at + length : PAGE].max()  # a byte of every page
        return length

    return timed(lambda: in_threads(count, shards(root), open_file, read))


def by_pread(count, flags, root, timed):
    def open_file(path):
        # Anonymous memory is aligned as O_DIRECT wants it.
        return os.open(path, os.O_RDONLY | flags), mmap.mmap(-1, PIECE)

    def read(file, at, length):
        descriptor, buffer = file
        # O_DIRECT wants whole sectors, beyond the end of the file too.
        return min(length, os.preadv(descriptor, [buffer], at))

    return timed(lambda: in_threads(count, shards(root), open_file, read))


def at_random(root, timed, size=64 << 10, count=4000):
    def load():
        path = max(shards(root), key=lambda path: path.stat().st_size)
        places = path.stat().st_size // size
        chosen = random.Random(1).sample(range(places), min(count, places))
        descriptor, buffer = os.open(path, os.O_RDONLY), bytearray(size)
        return sum(os.preadv(descriptor, [buffer], place * size) for place in chosen)

    return timed(load)


def one_tensor(root, timed):
    from safetensors import safe_open

    with safe_open(shards(root)[0], framework="np") as file:
        names = [name for name in file.keys() if name.endswith("o_proj.weight")]
    import ml_dtypes  # noqa: F401  teaches numpy the name bfloat16

    def load():
        with safe_open(shards(root)[0], framework="np") as file:
            return file.get_tensor(names[-1]).nbytes

    return timed(load)


def transformers_f32(root, timed):
    import torch
    from transformers import AutoModelForCausalLM

    loaded = []
    seconds, _ = timed(lambda: loaded.append(AutoModelForCausalLM.from_pretrained(root, dtype=torch.float32)))
    return seconds, sum(p.numel() for p in loaded[0].parameters()) * 2


def fast_safetensors(root, timed):
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    def load():
        loader = SafeTensorsFileLoader(SingleGroup(), "cpu", nogds=True)
        loader.add_filenames({0: [str(path) for path in shards(root)]})
        buffer = loader.copy_files_to_device()
        return sum(buffer.get_tensor(key).nbytes for key in list(buffer.key_to_rank_lidx))

    return timed(load)


def run_ai(root, timed):
    from runai_model_streamer import SafetensorsStreamer

    def load():
        with SafetensorsStreamer() as streamer:
            streamer.stream_files([str(path) for path in shards(root)])
            return sum(tensor.nbytes for _, tensor in streamer.get_tensors())

    return timed(load)


# Each is given a directory and what times a load, and returns seconds and bytes.
PATTERNS = {
    "mmap x1": partial(by_mmap, 1),
    "mmap x4": partial(by_mmap, 4),
    "pread x1": partial(by_pread, 1, 0),
    "O_DIRECT x4": partial(by_pread, 4, os.O_DIRECT),
    "random 64 KiB": at_random,
    "one tensor": one_tensor,
    "transformers float32": transformers_f32,
    "fastsafetensors": fast_safetensors,
    "Run:ai streamer": run_ai,
}


def touch(gib):
    """Takes the memory from the machine and gives it back, so that whoever allocates next finds it at hand:
    a virtual machine that returns free memory to its host has to be handed each page anew."""
    if size := int(gib * (1 << 30)):
        with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
            memory.madvise(MADV_POPULATE_WRITE)


def main():
    pattern, root, *gib = sys.argv[1:]

    def timed(load):
        touch(float(gib[0]) if gib else 0)
        start = time.perf_counter()
        done = load()
        return time.perf_counter() - start, done

    seconds, done = PATTERNS[pattern](root, timed)
    print(json.dumps({"seconds": seconds, "bytes": done}))


if __name__ == "__main__":
    main()
