"""Run:ai's model streamer: several threads read all shards at once, tensors come as they are there."""

from measure.client import main, of_tensors, shards
from runai_model_streamer import SafetensorsStreamer


def load(directory):
    with SafetensorsStreamer() as streamer:
        streamer.stream_files(shards(directory))
        return {name: tensor.clone() for name, tensor in streamer.get_tensors()}


if __name__ == "__main__":
    main(
        "runai-model-streamer", "SafetensorsStreamer: every tensor", load,
        lambda tensors: of_tensors(tensors.items()),
    )  # fmt: skip
