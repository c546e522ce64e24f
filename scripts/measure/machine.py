"""What was measured on, and what a process takes of it."""

import json
import os
import platform
import re
import sys
import time
from pathlib import Path


def describe():
    return dict(system=platform.platform(), cpu=cpu(), cores=os.cpu_count())


def cpu():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def write_json(path, results):
    """What was measured, with machine, date and command."""
    content = dict(date=time.strftime("%Y-%m-%d"), machine=describe(), command=sys.argv, results=results)
    path.write_text(json.dumps(content, indent=1) + "\n")


def daemon_of(point):
    """The id of the upg-mount that serves this mount point."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # gone meanwhile
        if command[0].endswith(b"upg-mount") and os.fsencode(point) in command:
            return int(entry.name)
    raise ProcessLookupError(f"no upg-mount serves {point}")


def memory(pid):
    """VmRSS, RssAnon, VmHWM and the like of a process, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pairs = (line.split(":", 1) for line in lines if line.endswith(" kB"))
    return {name: int(value.split()[0]) << 10 for name, value in pairs}


def work(pid):
    """What a process has done so far: seconds of CPU, page faults that needed no disk, and how often one
    of its threads woke up after waiting."""
    # Behind the name, which may hold anything: state is field 3.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    done = dict(faults=int(fields[7]), user=int(fields[11]) / ticks, system=int(fields[12]) / ticks, wakeups=0)
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        found = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status.read_text(), re.MULTILINE)
        done["wakeups"] += int(found[1])
    return done
