"""Other processes, seen through /proc."""

import contextlib
import shutil
from pathlib import Path

from .programs import require, run

# Quietly: what it prints would stand between what the program prints.
STRACE = ["strace", "-f", "-qq", "-o", "/dev/null"]


def require_strace():
    require(shutil.which("strace"), "no strace")
    require(run(*STRACE, "true").returncode == 0, "strace may not trace")


def _fields(pid):
    """State, parent and so on: what follows the name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def is_process(pid):
    """Whether it lives: one that nobody has waited for yet does not."""
    with contextlib.suppress(OSError):
        return _fields(pid)[0] not in "ZX"
    return False


def is_stopped(pid):
    return _fields(pid)[0] == "T"


def children(parent):
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and int(_fields(entry.name)[1]) == parent:
                found.append(int(entry.name))
    return found


def descriptors(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
