#!/usr/bin/env python3
"""Compare the sizes that lossless compressors reach on the weights of a model.

Makes copies of the model in several element types and compresses each tensor with
`upg convert --lossless`, ZipNN and pco. "order-0" is the size that exponents have if each
tensor's are coded at their entropy, plus all other bits as they are. upg's sizes include
tables, checksums and index; every byte of the peers' output counts, too.
"""

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure import Trouble, files, programs, tables
from measure.programs import progress, say

EXAMPLES = """\
examples:
  compare_lossless.py models/phi-4 --dtypes BF16
  compare_lossless.py models/phi-4 --limit 16M --json sizes.json

The copies, from a source of any type:
  BF16, F16   rounded to nearest
  F32         as it is, or with random bits where a narrower source has none
  F32-wide    a narrower source with zeros behind it, as a program saves it that loads BF16
              and writes F32
  F8_E4M3, F8_E5M2   scaled so that the largest weight of a tensor is the largest number

Packages: scripts/requirements-quality.txt
"""
# Element type of the copy, bits that are no exponent, largest number of the type.
COPIES = {
    "BF16": ("BF16", 8, None),
    "F32": ("F32", 24, None),
    "F32-wide": ("F32", 24, None),
    "F16": ("F16", 11, None),
    "F8_E4M3": ("F8_E4M3", 4, 448.0),
    "F8_E5M2": ("F8_E5M2", 3, 57344.0),
}
# Bits of an F32's mantissa that these types lack.
LOST = {"BF16": 16, "F16": 13, "F8_E4M3": 20, "F8_E5M2": 21}
ZIPNN = {
    "BF16": "bfloat16", "F32": "float32", "F16": "float16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip
# pco has no BF16 and no FP8: the bits as integers.
PCO = {
    "BF16": "uint16", "F32": "float32", "F16": "float16", "F8_E4M3": "uint8", "F8_E5M2": "uint8",
}  # fmt: skip
# Unsigned type that holds a weight, and where the exponent lies in it.
EXPONENTS = {
    "BF16": ("uint16", 7, 0xFF), "F32": ("uint32", 23, 0xFF), "F16": ("uint16", 10, 0x1F),
    "F8_E4M3": ("uint8", 3, 0xF), "F8_E5M2": ("uint8", 2, 0x1F),
}  # fmt: skip
PEERS = ("zipnn", "pco")
PART = 1 << 24  # weights that a peer compresses at a time
SMALL = 1 << 16  # weights; below, a tensor's size says nothing about a compressor


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=Path, help="directory with safetensors files")
    add("--dtypes", default=",".join(COPIES), help=f"copies to make [{','.join(COPIES)}]")
    add("--peers", default=",".join(PEERS), help=f"compare with [{','.join(PEERS)}]; or none")
    add("--limit", default="0", metavar="N",
        help="only the first N weights of each tensor, for all alike: 500K, 16M")  # fmt: skip
    add("--work", type=Path, metavar="DIR", help="for the copies [the system's temporary place]")
    add("--bin", type=Path, metavar="DIR", help="where upg and upg-mount are [target/release]")
    add("--threads", type=int, default=os.cpu_count(), help="threads [one per core]")
    add("--json", type=Path, metavar="FILE", help="write the sizes of every tensor here, too")
    given = parser.parse_args()
    unknown = [d for d in given.dtypes.split(",") if d not in COPIES]
    if unknown:
        parser.error(f"--dtypes {unknown[0]}: not one of {', '.join(COPIES)}")
    given.peers = [] if given.peers == "none" else given.peers.split(",")
    unknown = [p for p in given.peers if p not in PEERS]
    if unknown:
        parser.error(f"--peers {unknown[0]}: not one of {', '.join(PEERS)}")
    try:
        unit = {"K": 10**3, "M": 10**6, "G": 10**9}.get(given.limit[-1:], 1)
        given.limit = int(given.limit[:-1] if unit > 1 else given.limit) * unit
    except ValueError:
        parser.error(f"--limit {given.limit}: not a number")
    if given.threads < 1 or given.limit < 0:
        parser.error("--threads is 1 or more, --limit not negative")
    return given


def load_peers(names):
    """{name: function of (bytes, dtype) that gives the compressed size}"""
    try:
        if "zipnn" in names:
            from zipnn import ZipNN
        if "pco" in names:
            from pcodec import ChunkConfig, standalone
    except ImportError as missing:
        raise Trouble(
            f"no package {missing.name} (scripts/requirements-quality.txt, or --peers none)"
        ) from None
    import numpy as np

    def zipnn(data, dtype):
        # May reorder bits in the place of its input, so it gets a copy of its own.
        return len(ZipNN(bytearray_dtype=ZIPNN[dtype]).compress(bytearray(data)))

    def pco(data, dtype):
        config = ChunkConfig(enable_8_bit=dtype.startswith("F8"))
        return len(standalone.simple_compress(np.frombuffer(data, PCO[dtype]), config))

    return {name: {"zipnn": zipnn, "pco": pco}[name] for name in names}


def cut(shape, limit):
    """As many whole rows as hold `limit` weights."""
    if not limit or math.prod(shape) <= limit:
        return shape
    return (max(1, limit // (math.prod(shape) // shape[0])), *shape[1:])


def copy_of(values, source, copy, seed):
    """Values of a source tensor in another element type, as a torch tensor."""
    import torch

    dtype, _, largest = COPIES[copy]
    lost = LOST.get(source, 0)
    values = values.float()
    if lost and copy not in (source, "F32-wide"):
        # The bits that rounding took away, so that a wider type is not half zeros.
        half = 1 << (lost - 1)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randint(-half, half, values.shape, generator=generator, dtype=torch.int32)
        usable = values.isfinite() & (values != 0)
        values = torch.where(usable, (values.view(torch.int32) + noise).view(torch.float32), values)
    if largest:
        values = values * (largest / max(float(values[values.isfinite()].abs().max()), 1e-30))
    kinds = {
        "BF16": torch.bfloat16, "F32": torch.float32, "F16": torch.float16,
        "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    }  # fmt: skip
    return values.to(kinds[dtype])


def order_0(raw, dtype, kept):
    """Bytes of the exponents at their entropy, plus `kept` other bits per weight."""
    import numpy as np

    plane, shift, mask = EXPONENTS[dtype]
    exponents = (raw.view(plane) >> shift) & mask
    counts = np.bincount(exponents).astype(float)
    counts = counts[counts > 0]
    bits = -(counts * np.log2(counts / counts.sum())).sum()
    return float(bits + kept * counts.sum()) / 8


def measure(given, copy, peers, work):
    """One entry per tensor: its weights, and bytes by compressor."""
    import torch
    from safetensors import safe_open

    dtype, kept, _ = COPIES[copy]
    found = {}
    target = work / "copy"
    target.mkdir()

    def arrays(path, described, pool):
        with safe_open(path, framework="pt") as file:
            for tensor, shape in described:
                progress(f"{copy}: {tensor.name}")
                values = file.get_slice(tensor.name)
                values = values[: shape[0]] if shape else file.get_tensor(tensor.name)
                values = copy_of(values, tensor.dtype, copy, len(found)).contiguous()
                raw = values.reshape(-1).view(torch.uint8).numpy()
                entry = found[tensor.name] = {
                    "name": tensor.name, "shape": list(shape), "weights": math.prod(shape),
                    "raw": raw.nbytes, "order_0": order_0(raw, dtype, kept),
                }  # fmt: skip
                step = PART * files.WIDTHS[dtype]
                parts = [raw[at : at + step].tobytes() for at in range(0, raw.nbytes, step)]
                for name, size in peers.items():
                    entry[name] = sum(pool.map(lambda part: size(part, dtype), parts))
                yield raw

    with ThreadPoolExecutor(given.threads) as pool:
        for path in files.shards(given.model):
            described = [
                (tensor, cut(tensor.shape, given.limit))
                for tensor in files.tensors(path)
                if tensor.dtype in files.WIDTHS and tensor.weights
            ]
            header = [(tensor.name, dtype, shape) for tensor, shape in described]
            files.write(target / path.name, header, arrays(path, described, pool))
    progress(f"{copy}: upg")
    upg, _ = programs.find(given.bin)
    report = programs.convert(upg, target, work / "copy.upg", ["--lossless"])
    for tensor in report["tensors"]:
        found[tensor["name"]]["upg"] = tensor["stored_bytes"]
    shutil.rmtree(target)
    (work / "copy.upg").unlink()
    progress()
    return list(found.values())


def larger(entries, peers):
    """[(share, tensor, peer)] where upg needs more bytes than a peer, the largest share first."""
    found = [
        (entry["upg"] / entry[peer] - 1, entry, peer)
        for entry in entries
        for peer in peers
        if entry["weights"] >= SMALL and entry["upg"] > entry[peer]
    ]
    return sorted(found, key=lambda f: -f[0])


def print_tables(copies, peers, shown=3):
    rows = []
    for copy, entries in copies.items():
        weights = sum(e["weights"] for e in entries)
        total = [8 * sum(e[k] for e in entries) / weights for k in ("order_0", "upg", *peers)]
        rows.append([copy, *(f"{t:.4f}" for t in total)])
    print("Bits per weight:\n")
    print(tables.markdown(["copy", "order-0", "upg", *peers], rows))
    if not peers:
        return

    rows = []
    for copy, entries in copies.items():
        tensors = sum(e["weights"] >= SMALL for e in entries)
        found = larger(entries, peers)
        for peer in peers:
            of_peer = [f for f in found if f[2] == peer]
            for share, entry, _ in of_peer[:shown]:
                bound, ours, theirs = (
                    f"{8 * entry[k] / entry['weights']:.4f}" for k in ("order_0", "upg", peer)
                )
                rows.append([copy, f"{len(of_peer)} of {tensors}", entry["name"], bound, ours,
                             f"{peer} {theirs}", f"{100 * share:.2f} %"])  # fmt: skip
    print(f"\nTensors of {SMALL} weights or more for which upg is larger than a peer: how many,")
    print(f"and the {shown} worst.\n")
    head = ["copy", "how many", "tensor", "order-0", "upg", "peer", "upg larger by"]
    print(tables.markdown(head, rows) if rows else "none")


def main():
    given = arguments()
    programs.end_cleanly_on_signals()
    programs.find(given.bin)
    files.shards(given.model)
    if given.work and not given.work.is_dir():
        raise Trouble(f"{given.work} is not a directory")
    peers = load_peers(given.peers)

    import torch

    torch.set_num_threads(given.threads)
    copies = {}
    with tempfile.TemporaryDirectory(prefix="upg-lossless.", dir=given.work) as work:
        for copy in given.dtypes.split(","):
            copies[copy] = measure(given, copy, peers, Path(work))
    print_tables(copies, given.peers)
    if given.json:
        report = {"model": str(given.model), "limit": given.limit or None, "copies": copies}
        given.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Trouble as trouble:
        say(f"compare_lossless.py: {trouble}")
        sys.exit(1)
