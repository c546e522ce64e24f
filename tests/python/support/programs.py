"""The programs under test, and what the machine must have."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[3]
BINARIES = Path(os.environ.get("UPG_BIN_DIR") or REPO / "target" / "release")
UPG = BINARIES / "upg"
UPG_MOUNT = BINARIES / "upg-mount"
MAKE_MODEL = REPO / "scripts" / "make_model.py"
REFERENCE_DECODER = REPO / "scripts" / "reference_decoder.py"
GOLDEN = REPO / "tests" / "golden"

CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")
# scripts/soak.sh sets it: the same tests, with more of everything.
LONG = os.environ.get("UPG_LONG") == "1"


def often(short, long):
    """How often, or how many seconds: in a run of every check, or in a soak."""
    return long if LONG else short


def require(condition, reason):
    """Skip where a developer's machine lacks something; CI must have it."""
    if condition:
        return
    if CI:
        pytest.fail(f"{reason} (skipped outside CI)")
    pytest.skip(reason)


def needed(module):
    """Import for a whole test module; without the package the module is skipped."""
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        if CI:
            raise
        pytest.skip(f"no package {missing.name}", allow_module_level=True)


def require_fuse():
    require(os.path.exists("/dev/fuse"), "no /dev/fuse")
    require(os.access("/dev/fuse", os.R_OK | os.W_OK), "/dev/fuse is not accessible")


def run(*command, timeout=240, **more):
    """Run to the end; both streams as text."""
    command = [str(c) for c in command]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, **more)


@dataclass
class Converted:
    path: Path
    report: dict

    def tensor(self, name):
        found = [t for t in self.report["tensors"] if t["name"] == name]
        assert len(found) == 1, f"{name} occurs {len(found)} times in the report"
        return found[0]


def convert(source, out, *options):
    """`upg convert` that must succeed. OUT must name a .upg file."""
    done = run(UPG, "convert", source, "-o", out, "--json", *options)
    assert done.returncode == 0, f"convert {options}: exit {done.returncode}\n{done.stderr}"
    return Converted(Path(out), json.loads(done.stdout))


def make_model(out, *options):
    done = run(sys.executable, MAKE_MODEL, out, *options)
    assert done.returncode == 0, done.stderr
    return Path(out)


def one_line(text):
    """The single line that a failing program owes its user."""
    lines = text.splitlines()
    assert len(lines) == 1 and lines[0].strip(), f"expected one line on stderr, got {lines}"
    return lines[0]
