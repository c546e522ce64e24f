"""What the clients' programs share. Each is called as

    NAME.py MODEL_DIR RESULT.json

loads the model in MODEL_DIR in its way, and writes what it got: a digest of each tensor and of each
answer, and the seconds that loading took, without the client's own start and without the digests."""

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
    directory, result = map(Path, sys.argv[1:])
    start = time.perf_counter()
    loaded = load(directory)
    seconds = time.perf_counter() - start
    try:
        version = metadata.version(version)
    except metadata.PackageNotFoundError:
        pass
    report = dict(version=version, did=did, seconds=seconds, got=look(loaded))
    result.write_text(json.dumps(report))
