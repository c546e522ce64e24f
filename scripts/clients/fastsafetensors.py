"""fastsafetensors: all shards at once into memory; without a GPU it reads with its own threads."""

from fastsafetensors import SafeTensorsFileLoader, SingleGroup
from measure.client import main, of_tensors, shards


def load(directory):
    loader = SafeTensorsFileLoader(SingleGroup(), "cpu", nogds=True)
    loader.add_filenames({0: shards(directory)})
    files = loader.copy_files_to_device()
    return loader, files, {name: files.get_tensor(name) for name in loader.get_keys()}


def look(loaded):
    loader, files, tensors = loaded
    got = of_tensors(tensors.items())
    files.close()
    loader.close()
    return got


if __name__ == "__main__":
    main("fastsafetensors", "SafeTensorsFileLoader on the processor: every tensor", load, look)
