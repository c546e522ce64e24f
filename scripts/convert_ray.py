#!/usr/bin/env python3
"""Convert a model in parts on the machines of a Ray cluster, and make one file of them.

    convert_ray.py SOURCE OUTPUT --parts N [--address ADDRESS] [-- OPTIONS OF upg convert]

Each part is a task (`upg convert --part I/N`); one that fails, or whose machine or process dies, is
tried again. Then the parts are merged to OUTPUT, which ends in .upg and appears whole or not at all,
and compared with SOURCE (`upg verify --against`).

SOURCE and OUTPUT's directory must be the same on all machines, as on a shared file system, and upg
must be installed there. Without --address, the tasks run on this machine. Needs the package ray.
"""

import argparse
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path


class Failure(Exception):
    """A program that failed: what it said."""


def end_with_parent():
    """A worker that is killed must not leave its conversion running."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def run(*command, **more):
    """A program that must succeed; what it prints on standard output."""
    command = list(map(str, command))
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, **more)
    if done.returncode:
        said = (done.stdout + done.stderr).strip() or f"exit {done.returncode}"
        raise Failure(f"{' '.join(command)}: {said}")
    return done.stdout


def convert_part(upg, source, out, part, options):
    # A try that was cut off may have left it; another one may still be running elsewhere.
    run(upg, "convert", source, "-o", out, "--part", part, "--force", *options, preexec_fn=end_with_parent)
    return out


def convert_parts(args, directory):
    """The parts' files, once all are there."""
    import ray

    task = ray.remote(convert_part).options(
        num_cpus=args.cpus, max_retries=args.retries, retry_exceptions=[Failure]
    )
    options = args.options
    if not any(option.split("=")[0] == "--threads" for option in options):
        options = [*options, "--threads", str(args.cpus)]
    waiting = {}
    for i in range(1, args.parts + 1):
        out = directory / f"{i}-of-{args.parts}.upg"
        waiting[task.remote(args.upg, args.source, str(out), f"{i}/{args.parts}", options)] = i
    made = {}
    while waiting:
        (done,), _ = ray.wait(list(waiting), num_returns=1)
        i = waiting.pop(done)
        made[i] = ray.get(done)
        print(f"part {i} of {args.parts} is converted", file=sys.stderr, flush=True)
    return [made[i] for i in sorted(made)]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage="convert_ray.py SOURCE OUTPUT --parts N [OPTIONS] [-- OPTIONS OF upg convert]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", help="model directory, in several .safetensors files")
    parser.add_argument("output", type=Path, help="the .upg file to make")
    parser.add_argument("--parts", type=int, required=True, metavar="N", help="parts, at most one per file")
    parser.add_argument("--address", help="of the cluster, as ray.init has it: auto, HOST:PORT, ray://HOST:PORT")
    parser.add_argument("--cpus", type=int, default=1, metavar="C", help="cores for a part [1]")
    parser.add_argument("--retries", type=int, default=3, metavar="R", help="how often a part is tried again [3]")
    parser.add_argument("--upg", default=shutil.which("upg") or "upg", help="the program, on every machine")
    own, options = sys.argv[1:], []
    if "--" in own:
        end = own.index("--")
        own, options = own[:end], own[end + 1 :]
    args = parser.parse_args(own)
    args.options = options
    if args.output.suffix != ".upg":
        parser.error(f"{args.output}: must end in .upg")
    if args.output.exists():
        parser.error(f"{args.output} exists")
    args.source, args.output = os.path.abspath(args.source), args.output.absolute()
    return args


def main():
    args = arguments()
    # Nothing about anybody's use goes anywhere.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # It takes seconds: not before it is known to be needed.
    import ray

    # Beside the result, so that it is on the same file system, which all machines have.
    directory = args.output.with_suffix(".parts")
    directory.mkdir(exist_ok=True)
    if args.address:
        ray.init(address=args.address, log_to_driver=False)
    else:
        ray.init(include_dashboard=False, log_to_driver=False)
    try:
        parts = convert_parts(args, directory)
        run(args.upg, "merge", *parts, "-o", args.output)
    except (Failure, ray.exceptions.RayError) as failure:
        cause = getattr(failure, "cause", None) or failure
        print(f"convert_ray.py: {cause}; the parts so far are in {directory}", file=sys.stderr)
        return 1
    finally:
        ray.shutdown()
    shutil.rmtree(directory)
    try:
        print(run(args.upg, "verify", args.output, "--against", args.source), end="")
    except Failure as failure:
        print(f"convert_ray.py: {failure}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
