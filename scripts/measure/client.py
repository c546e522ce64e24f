"""What the clients' programs share. Each is called as

    NAME.py MODEL_DIR RESULT [MODEL_DIR RESULT...]

loads the model in each MODEL_DIR in its way, one after the other, and writes what it got to RESULT: a
digest of each tensor and of each answer, and the seconds that loading took, without the client's own
start and without the digests."""

import gc
import hashlib
import json
import sys
import time
from importlib import metadata
from pathlib import Path

PROMPT = "A mount of model weights"


def digest(data):
    """Of any bytes."""
    return hashlib.sha256(data).hexdigest()


def of_tensor(tensor):
    """Of a tensor of torch: its type and shape, and every bit."""
    import torch

    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"{tensor.dtype} {tuple(tensor.shape)} {digest(data)}"


def of_tensors(named):
    """{name: digest} of (name, tensor) pairs."""
    return {name: of_tensor(tensor) for name, tensor in named}


def shards(directory):
    return sorted(str(path) for path in directory.rglob("*.safetensors"))


def main(version, did, load, look):
    """load(directory) is timed; look(what it gave) makes the digests. version is a package's name, or
    the version itself."""
    try:
        version = metadata.version(version)
    except metadata.PackageNotFoundError:
        pass
    arguments = map(Path, sys.argv[1:])
    for directory, result in zip(arguments, arguments, strict=True):
        start = time.perf_counter()
        loaded = load(directory)
        seconds = time.perf_counter() - start
        report = dict(version=version, did=did, seconds=seconds, got=look(loaded))
        del loaded
        gc.collect()  # what is mapped is let go
        result.write_text(json.dumps(report))
