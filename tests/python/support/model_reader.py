"""Threads that do the same to a mount and to a plain directory, and compare all that they see:

    python -m support.model_reader MOUNT PLAIN SEED [--threads N] [--seconds N | --count N]

With --disturbed signals hit them at any time, and now and then the process starts anew, which
ends its threads in the middle of what they do. Prints "N operations" every now and then. Exit
code 3: they differ; the operations that led to it are printed, and the command that does them
again. 4: a thread is stuck.
"""

import argparse
import collections
import contextlib
import faulthandler
import os
import random
import signal
import sys
import threading
import time
import traceback

from .model_operations import Tree
from .model_sequence import Sequence, catalogue

PATIENCE = 120  # seconds for one operation, on a machine that may be busy
REPORT = 0.2  # seconds between two reports
COMPLAINING = threading.Lock()
SIGNALS = (signal.SIGUSR1, signal.SIGALRM)


class Reader(threading.Thread):
    def __init__(self, options, number, known):
        super().__init__(daemon=True)
        self.options, self.number = options, number
        self.sequence = Sequence(f"{options.seed} {number}", known)
        self.done = 0
        self.end = time.monotonic() + options.seconds

    def run(self):
        last = collections.deque(maxlen=25)
        try:
            mount, plain = Tree(self.options.mount, True), Tree(self.options.plain, False)
            for operation in self.sequence:
                if self.done == self.options.count or time.monotonic() > self.end:
                    return
                last.append(operation)
                seen, expected = mount.apply(operation), plain.apply(operation)
                if seen != expected:
                    return self.complain(last, f"mount: {short(seen)}\nplain: {short(expected)}")
                self.done += 1
        except Exception:
            self.complain(last, traceback.format_exc())

    def complain(self, last, what):
        COMPLAINING.acquire()  # for ever: one complaint is enough
        given = f"{self.options.mount} {self.options.plain} {self.options.seed}"
        print(f"thread {self.number}, operation {self.done}, the last of:", file=sys.stderr)
        print(*(f"    {operation}" for operation in last), what, sep="\n", file=sys.stderr)
        replay = f"{given} --only {self.number} --count {self.done + 1}"
        print(f"again: python -m support.model_reader {replay}", file=sys.stderr, flush=True)
        os._exit(3)


def short(result):
    """Long bytes by their length and how they begin."""
    if isinstance(result, bytes) and len(result) > 40:
        return f"{len(result)} bytes, {result[:40]!r}..."
    return repr(result)[:2000]


def disturb(options, readers, end):
    """Hits threads with signals until all is over, or until the process starts anew."""
    choose = random.Random(f"{options.seed} disturbed")
    anew = time.monotonic() + choose.expovariate(1)
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
    while any(reader.is_alive() for reader in readers):
        time.sleep(choose.random() * 0.004)
        victim = choose.choice(readers)
        with contextlib.suppress(ProcessLookupError):  # it has come to its end
            signal.pthread_kill(victim.ident, signal.SIGUSR1)
        if anew < time.monotonic() < end - 0.5:
            # Or a signal would end the new program before it has a handler.
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            left = str(end - time.monotonic())
            given = [options.mount, options.plain, str(options.seed + 1_000_000)]
            given += ["--threads", str(options.threads), "--seconds", left, "--disturbed"]
            os.execv(sys.executable, [sys.executable, "-m", "support.model_reader", *given])


def watch(readers):
    """Reports progress and notices when there is none."""
    reported, moved = 0, [(0, time.monotonic())] * len(readers)
    while True:
        alive = any(reader.is_alive() for reader in readers)
        total = sum(reader.done for reader in readers)
        print(total - reported, "operations", flush=True)
        reported = total
        if not alive:
            return
        for i, reader in enumerate(readers):
            if reader.done != moved[i][0]:
                moved[i] = (reader.done, time.monotonic())
            elif reader.is_alive() and time.monotonic() - moved[i][1] > PATIENCE:
                print(f"thread {i} is stuck in operation {reader.done}", file=sys.stderr)
                faulthandler.dump_traceback(all_threads=True)
                os._exit(4)
        time.sleep(REPORT)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mount")
    parser.add_argument("plain")
    parser.add_argument("seed", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", type=int, help="this thread of them")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--count", type=int, default=-1)
    parser.add_argument("--disturbed", action="store_true")
    options = parser.parse_args()
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    known = catalogue(options.plain)
    numbers = range(options.threads) if options.only is None else [options.only]
    readers = [Reader(options, number, known) for number in numbers]
    for reader in readers:
        reader.start()
    if options.disturbed:
        end = time.monotonic() + options.seconds
        threading.Thread(target=disturb, args=(options, readers, end), daemon=True).start()
    watch(readers)
    os._exit(0)  # while Python ends by and by, a signal would have no handler


if __name__ == "__main__":
    main()
