"""safetensors: every tensor by load_file, and again by safe_open, whole and in part."""

from measure.client import main, of_tensor, of_tensors, shards
from safetensors import safe_open
from safetensors.torch import load_file


def load(directory):
    """Every tensor twice; the second time, that of the last shard first."""
    whole = {name: t for shard in shards(directory) for name, t in load_file(shard).items()}
    parts = {}
    for shard in reversed(shards(directory)):
        with safe_open(shard, framework="pt") as file:
            for name in file.keys():
                rows = file.get_slice(name)
                middle = rows.get_shape()[0] // 2
                parts[name] = rows[middle : middle + 7]
                assert file.get_tensor(name).equal(whole[name]), name
    return whole, parts


def look(loaded):
    whole, parts = loaded
    return {**of_tensors(whole.items()), **{f"{name}, rows": of_tensor(t) for name, t in parts.items()}}


if __name__ == "__main__":
    main("safetensors", "load_file, safe_open, slices: every tensor", load, look)
