#!/usr/bin/env python3
"""Plot what bench_mount.py --json wrote: GB/s of each way to read, cold and warm.

From any number of files; where two have the same measurement, the later counts.
"""

import argparse
import json
import sys
from pathlib import Path

from measure import Trouble, plots
from measure.loads import PATTERNS, SUBJECTS
from measure.plots import COLOURS

EXAMPLE = """\
example:
  bench_mount.py models/phi-4 --json mount.json
  plot_mount.py mount.json

Package: matplotlib (pip install matplotlib)
"""
LABELS = {"3.2": "upg, 3.2 bits", "lossless": "upg, lossless", "zeros": "zeros through FUSE"}


def read(paths):
    """{(state, pattern, subject): GB/s}"""
    speeds = {}
    for path in paths:
        try:
            for result in json.loads(path.read_text())["results"]:
                key = result["state"], result["pattern"], result["subject"]
                speeds[key] = result["bytes"] / result["median"] / 1e9
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise Trouble(f"{path}: not what bench_mount.py --json writes: {e}") from e
    return speeds


def draw(plt, speeds):
    states = [state for state in ("cold", "warm") if any(key[0] == state for key in speeds)]
    figure, panels = plt.subplots(
        1, len(states), figsize=(4.5 * len(states), 4.2), layout="constrained", squeeze=False
    )
    for axes, state in zip(panels[0], states, strict=True):
        patterns = [p for p in PATTERNS if any(key[:2] == (state, p) for key in speeds)]
        subjects = [s for s in SUBJECTS if any(key[0] == state and key[2] == s for key in speeds)]
        width = 0.8 / len(subjects)
        for i, subject in enumerate(subjects):
            at = [y + (i - (len(subjects) - 1) / 2) * width for y in range(len(patterns))]
            bars = [speeds.get((state, pattern, subject), 0) for pattern in patterns]
            colour = COLOURS[SUBJECTS.index(subject)]
            axes.barh(at, bars, width, color=colour, label=LABELS.get(subject, subject))
        axes.set_yticks(range(len(patterns)), patterns)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="GB/s of what is read")
        axes.set_title(state, loc="left", fontsize=9)
        axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    return figure


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", metavar="JSON", nargs="+", type=Path)
    where = Path(__file__).resolve().parents[1] / "docs" / "img" / "mount.svg"
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, default=where, help="default: docs/img/mount.svg")
    arguments = parser.parse_args()
    speeds = read(arguments.files)
    with plots.pyplot() as plt:
        plots.save(draw(plt, speeds), arguments.output)


if __name__ == "__main__":
    try:
        main()
    except Trouble as trouble:
        sys.exit(f"plot_mount.py: {trouble}")
