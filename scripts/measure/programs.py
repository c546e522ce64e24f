"""upg and upg-mount, run as a user runs them, and nothing left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from . import Trouble

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
stopped_by = []  # signals that arrived


def find(directory):
    """(upg, upg-mount) in a directory, else in $UPG_BIN_DIR, else in target/release, else on the PATH."""
    release = Path(__file__).resolve().parents[2] / "target" / "release"
    directory = directory or os.environ.get("UPG_BIN_DIR")
    for place in [Path(directory)] if directory else [release]:
        if (place / "upg").exists() and (place / "upg-mount").exists():
            return place.resolve() / "upg", place.resolve() / "upg-mount"
    found = shutil.which("upg"), shutil.which("upg-mount")
    if directory or not all(found):
        place = directory or f"{release} or on the PATH"
        raise Trouble(f"no upg and upg-mount in {place} (cargo build --release, or --bin DIR)")
    return tuple(map(Path, found))


def run(*command):
    """Standard output of a program that must succeed."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip() or f"exit {done.returncode}"
        raise Trouble(f"{Path(command[0]).name} {' '.join(map(str, command[1:]))}: {said}")
    return done.stdout


def convert(upg, source, out, options):
    """The report of `upg convert`."""
    return json.loads(run(upg, "convert", source, "-o", out, "--force", "--json", *options))


@contextmanager
def uninterrupted():
    """Hold signals back for the moment in which a mount comes or goes."""
    before = {n: signal.signal(n, lambda number, _: stopped_by.append(number)) for n in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def mounted(upg_mount, image, point, options=()):
    """The image at the mount point; unmounted afterwards, whatever happened."""
    point.mkdir()
    try:
        with uninterrupted():
            run(upg_mount, image, point, *options)
        stop_if_asked()
        yield point
    finally:
        with uninterrupted():
            unmount(upg_mount, point)


def unmount(upg_mount, point):
    """Politely, else by detaching: a tensor that something still maps keeps a mount busy."""
    if os.path.ismount(point):
        command = [str(upg_mount), "-u", str(point)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            detach = ["fusermount3", "-u", "-z", str(point)]
            if subprocess.run(detach, capture_output=True, check=False).returncode:
                print(f"still mounted: {point}: {done.stderr.strip()}", file=sys.stderr)
                return
    point.rmdir()


def stats(root):
    """What a mount says of itself."""
    return json.loads(os.getxattr(root, "user.upg.stats"))


def end_cleanly_on_signals():
    """Let a signal unwind the program, so that it unmounts and removes its files."""
    for number in SIGNALS:
        signal.signal(number, stop)
    default = sys.unraisablehook
    # What a destructor loses is asked for again below, and is nothing to print.
    sys.unraisablehook = lambda lost: (
        None if isinstance(lost.exc_value, SystemExit) else default(lost)
    )


def stop(number, _frame=None):
    stopped_by.append(number)
    if len(stopped_by) == 1:  # a second one must not interrupt the cleaning up
        sys.exit(128 + number)


def stop_if_asked():
    """The exception that a signal raises is lost if it comes while Python runs a destructor
    or a library catches everything; so this asks again."""
    if stopped_by:
        sys.exit(128 + stopped_by[0])


class Progress:
    """One line on standard error that overwrites itself; silent unless that is a terminal."""

    def __init__(self):
        self.on = sys.stderr.isatty()

    def __call__(self, text=""):
        stop_if_asked()
        self.show(text)

    def clear(self):
        self.show("")

    def show(self, text):
        if self.on:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{text[:width]}", end="", file=sys.stderr, flush=True)


progress = Progress()


def say(text):
    """A message to the user that stays, on standard error."""
    progress.clear()
    print(text, file=sys.stderr, flush=True)
