"""Conversions that are disturbed: what they convert, and what may be at the destination then."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from . import tensors
from .processes import is_stopped
from .programs import UPG, often, run

TEMPORARY = re.compile(r"\.upg-[0-9A-Za-z]{6}\.partial")
METADATA = "upg-metadata.json"


def write_model(root):
    """Several types in two shards, with files beside them: of some length on the way through scan,
    plans, blocks and copies. 10 MB, or 42."""
    rows = often(750, 3000)
    first = [tensors.gaussian("a", (rows, 2048)), tensors.gaussian("n", (4096,), "F32")]
    second = [
        tensors.gaussian("b", (rows, 2048), "F32", seed=2),
        tensors.gaussian("c", (rows // 4, 2048), "F16", seed=3),
    ]
    tensors.write(root / "model-00001-of-00002.safetensors", first)
    tensors.write(root / "model-00002-of-00002.safetensors", second)
    (root / "config.json").write_text("{}")
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "sub" / "deep" / "notes.txt").write_text("notes\n" * 1000)
    return root


def content(out):
    """What lies at a destination, without what depends on the clock; None if nothing does."""
    if not os.path.lexists(out):
        return None
    if out.is_file():
        return tensors.sha256(out)
    files = tensors.tree(out)
    try:
        report = json.loads((out / METADATA).read_text())
    except (OSError, ValueError):
        return "half a result"
    for measured in (report, *report["tensors"]):
        measured.pop("seconds")
    report.pop("output")
    return files | {METADATA: json.dumps(report)}


def temporaries(directory):
    return [name for name in os.listdir(directory) if name.startswith(".upg-")]


def is_locked(path):
    """Whether another process has a lock on it. To be asked of what stands still: who is about to
    lock it would find it locked."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


@dataclass
class Job:
    """A conversion to a destination, with what must be there when it is not disturbed."""

    source: Path
    out: Path
    # Beside `out` while it is restored.
    old: Path
    options: tuple
    expected: object
    before: object

    def command(self, force):
        command = [UPG, "convert", self.source, "-o", self.out, *self.options]
        return [str(part) for part in (*command, *(["--force"] if force else []))]

    def reset(self, force):
        """The destination as it was: something that `force` replaces, or nothing."""
        if self.out.is_dir():
            shutil.rmtree(self.out)
        self.out.unlink(missing_ok=True)
        if force:
            copy = shutil.copytree if self.old.is_dir() else shutil.copy
            copy(self.old, self.out)

    def start(self, force, stderr=subprocess.DEVNULL):
        streams = {"stdout": subprocess.DEVNULL, "stderr": stderr, "text": True}
        return subprocess.Popen(self.command(force), **streams)

    def stopped(self, force, stderr=subprocess.DEVNULL):
        """Started, and stopped when it has begun to write: again, if it was faster than we are."""
        for _ in range(100):
            process = self.start(force, stderr)
            while process.poll() is None:
                time.sleep(0.0002)
                if not temporaries(self.out.parent):
                    continue
                process.send_signal(signal.SIGSTOP)
                while process.poll() is None and not is_stopped(process.pid):
                    time.sleep(0.0002)
                # What is not locked yet looks like a dead one's.
                if process.poll() is None and any(is_locked(self.out.parent / name) for name in temporaries(self.out.parent)):
                    return process
                process.send_signal(signal.SIGCONT)
            process.communicate()
            self.reset(force)
        raise AssertionError("every conversion was too fast to be stopped")

    def check(self, force):
        """Whole or absent. Whether it is the new one."""
        found = content(self.out)
        assert found in (self.expected, self.before if force else None), found
        return found == self.expected

    def rerun(self):
        """It works, and nothing of earlier runs is left beside its result."""
        done = run(*self.command(force=True))
        assert done.returncode == 0, done.stderr
        assert content(self.out) == self.expected
        assert temporaries(self.out.parent) == []


def job(source, base, name, options=("--effort", "1")):
    """`name` ends in .upg or not. What is replaced is another conversion of the same source."""
    old, new, place = base / f"old-{name}", base / f"new-{name}", base / "place"
    place.mkdir()
    for out, how in ((old, ("--lossless",)), (new, options)):
        done = run(UPG, "convert", source, "-o", out, *how)
        assert done.returncode == 0, done.stderr
    made = Job(source, place / name, old, options, content(new), content(old))
    assert made.expected != made.before
    return made


@dataclass
class Merge(Job):
    """The same of a merge, which writes a file in the same way."""

    inputs: tuple = ()

    def command(self, force):
        command = [UPG, "merge", *self.inputs, "-o", self.out, *(["--force"] if force else [])]
        return [str(part) for part in command]


def merge_job(inputs, base):
    """What is replaced is one of the inputs."""
    new, place = base / "new.upg", base / "place"
    place.mkdir()
    done = run(UPG, "merge", *inputs, "-o", new)
    assert done.returncode == 0, done.stderr
    made = Merge(None, place / "m.upg", inputs[0], (), content(new), content(inputs[0]), tuple(inputs))
    assert made.expected != made.before
    return made
