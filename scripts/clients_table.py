#!/usr/bin/env python3
"""The table of clients.sh.

    clients_table.py RESULTS [--json FILE] [--markdown FILE] CLIENT...

RESULTS holds what the clients' programs wrote: CLIENT.KIND.WHERE, of the KINDs lossless and lossy, WHERE
plain or mount. A client has passed if it got something, the same from the mount as from the plain files,
and of the lossy file other than of the lossless one, so that what it got depends on the weights.
Exits with 1 if one has not.
"""

import argparse
import json
import sys
from pathlib import Path

KINDS = ("lossless", "lossy")
PLACES = ("plain", "mount")


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("clients", nargs="+", metavar="CLIENT")
    return parser.parse_args()


def judge(runs):
    """What is wrong with the results of a client's four runs, or nothing."""
    for kind in KINDS:
        plain, mount = (runs[kind, place]["got"] for place in PLACES)
        if not plain:
            return f"{kind}: it got nothing"
        others = sorted(n for n in plain.keys() | mount.keys() if plain.get(n) != mount.get(n))
        if others:
            return f"{kind}: of {len(plain)}, {len(others)} differ from the plain files', the first {others[0]!r}"
    lossless, lossy = (runs[kind, "plain"]["got"] for kind in KINDS)
    if lossless.keys() != lossy.keys() or lossless == lossy:
        return "what it got does not depend on the weights"
    return None


def outcome(results, client):
    """A row of the table, as a dictionary."""
    runs = {}
    for kind in KINDS:
        for place in PLACES:
            file = results / f"{client}.{kind}.{place}"
            if file.exists():
                runs[kind, place] = json.loads(file.read_text())
    some = next(iter(runs.values()), {})
    failure = results / f"{client}.failed"
    if failure.exists():
        wrong = failure.read_text().strip()
    elif len(runs) < len(KINDS) * len(PLACES):
        wrong = "it ended without a result"
    else:
        wrong = judge(runs)
    return {
        "client": client,
        "version": some.get("version"),
        "did": some.get("did"),
        "passed": wrong is None,
        "wrong": wrong,
        "compared": len(some.get("got", ())),
        "seconds": {f"{kind}, {place}": run["seconds"] for (kind, place), run in runs.items()},
    }


def printable(text):
    """Clients say anything; a terminal should not obey it, nor a table end at it."""
    return "".join(c if c.isprintable() and c != "|" else ascii(c)[1:-1] for c in text)


def cells(row):
    def seconds(kind):
        times = [row["seconds"].get(f"{kind}, {place}") for place in PLACES]
        return " / ".join("-" if t is None else f"{t:.2f}" for t in times)

    result = f"equal, {row['compared']} of {row['compared']}" if row["passed"] else f"FAILED: {row['wrong']}"
    texts = (row["client"], row["version"] or "-", row["did"] or "-", result)
    return [printable(text) for text in texts] + [seconds(kind) for kind in KINDS]


def markdown(rows):
    head = ["client", "version", "what was done", "from the mount as from plain files"]
    head += ["lossless: plain / mount, s", "3.2 bits: plain / mount, s"]
    lines = [head, ["---"] * 4 + ["---:"] * 2, *map(cells, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main():
    given = arguments()
    rows = [outcome(given.results, client) for client in given.clients]
    table = [["client", "version", "result", "lossless s", "3.2 bits s"]]
    table += [[c[0], c[1], c[3], *c[4:]] for c in map(cells, rows)]
    widths = [max(len(line[i]) for line in table) for i in range(5)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    print("seconds: plain files / mount")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")
    if given.markdown:
        given.markdown.write_text(markdown(rows))
    failed = sum(not row["passed"] for row in rows)
    print(f"{len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
