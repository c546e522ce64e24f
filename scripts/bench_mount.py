#!/usr/bin/env python3
"""Measure how fast a mounted model loads, beside the plain files and other mounts.

Converts the model (3.2 bits and lossless), then reads it in the ways loaders do: the plain
files; the two mounts; a mount that answers with zeros and decodes nothing, which is what
FUSE allows at most; squashfs with zstd, by the kernel and by squashfuse; and DwarFS, if it
is installed. The subjects take turns, so that what else the machine does meets all alike.
Cold: nothing is in memory. Warm: the compressed file is, but neither decoded blocks nor
the mount's pages; of the plain files, everything.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from measure import Trouble, loads, machine, programs, tables
from measure.files import shards
from measure.loads import SUBJECTS
from measure.programs import progress, say

EXAMPLES = """\
examples:
  bench_mount.py models/phi-4
      everything, as root: cold needs drop_caches, and the kernel's squashfs a mount
  bench_mount.py models/phi-4 --patterns 'mmap x1,pread x1' --state warm --runs 3
  bench_mount.py models/phi-4 --mount-options='--readahead-kb 128' --subjects plain,3.2,zeros
      as a user who may not set read-ahead has it

A virtual machine that returns free memory to its host pays for every page that it uses again,
and the page cache that is dropped here is such memory. --touch takes that out of the times:
say about as much as a load allocates, its page cache included.

Packages: scripts/requirements-quality.txt; fastsafetensors and runai-model-streamer for
their patterns; squashfs-tools and squashfuse (apt), dwarfs. What is missing is left out,
and said.
"""
OURS = ["3.2", "lossless", "zeros"]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", type=Path, help="directory with safetensors")
    add("--subjects", default=",".join(SUBJECTS), help="of these [all]")
    add("--patterns", default=",".join(loads.PATTERNS), help="of these [all]")
    add("--state", choices=["cold", "warm", "both"], default="both")
    add("--runs", type=int, default=5, help="of each; medians are shown [5]")
    add("--touch", type=float, metavar="GIB", default=0, help="of memory, just before each load (see below) [0]")
    add("--mount-options", default="", help="more options of upg-mount")
    add("--work", type=Path, metavar="DIR", help="for images and mounts [the system's place]")
    add("--images", type=Path, metavar="DIR", help="keep the images here, and use those that are there")
    add("--bin", type=Path, metavar="DIR", help="where upg and upg-mount are [target/release]")
    add("--json", type=Path, metavar="FILE", help="write everything here, too")
    return parser.parse_args()


class Bench:
    def __init__(self, given, work):
        self.given, self.work = given, work
        self.upg, self.upg_mount = programs.find(given.bin)
        self.images = {"plain": given.model}
        self.place = given.images or work
        self.wanted = [s for s in SUBJECTS if s in given.subjects.split(",")]

    def make_images(self):
        model = self.given.model.resolve()
        self.place.mkdir(parents=True, exist_ok=True)
        for subject in list(self.wanted):
            progress(f"making {subject}")
            image = self.place / f"{subject}.img"
            if subject in ("3.2", "lossless"):
                options = ["--lossless"] if subject == "lossless" else ["--bits", subject]
                out = self.place / subject
                if not out.exists():
                    programs.convert(self.upg, model, out, options)
                self.images[subject] = next(out.glob("*.upg"))
            elif subject == "zeros":
                self.images[subject] = self.images.get("3.2") or self.images["lossless"]
            elif subject in ("squashfs", "squashfuse"):
                if not self.has(subject, "mksquashfs", subject == "squashfuse" and "squashfuse"):
                    continue
                self.images[subject] = image = self.place / "squashfs.img"
                options = ["-comp", "zstd", "-b", "1M", "-quiet", "-no-progress"]
                make(image, lambda out: programs.run("mksquashfs", model, out, *options))
            elif subject == "dwarfs" and self.has(subject, "mkdwarfs", "dwarfs"):
                self.images[subject] = image
                make(image, lambda out: programs.run("mkdwarfs", "-i", model, "-o", out))

    def has(self, subject, *tools):
        missing = [tool for tool in tools if tool and not shutil.which(tool)]
        if subject == "squashfs" and os.geteuid() != 0:
            missing.append("root")
        if missing:
            say(f"{subject} is left out: no {', '.join(missing)}")
            self.wanted.remove(subject)
        return not missing

    @contextmanager
    def mounted(self, subject):
        image, point = self.images[subject], self.work / "mnt"
        if subject == "plain":
            yield image
            return
        if subject in OURS:
            options = self.given.mount_options.split() + (["--bench-null"] if subject == "zeros" else [])
            with programs.mounted(self.upg_mount, image, point, options):
                yield point
            return
        point.mkdir()
        command = {"squashfs": ["mount", "-t", "squashfs", "-o", "ro,loop"]}.get(subject, [subject])
        try:
            programs.run(*command, image, point)
            yield point
        finally:
            subprocess.run(["umount", "-l", str(point)], capture_output=True, check=False)
            point.rmdir()

    def measure(self, subject, pattern, state):
        """Seconds, bytes, and what a mount of ours says of itself; None if it failed."""
        forget()
        if state == "warm":
            warm(self.images[subject])
        with self.mounted(subject) as root:
            child = [sys.executable, loads.__file__, pattern, str(root), str(self.given.touch)]
            done = subprocess.run(child, capture_output=True, text=True, check=False)
            if done.returncode:
                say(f"{subject}, {pattern}: {done.stderr.strip().splitlines()[-1:]}")
                return None
            result = json.loads(done.stdout)
            if subject in OURS:
                result["stats"] = programs.stats(root)
                result["work"] = machine.work(machine.daemon_of(root))
            return result


def make(image, write):
    """An image that is whole if it is there, as it may be used again."""
    if not image.exists():
        unfinished = image.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        write(unfinished)
        unfinished.rename(image)


def forget():
    """Nothing of any file stays in memory."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError as e:
        raise Trouble(f"cannot drop the page cache: {e} (run as root)") from e


def warm(image):
    for path in shards(image) if Path(image).is_dir() else [image]:
        with open(path, "rb", buffering=0) as file:
            while file.read(16 << 20):
                pass


def run(given, work, results):
    bench = Bench(given, work)
    bench.make_images()
    patterns = [p for p in given.patterns.split(",") if p in loads.PATTERNS]
    states = ["cold", "warm"] if given.state == "both" else [given.state]
    for state in states:
        for pattern in patterns:
            times = {subject: [] for subject in bench.wanted}
            stats, work = {}, {subject: [] for subject in bench.wanted if subject in OURS}
            for turn in range(given.runs):
                for subject in list(times):
                    progress(f"{state}, {pattern}, run {turn + 1} of {given.runs}: {subject}")
                    measured = bench.measure(subject, pattern, state)
                    if measured is None:
                        del times[subject]
                        continue
                    times[subject].append((measured["seconds"], measured["bytes"]))
                    if subject in OURS:
                        stats[subject] = measured["stats"]
                        work[subject].append(measured["work"])
            for subject, runs in times.items():
                seconds = [s for s, _ in runs]
                results.append(
                    dict(state=state, pattern=pattern, subject=subject, seconds=seconds,
                         median=statistics.median(seconds), bytes=runs[0][1], stats=stats.get(subject),
                         work=work.get(subject))
                )  # fmt: skip
    progress.clear()


def show(results):
    for state in dict.fromkeys(r["state"] for r in results):
        here = [r for r in results if r["state"] == state]
        subjects = list(dict.fromkeys(r["subject"] for r in here))
        rows = []
        for pattern in dict.fromkeys(r["pattern"] for r in here):
            of = {r["subject"]: r for r in here if r["pattern"] == pattern}
            cells = [f"{of[s]['bytes'] / of[s]['median'] / 1e9:.2f}" if s in of else "-" for s in subjects]
            rows.append([pattern, *cells])
        print(f"\n{state}, GB/s of what is read (medians):\n")
        print(tables.markdown(["", *subjects], rows))


def show_work(results):
    """What the daemons did for it: per GB of what is read, and per request of the kernel."""
    rows = []
    for r in results:
        if not r["work"]:
            continue
        middle = {name: statistics.median(run[name] for run in r["work"]) for name in r["work"][0]}
        requests, gb = sum(r["stats"]["requests"].values()), r["bytes"] / 1e9
        seconds = [f"{middle[name] / gb:.2f}" for name in ("user", "system")]
        each = [f"{middle[name] / requests:.2f}" for name in ("faults", "wakeups")]
        rows.append([r["state"], r["pattern"], r["subject"], f"{requests / gb:.0f}", *seconds, *each])
    if rows:
        head = ["", "", "", "READs per GB", "user s per GB", "system s per GB", "faults per READ", "wake-ups per READ"]
        print(f"\nthe daemon of a mount, its start included (medians):\n\n{tables.markdown(head, rows)}")


def main():
    given = arguments()
    programs.end_cleanly_on_signals()
    results = []
    try:
        with tempfile.TemporaryDirectory(prefix="upg-bench-", dir=given.work) as work:
            run(given, Path(work), results)
    finally:
        # Also what there is of a run that was stopped.
        report(given, results)


def report(given, results):
    show(results)
    show_work(results)
    if given.json:
        machine.write_json(given.json, results)


if __name__ == "__main__":
    try:
        main()
    except Trouble as trouble:
        sys.exit(f"bench_mount.py: {trouble}")
