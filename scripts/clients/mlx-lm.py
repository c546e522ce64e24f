"""mlx-lm, with mlx on the processor: a model and its tokenizer, and what it says."""

from importlib import metadata

import mlx.core as mx
import numpy as np
from measure.client import PROMPT, digest, main
from mlx.utils import tree_flatten
from mlx_lm import generate, load


def of_array(array):
    bits = np.array(array.reshape(-1).view(mx.uint8))
    return f"{array.dtype} {array.shape} {digest(bits)}"


def load_all(directory):
    model, tokenizer = load(str(directory))
    mx.eval(model.parameters())  # it reads when it must
    return model, tokenizer


def look(loaded):
    model, tokenizer = loaded
    logits = model(mx.array([tokenizer.encode(PROMPT)]))
    said = generate(model, tokenizer, PROMPT, max_tokens=8)
    arrays = [*tree_flatten(model.parameters()), ("logits", logits)]
    return {**{name: of_array(array) for name, array in arrays}, "text": said}


if __name__ == "__main__":
    version = f"{metadata.version('mlx-lm')}, mlx {metadata.version('mlx')}"
    main(version, "load: every parameter, logits, 8 tokens", load_all, look)
