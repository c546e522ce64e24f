#!/usr/bin/env python3
"""The licences of what is linked into the programs, as their authors wrote them.

    third_party.py > FILE

Names every crate that upg and upg-mount contain on this platform, with the texts of the licence files
in its sources; of the C library zstd as well. Texts that several crates share are printed once. A crate
without a licence file is an error.
"""

import json
import platform
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
NAMES = ("license", "licence", "copying", "copyright", "notice", "unlicense")
# Licences of C code below a crate's own.
INSIDE = {"zstd-sys": ("zstd/LICENSE",)}


def metadata():
    target = f"{platform.machine()}-unknown-linux-gnu"
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    done = subprocess.run(command, cwd=REPO, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def linked(data):
    """What normal dependencies lead to: nothing that only tests or builds."""
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    packages = {package["id"]: package for package in data["packages"]}
    found, waiting = {}, [data["resolve"]["root"]]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = packages[name]
        for dependency in nodes[name]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    del found[data["resolve"]["root"]]
    return sorted(found.values(), key=lambda package: (package["name"], package["version"]))


def texts(package):
    directory = Path(package["manifest_path"]).parent
    files = [f for f in sorted(directory.iterdir()) if f.is_file() and f.name.lower().startswith(NAMES)]
    files += [directory / name for name in INSIDE.get(package["name"], ())]
    return [file.read_text(encoding="utf-8", errors="replace").strip() for file in files]


def main():
    shared, without = {}, []
    for package in linked(metadata()):
        name = f"{package['name']} {package['version']}"
        found = texts(package)
        if not found:
            without.append(f"{name} ({package['license']})")
        for text in found:
            shared.setdefault(text, []).append(f"{name} ({package['license']})")
    if without:
        sys.exit("no licence file in the sources of " + ", ".join(without))
    print("The programs upg and upg-mount contain these libraries, under these licences; and the standard")
    print("library of Rust, by the Rust Project's contributors, under MIT or Apache-2.0.")
    for text, names in shared.items():
        print("\n" + "-" * 80 + "\n")
        print("\n".join(names), end="\n\n")
        print(text)


if __name__ == "__main__":
    main()
