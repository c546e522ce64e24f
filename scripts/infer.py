#!/usr/bin/env python3
"""Generate text with the model in a directory, be it plain files or a mount.

    infer.py MODEL_DIR --prompt TEXT [--tokens N]

Loads tokenizer and model with transformers, on the processor, and decodes greedily: the same
weights give the same text. The text goes to standard output, the prompt first; how long loading
took and how many tokens came per second go to standard error.

Needs torch and transformers. Models in FP8 or MXFP4 need accelerate, too: transformers turns their
weights into BF16 when there is no GPU.
"""

import argparse
import os
import sys
import time
from pathlib import Path


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL_DIR")
    parser.add_argument("--prompt", required=True, metavar="TEXT")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="at most (default: 64)")
    given = parser.parse_args()
    if not (given.model / "config.json").is_file():
        parser.error(f"{given.model} holds no config.json: is it a model, and is it mounted?")
    if given.tokens < 1:
        parser.error("--tokens must be at least 1")
    return given


def load(directory):
    """(tokenizer, model) of a directory; nothing is fetched from anywhere."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory)
    return tokenizer, model.eval()


def generate(tokenizer, model, prompt, tokens):
    """(text with its prompt, tokens that were generated)"""
    import torch

    inputs = tokenizer(prompt, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            max_new_tokens=tokens,
            do_sample=False,
        )[0]
    return tokenizer.decode(out, skip_special_tokens=True), len(out) - inputs.input_ids.shape[1]


def printable(text):
    """A model may say anything; a terminal should not obey it."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def main():
    given = arguments()
    start = time.monotonic()
    import transformers  # noqa: F401  its own time is not the model's

    imported = time.monotonic()
    tokenizer, model = load(given.model)
    loaded = time.monotonic()
    text, count = generate(tokenizer, model, given.prompt, given.tokens)
    done = time.monotonic()
    print(printable(text))
    print(
        f"loaded in {loaded - imported:.2f} s (transformers itself: {imported - start:.2f} s); "
        f"{count} tokens in {done - loaded:.2f} s, {count / (done - loaded):.2f} tokens/s",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
