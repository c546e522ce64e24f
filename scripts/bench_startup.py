#!/usr/bin/env python3
"""Measure how soon a mount answers, and how long the first bytes of a tensor take.

Makes .upg files whose index is as large as that of phi-4 (243 tensors in 112,000 blocks) and
as that of a model of terabytes (5 million blocks), and takes real ones, too. Each run mounts
anew and measures: from the start of the program until it returns, which it does when the
mount answers; then, for tensors all over the model, opening their file and reading the first
4 KiB. Warm: the .upg file is in memory. Cold: its pages are not.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from measure import Trouble, files, machine, programs, tables
from measure.programs import progress

EXAMPLES = """\
examples:
  bench_startup.py
      the two sizes of index, warm and cold
  bench_startup.py models/phi-4.upg --sizes '' --runs 20 --json startup.json
      one real model and nothing else
"""
SIZES = "243x112000,10850x5000000"


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("images", type=Path, nargs="*", help="real .upg files")
    add("--sizes", default=SIZES, help=f"TENSORSxBLOCKS of the files that are made [{SIZES}]")
    add("--state", choices=["cold", "warm", "both"], default="both")
    add("--tensors", type=int, default=50, help="most of a model that are read [50]")
    add("--runs", type=int, default=9, help="of each; medians are shown [9]")
    add("--work", type=Path, metavar="DIR", help="for files and mounts [the system's place]")
    add("--bin", type=Path, metavar="DIR", help="where upg-mount is [target/release]")
    add("--json", type=Path, metavar="FILE", help="write everything here, too")
    return parser.parse_args()


def make(size, work):
    """A file with this many tensors and blocks, by the example of the crate."""
    tensors, blocks = size.split("x")
    path = work / f"{size}.upg"
    crate = Path(__file__).resolve().parents[1] / "Cargo.toml"
    progress(f"making {path.name}")
    if not shutil.which("cargo"):
        raise Trouble("no cargo, which builds what makes such files (--sizes '' for none)")
    cargo = ["cargo", "run", "--release", "--quiet", "--locked", "--manifest-path", crate]
    programs.run(*cargo, "--example", "many_blocks", "--", path, tensors, blocks)
    return path


def places(upg_mount, image, point, most):
    """File and offset of tensors all over the model."""
    with programs.mounted(upg_mount, image, point) as root:
        paths = sorted(root.rglob("*.safetensors"))
        found = [t for path in paths for t in files.tensors(path) if t.size > 0]
    count = min(most, len(found))
    chosen = [found[i * len(found) // count] for i in range(count)]
    return [(tensor.file, tensor.offset) for tensor in chosen]


def prepare(image, state):
    """Bring all pages of the image into memory, or none of them."""
    with open(image, "rb", buffering=0) as file:
        if state == "warm":
            while file.read(16 << 20):
                pass
        else:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_start(path, offset):
    """Seconds for opening a file and reading 4 KiB of it."""
    start = time.perf_counter()
    fd = os.open(path, os.O_RDONLY)
    try:
        os.pread(fd, 4096, offset)
        return time.perf_counter() - start
    finally:
        os.close(fd)


def measure(upg_mount, image, point, some):
    start = time.perf_counter()
    with programs.mounted(upg_mount, image, point):
        ready = time.perf_counter() - start
        reads = [read_start(*place) for place in some]
        resident = machine.memory(machine.daemon_of(point))["VmRSS"]
    return dict(ready=ready, reads=reads, resident=resident)


def run(given, work):
    upg_mount = programs.find(given.bin)[1]
    point = work / "mnt"
    made = [make(size, work) for size in given.sizes.split(",") if size]
    results = []
    for image in made + given.images:
        some = places(upg_mount, image, point, given.tensors)
        for state in ["warm", "cold"] if given.state == "both" else [given.state]:
            runs = []
            for turn in range(given.runs):
                progress(f"{image.name}, {state}, run {turn + 1} of {given.runs}")
                prepare(image, state)
                runs.append(measure(upg_mount, image, point, some))
            name = image.name if image in made else str(image)
            results.append(dict(image=name, state=state, size=image.stat().st_size, **summary(runs)))
    progress.clear()
    return results


def summary(runs):
    ready = [run["ready"] for run in runs]
    # One list per tensor: what a single run met by chance is not the tensor's.
    by_tensor = [statistics.median(reads) for reads in zip(*(run["reads"] for run in runs))]
    return dict(
        ready=statistics.median(ready), ready_least=min(ready),
        read=statistics.median(by_tensor), read_slowest=max(by_tensor),
        resident=max(run["resident"] for run in runs), runs=runs,
    )  # fmt: skip


def show(results):
    head = ["", "ready, ms", "least", "first 4 KiB of a tensor, ms", "slowest tensor", "RSS, MiB"]
    rows = [
        [
            f"{r['image']}, {r['state']}",
            f"{1e3 * r['ready']:.1f}",
            f"{1e3 * r['ready_least']:.1f}",
            f"{1e3 * r['read']:.2f}",
            f"{1e3 * r['read_slowest']:.2f}",
            f"{r['resident'] / 2**20:.0f}",
        ]
        for r in results
    ]
    print(tables.markdown(head, rows))


def main():
    given = arguments()
    programs.end_cleanly_on_signals()
    with tempfile.TemporaryDirectory(prefix="upg-startup-", dir=given.work) as work:
        results = run(given, Path(work).resolve())
    show(results)
    if given.json:
        machine.write_json(given.json, results)


if __name__ == "__main__":
    try:
        main()
    except Trouble as trouble:
        raise SystemExit(f"bench_startup.py: {trouble}") from None
