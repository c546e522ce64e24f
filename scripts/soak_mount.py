#!/usr/bin/env python3
"""Read a mount at random for a long time, compare every byte, and watch the memory it takes.

Converts a model losslessly, mounts it, and starts readers, each a process that reads random
ranges by pread, through a mapping and with O_DIRECT. A request is a call, or the touch of a
page. Exits with 1 if a byte differs, a reader fails, or the daemon ever took more memory than
its cache may have and 64 MiB.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import Trouble, machine, programs, random_reader, tables
from measure.programs import progress

EXAMPLES = """\
examples:
  soak_mount.py models/phi-4
      64 readers for five minutes
  soak_mount.py models/phi-4 --seconds 20 --readers 8 --cache-size 128MiB \\
      --mount-options='--threads 64 --drop-compressed'
"""
ALLOWANCE = 64 << 20  # beside the cache


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", type=Path, help="directory with safetensors")
    add("--seconds", type=float, default=300, help="how long [300]")
    add("--readers", type=int, default=64, help="processes [64]")
    add("--cache-size", default="512MiB", metavar="SIZE", help="of the mount [512MiB]")
    add("--mount-options", default="", help="more options of upg-mount")
    add("--image", type=Path, metavar="FILE", help="the model as lossless .upg, if there is one")
    add("--seed", type=int, default=1, help="of the random ranges [1]")
    add("--work", type=Path, metavar="DIR", help="for image and mount [the system's place]")
    add("--bin", type=Path, metavar="DIR", help="where upg and upg-mount are [target/release]")
    add("--json", type=Path, metavar="FILE", help="write everything here, too")
    return parser.parse_args()


def start_readers(given, root, readers):
    source = given.model.resolve()
    for i in range(given.readers):
        command = [sys.executable, random_reader.__file__, root, source, given.seed + i, given.seconds]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        readers.append(subprocess.Popen(list(map(str, command)), **pipes, text=True))
    # All at once, when all are there: starting them keeps the machine busy.
    for reader in readers:
        reader.stdout.readline()
    for reader in readers:
        reader.stdin.write("go\n")
        reader.stdin.flush()


def watch(given, readers, daemon):
    """Memory of the daemon until the last reader is done."""
    most, samples = {}, []
    begin = time.monotonic()
    while any(reader.poll() is None for reader in readers):
        now = machine.memory(daemon)
        samples.append(now["VmRSS"])
        for name in ("VmRSS", "RssAnon", "VmHWM"):
            most[name] = max(most.get(name, 0), now[name])
        elapsed = time.monotonic() - begin
        progress(f"{elapsed:.0f} of {given.seconds:.0f} s, {now['VmRSS'] / 2**20:.0f} MiB")
        time.sleep(0.1)
    # Memory that is lost bit by bit would show as a difference between these.
    parts = [samples[i * len(samples) // 4 : (i + 1) * len(samples) // 4] for i in range(4)]
    return most | dict(quarters=[sum(part) // max(1, len(part)) for part in parts])


def outcome(reader):
    out, err = reader.communicate()
    if reader.returncode:
        return dict(wrong=f"a reader failed: {(err.strip() or str(reader.returncode)).splitlines()[-1]}")
    return json.loads(out)


def run(given, work):
    upg, upg_mount = programs.find(given.bin)
    image = given.image
    if not image:
        progress("converting")
        programs.convert(upg, given.model.resolve(), work / "image", ["--lossless"])
        image = next((work / "image").glob("*.upg"))
    options = ["--cache-size", given.cache_size, *given.mount_options.split()]
    with programs.mounted(upg_mount, image, work / "mnt", options) as root:
        daemon = machine.daemon_of(root)
        readers = []
        try:
            start_readers(given, root, readers)
            memory = watch(given, readers, daemon)
            outcomes = [outcome(reader) for reader in readers]
        finally:
            for reader in readers:
                reader.kill()
                reader.wait()
        stats = programs.stats(root)
    progress.clear()
    return summary(given, memory, outcomes, stats)


def summary(given, memory, outcomes, stats):
    done = [o for o in outcomes if "requests" in o]
    budget = stats["cache"]["capacity"]
    per_way = lambda key, join: {w: join(o[key][w] for o in done) for w in random_reader.WAYS if done}
    return dict(
        readers=given.readers, seconds=given.seconds,
        requests=per_way("requests", sum), slowest=per_way("slowest", max),
        bytes=sum(o["bytes"] for o in done), late=sum(o["late"] for o in done),
        wrong=[o["wrong"] for o in outcomes if o["wrong"]],
        budget=budget, allowed=budget + ALLOWANCE, memory=memory, stats=stats,
    )  # fmt: skip


def show(result):
    head = ["", "ranges", "slowest request, ms"]
    print(tables.markdown(head, [
        [way, str(count), f"{1e3 * result['slowest'][way]:.0f}"]
        for way, count in result["requests"].items()
    ]))  # fmt: skip
    mib = {name: f"{value / 2**20:.1f}" for name, value in result["memory"].items() if name != "quarters"}
    quarters = ", ".join(f"{value / 2**20:.0f}" for value in result["memory"]["quarters"])
    print(f"\n{result['bytes'] / 1e9:.1f} GB compared; {result['late']} requests took more than 1 s")
    print(f"most memory, MiB: {', '.join(f'{name} {value}' for name, value in mib.items())}")
    print(f"mean of each quarter: {quarters}; allowed: {result['allowed'] / 2**20:.0f}")
    for wrong in result["wrong"]:
        print(wrong)


def main():
    given = arguments()
    programs.end_cleanly_on_signals()
    with tempfile.TemporaryDirectory(prefix="upg-soak-", dir=given.work) as work:
        result = run(given, Path(work).resolve())
    show(result)
    if given.json:
        machine.write_json(given.json, result)
    too_much = result["memory"]["VmHWM"] > result["allowed"]
    if too_much:
        print("more memory than allowed")
    return 1 if too_much or result["wrong"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Trouble as trouble:
        sys.exit(f"soak_mount.py: {trouble}")
