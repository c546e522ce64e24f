#!/usr/bin/env python3
"""Measure how fast a model loads from an S3 server behind a link of known speed.

The plain safetensors are fetched by boto3, eight ranges at a time, and kept nowhere. The .upg file is
mounted from its address by a fresh daemon, and all shards of the mount are read once by one reader, 4 MiB
at a time, through the page cache and past it (O_DIRECT), which keeps nothing either; then with a disk
cache that has everything, beside a mount of the local file. The subjects take turns; medians are shown.
"""

import argparse
import mmap
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from measure import Trouble, machine, programs, s3, tables
from measure.files import shards
from measure.programs import progress

EXAMPLES = """\
examples:
  bench_objects.py models/phi-4
  bench_objects.py models/phi-4 --rate 1000 --bits 4 --runs 3 --json objects.json
  bench_objects.py models/phi-4 --subjects cached,local --runs 20

Needs root, iproute2, Garage (cargo install garage --locked) and PyPI's boto3.
"""
STEP = 4 << 20
SUBJECTS = {
    "plain": "plain, fetched",
    "object": "mount of the object",
    "direct": "the same, O_DIRECT",
    "cached": "mount, disk cache warm",
    "local": "mount of the local file",
}


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", type=Path, help="directory with safetensors")
    add("--subjects", default=",".join(SUBJECTS), help=f"of {', '.join(SUBJECTS)} [all]")
    add("--rate", type=int, default=200, help="of the link, in MB/s [200]")
    add("--bits", default="3.2", help="of the .upg file; `lossless` for that [3.2]")
    add("--runs", type=int, default=5, help="of each; medians are shown [5]")
    add("--server", default="garage", help="the S3 server's program [garage]")
    add("--work", type=Path, metavar="DIR", help="for images and mounts [the system's place]")
    add("--bin", type=Path, metavar="DIR", help="where upg and upg-mount are [target/release]")
    add("--json", type=Path, metavar="FILE", help="write everything here, too")
    given = parser.parse_args()
    given.subjects = given.subjects.split(",")
    for unknown in set(given.subjects) - set(SUBJECTS):
        parser.error(f"--subjects: {unknown!r} is none of {', '.join(SUBJECTS)}")
    return given


def read_all(root, flags):
    # Anonymous memory is aligned as O_DIRECT wants it.
    buffer = mmap.mmap(-1, STEP)
    for shard in shards(root):
        with open(os.open(shard, os.O_RDONLY | flags), "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def timed(call):
    start = time.monotonic()
    call()
    return time.monotonic() - start


def mounted_and_read(upg_mount, image, point, options=(), flags=0):
    """Seconds from the start of the daemon to the last byte."""
    start = time.monotonic()
    with programs.mounted(upg_mount, image, point, options):
        read_all(point, flags)
        end = time.monotonic()
    return end - start


def measure(given, work):
    upg, upg_mount = programs.find(given.bin)
    plain, image = shards(given.model), work / "model.upg"
    progress("converting")
    options = ["--lossless"] if given.bits == "lossless" else ["--bits", given.bits]
    programs.convert(upg, given.model.resolve(), image, options)
    address, point, cache = f"s3://{s3.BUCKET}/{image.name}", work / "mnt", work / "cache"
    disk = ["--disk-cache", cache, "--disk-cache-size", "1TiB"]
    all_of_them = {
        "plain": lambda: timed(lambda: s3.fetch_all(os.environ, [shard.name for shard in plain])),
        "object": lambda: mounted_and_read(upg_mount, address, point),
        "direct": lambda: mounted_and_read(upg_mount, address, point, flags=os.O_DIRECT),
        "cached": lambda: mounted_and_read(upg_mount, address, point, disk),
        "local": lambda: mounted_and_read(upg_mount, image, point),
    }
    subjects = {name: subject for name, subject in all_of_them.items() if name in given.subjects}
    seconds = {SUBJECTS[name]: [] for name in subjects}
    with s3.link(given.rate * 1_000_000) as inside, s3.server(given.server, work / "s3", inside) as environment:
        os.environ.update(environment)
        progress("writing objects")
        s3.put(environment, [image, *(plain if "plain" in subjects else [])])
        os.sync()  # or the disk has them to write while the first subjects are measured
        if "cached" in subjects:
            progress("filling the disk cache")
            subjects["cached"]()
        for run in range(given.runs):
            for name, subject in subjects.items():
                progress(f"run {run + 1} of {given.runs}: {name}")
                seconds[SUBJECTS[name]].append(subject())
    return {
        "link_bytes_per_second": given.rate * 1_000_000,
        "plain_bytes": sum(shard.stat().st_size for shard in plain),
        "file_bytes": image.stat().st_size,
        "bits": given.bits,
        "seconds": seconds,
    }


def table(measured):
    medians = {name: statistics.median(all) for name, all in measured["seconds"].items()}
    plain = medians.get(SUBJECTS["plain"])
    rows = []
    for name, median in medians.items():
        speed = measured["plain_bytes"] / median / 1e9
        rows.append([name, f"{median:.2f}", f"{speed:.2f}", f"{plain / median:.2f}" if plain else "-"])
    return tables.markdown(["", "s", "GB/s of safetensors", "times plain"], rows)


def main():
    given = arguments()
    programs.end_cleanly_on_signals()
    try:
        with tempfile.TemporaryDirectory(dir=given.work, prefix="upg-bench-") as work:
            measured = measure(given, Path(work))
    except Trouble as trouble:
        sys.exit(f"bench_objects.py: {trouble}")
    progress.clear()
    print(table(measured))
    if given.json:
        machine.write_json(given.json, measured)


if __name__ == "__main__":
    main()
