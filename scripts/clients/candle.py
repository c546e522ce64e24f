"""candle, by examples/candle: the files mapped by candle itself, and what the model says."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from measure.client import PROMPT, main

LOCK = Path(__file__).resolve().parents[2] / "examples" / "candle" / "Cargo.lock"


def load(directory):
    program = os.environ["UPG_CANDLE"]
    done = subprocess.run([program, directory, PROMPT, "8"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr.splitlines()[0])  # not anyhow's stack
    return done.stdout


if __name__ == "__main__":
    packages = tomllib.loads(LOCK.read_text())["package"]
    version = next(p["version"] for p in packages if p["name"] == "candle-core")
    main(version, "MmapedSafetensors: 8 tokens, in F32", load, lambda text: {"text": text})
