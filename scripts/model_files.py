"""The small files beside the weights of a phi-4-shaped model: config, tokenizer, licence."""

import json
import random

TOKENIZER_SEED = 14
# phi-4 keeps the last 96 ids of its vocabulary for special tokens.
RESERVED = 96
SPECIAL = {
    1: "<|endoftext|>",
    2: "<|fim_prefix|>",
    3: "<|fim_middle|>",
    4: "<|fim_suffix|>",
    8: "<|im_start|>",
    9: "<|im_end|>",
    10: "<|im_sep|>",
    20: "<|endofprompt|>",
}
BOS, EOS, PAD = 1, 9, 93  # among the reserved

LICENSE = """MIT License

Copyright (c) the authors of upg

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""

README = """---
license: mit
pipeline_tag: text-generation
library_name: transformers
tags:
- synthetic
---

# A model shaped like phi-4

Random weights in the shape and the distribution of a trained model, for
measuring storage and loading. It has learned nothing and says nothing.

| | |
|---|---|
| architecture | Phi3ForCausalLM |
| layers | {layers} |
| hidden size | {hidden} |
| vocabulary | {vocab} |
"""


def config(model, first_reserved):
    return {
        "_name_or_path": "",
        "architectures": ["Phi3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": first_reserved + BOS,
        "embd_pdrop": 0.0,
        "eos_token_id": first_reserved + EOS,
        "hidden_act": "silu",
        "hidden_size": model.hidden,
        "initializer_range": 0.02,
        "intermediate_size": model.intermediate,
        "max_position_embeddings": 16384,
        "model_type": "phi3",
        "num_attention_heads": model.heads,
        "num_hidden_layers": model.layers,
        "num_key_value_heads": model.kv_heads,
        "original_max_position_embeddings": 16384,
        "pad_token_id": first_reserved + PAD,
        "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 250000,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.47.0",
        "use_cache": True,
        "vocab_size": model.vocab,
    }


def generation_config(first_reserved):
    return {
        "_from_model_config": True,
        "bos_token_id": first_reserved + BOS,
        "eos_token_id": [first_reserved + BOS, first_reserved + EOS],
        "pad_token_id": first_reserved + PAD,
        "transformers_version": "4.47.0",
    }


def byte_letters():
    """GPT-2's 256 printable characters, one for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def merges(letters, count):
    """Random merges of a byte-level BPE; each makes a token that is new."""
    draw = random.Random(TOKENIZER_SEED)
    lower = [c for c in letters if c.islower() and c.isascii()]
    parts, seen, pairs = lower + ["\u0120"], set(letters), []
    while len(pairs) < count:
        left, right = draw.choice(parts), draw.choice(parts)
        if len(left) + len(right) > 12 or "\u0120" in right or left + right in seen:
            continue
        pairs.append([left, right])
        seen.add(left + right)
        parts.append(left + right)
    return pairs


def special_tokens(first_reserved):
    names = [SPECIAL.get(i, f"<|dummy_{i}|>") for i in range(RESERVED)]
    return {first_reserved + i: name for i, name in enumerate(names)}


def tokenizer(first_reserved):
    letters = byte_letters()[:first_reserved]
    pairs = merges(letters, first_reserved - len(letters))
    vocab = {token: i for i, token in enumerate(letters + [a + b for a, b in pairs])}
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    flags = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": t, **flags} for i, t in special_tokens(first_reserved).items()
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": pairs,
        },
    }


def tokenizer_config(first_reserved):
    special = special_tokens(first_reserved)
    return {
        "add_prefix_space": False,
        "bos_token": special[first_reserved + BOS],
        "clean_up_tokenization_spaces": False,
        "eos_token": special[first_reserved + EOS],
        "model_max_length": 16384,
        "pad_token": special[first_reserved + PAD],
        "tokenizer_class": "GPT2Tokenizer",
        "unk_token": special[first_reserved + BOS],
    }


def write_small_files(out, model):
    first_reserved = model.vocab - RESERVED
    documents = {
        "config.json": config(model, first_reserved),
        "generation_config.json": generation_config(first_reserved),
        "tokenizer.json": tokenizer(first_reserved),
        "tokenizer_config.json": tokenizer_config(first_reserved),
    }
    for name, content in documents.items():
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (out / name).write_text(text, encoding="utf-8")
    (out / "LICENSE").write_text(LICENSE)
    (out / "README.md").write_text(README.format(**vars(model)))
