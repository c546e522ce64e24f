"""Runs a command and notes what it took: step.py FILE NAME BYTES -- COMMAND..."""

import json
import os
import sys
import time


def main():
    figures, name, moved, dashes, *command = sys.argv[1:]
    assert dashes == "--"
    start = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    seconds = time.monotonic() - start
    code = os.waitstatus_to_exitcode(status)
    noted = {
        "step": name,
        "seconds": round(seconds, 3),
        "user_seconds": round(usage.ru_utime, 3),
        "system_seconds": round(usage.ru_stime, 3),
        "most_memory_bytes": usage.ru_maxrss * 1024,
        "bytes": int(moved),
        "exit_code": code,
    }
    with open(figures, "a") as out:
        out.write(json.dumps(noted) + "\n")
    rate = f", {int(moved) / seconds / 1e9:.2f} GB/s" if int(moved) else ""
    print(f"{name}: {seconds:.2f} s{rate}, {usage.ru_maxrss / 1024:.0f} MiB", flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
