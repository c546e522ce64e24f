#!/usr/bin/env python3
"""Plot what `upg bench --json` wrote.

Draws rate-distortion.svg (how far from the bound, per number of states) and speed.svg
(decoding beside memcpy, and encoding) into a directory, from any number of files: all
rates that they have go into the first, the speeds of the first file that has any into
the second. The same files give the same bytes.
"""

import argparse
import json
import sys
from pathlib import Path

from measure import Trouble, plots
from measure.plots import COLOURS

EXAMPLE = """\
example:
  for e in 1 8 32 max; do upg bench --dtype F32 --effort $e --seconds 0 --json > rates-$e.json; done
  upg bench --json > speed.json
  plot_bench.py rates-*.json speed.json

Package: matplotlib (pip install matplotlib)
"""


def read(path):
    try:
        content = json.loads(path.read_text())
        return content, content["synthetic"]["rates"]
    except (OSError, ValueError) as e:
        raise Trouble(f"{path}: {e}") from e
    except (KeyError, TypeError) as e:
        raise Trouble(f"{path}: not what `upg bench --synthetic --json` writes") from e


def has_speeds(bench):
    return all(rate["speeds"] for rate in bench[1])


def rate_distortion(plt, benches):
    """The distance to the bound over the bits, a line per number of states."""
    # A run for the speeds repeats what another says of the rates.
    lines = {}
    for content, rates in [bench for bench in benches if not has_speeds(bench)] or benches:
        key = (content["synthetic"]["states"], content["synthetic"]["dtype"])
        known = (rate for rate in rates if rate["gap_db"] is not None)
        lines[key] = [(rate["bits_per_weight"], rate["gap_db"]) for rate in known]
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    types = {dtype for _, dtype in lines}
    for colour, ((states, dtype), points) in zip(COLOURS, sorted(lines.items()), strict=False):
        label = "no trellis" if states == 1 else f"{states} states"
        label += f", {dtype}" if len(types) > 1 else ""
        axes.plot(*zip(*sorted(points), strict=True), "o-", color=colour, label=label, markersize=3.5)
    axes.axhline(0, color="black", linewidth=1)
    axes.annotate("R(D)", (axes.get_xlim()[1], 0), ha="right", va="bottom")
    axes.set(xlabel="bits per weight of the whole file", ylabel="dB from the bound")
    axes.set_ylim(bottom=-0.1)
    axes.set_title(f"Gaussian weights, {' and '.join(sorted(types))}", loc="left", fontsize=9)
    axes.legend(frameon=False, ncols=len(lines), loc="upper center", bbox_to_anchor=(0.5, -0.18))
    return figure


def speed(plt, content, rates):
    """Bars per rate for each instruction set: decoding, with memcpy beside it, and encoding."""
    machine, synthetic = content["machine"], content["synthetic"]
    figure, panels = plt.subplots(1, 2, figsize=(7.5, 3.4), layout="constrained")
    unit = {
        "decode": ("gb_per_second", 1, "GB/s decoded"),
        "encode": ("weights_per_second", 1e6, "M weights/s encoded"),
    }
    for axes, direction in zip(panels, unit, strict=True):
        field, divisor, label = unit[direction]
        isas = machine["isas"]
        width = 0.8 / len(isas)
        for i, (isa, colour) in enumerate(zip(isas, COLOURS[1:], strict=False)):
            key = (direction, isa, 1)
            of = [
                next(s for s in rate["speeds"] if (s["direction"], s["isa"], s["threads"]) == key)
                for rate in rates
            ]
            at = [x + (i - (len(isas) - 1) / 2) * width for x in range(len(rates))]
            axes.bar(at, [s[field] / divisor for s in of], width, color=colour, label=isa)
        if direction == "decode":
            copies = sorted(
                s["memcpy_gb_per_second"]
                for rate in rates
                for s in rate["speeds"]
                if s["direction"] == direction and s["threads"] == 1
            )
            axes.axhline(copies[len(copies) // 2], color="black", linewidth=1, linestyle="--")
            axes.annotate("memcpy", (len(rates) - 0.5, copies[len(copies) // 2]), ha="right", va="bottom")
        axes.set_xticks(range(len(rates)), [f"{rate['asked_bits']:g}" for rate in rates])
        axes.grid(axis="x", visible=False)
        axes.set(xlabel="bits per weight", ylabel=label)
    # Over the bars there is no room that every machine leaves.
    panels[1].legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    states = synthetic["states"]
    coder = "no trellis" if states == 1 else f"{states} states"
    title = f"{machine['cpu']}, one thread; {synthetic['dtype']}, {coder}"
    panels[0].set_title(title, loc="left", fontsize=9)
    return figure


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", metavar="JSON", nargs="+", type=Path)
    where = Path(__file__).resolve().parents[1] / "docs" / "img"
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, default=where, help="default: docs/img")
    arguments = parser.parse_args()
    benches = [read(path) for path in arguments.files]
    with_speeds = [bench for bench in benches if has_speeds(bench)]
    arguments.output.mkdir(parents=True, exist_ok=True)
    with plots.pyplot() as plt:
        figures = {"rate-distortion": rate_distortion(plt, benches)}
        if with_speeds:
            figures["speed"] = speed(plt, *with_speeds[0])
        for name, figure in figures.items():
            plots.save(figure, arguments.output / f"{name}.svg")


if __name__ == "__main__":
    try:
        main()
    except Trouble as trouble:
        sys.exit(f"plot_bench.py: {trouble}")
