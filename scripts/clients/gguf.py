"""llama.cpp's converter: the GGUF file that it makes of a model, every byte."""

import subprocess
import sys
import tempfile
from pathlib import Path

from measure.client import digest, main

CONVERTER = Path(sys.prefix) / "llama.cpp"


def version():
    """That of the package whose source has the converter."""
    return "llama-cpp-python " + (CONVERTER / "version").read_text().strip()


def load(directory):
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "model.gguf"
        # The name goes into the file; that of the directory would tell one from the other.
        subprocess.run(
            [sys.executable, CONVERTER / "convert_hf_to_gguf.py", directory, "--outfile", out,
             "--outtype", "bf16", "--model-name", "model"],
            check=True,
        )  # fmt: skip
        return out.read_bytes()


if __name__ == "__main__":
    main(
        version(), "convert_hf_to_gguf.py: the GGUF file, byte by byte",
        load, lambda gguf: {"model.gguf": f"{len(gguf)} bytes {digest(gguf)}"},
    )  # fmt: skip
