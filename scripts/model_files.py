"""The small files beside the weights: config, tokenizer, licence."""

import json
from types import SimpleNamespace

from model_configs import CONFIGS
from model_tokenizers import SPECIAL, tokenizer, tokenizer_config

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

# A model shaped like {family}

Random weights in the shape and the distribution of a trained model, for
measuring storage and loading. It has learned nothing and says nothing.

| | |
|---|---|
| architecture | {architecture} |
| layers | {layers} |
| hidden size | {hidden} |
| vocabulary | {vocab} |
"""
# How Gemma 3 takes images apart; the size is the vision tower's.
PREPROCESSOR = {
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "Gemma3ImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "processor_class": "Gemma3Processor",
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
}


def generation_config(family, ids, version):
    eos = [ids.bos, ids.eos] if family == "phi-4" else ids.eos
    return {
        "_from_model_config": True,
        "bos_token_id": ids.bos,
        "eos_token_id": eos,
        "pad_token_id": ids.pad,
        "transformers_version": version,
    }


def write_small_files(out, family, model):
    special = SPECIAL[family]
    tasks = ("bos", "eos", "pad")
    ids = SimpleNamespace(**{t: special.id_of(getattr(special, t), model.vocab) for t in tasks})
    config = CONFIGS[family](model, ids)
    documents = {
        "config.json": config,
        "generation_config.json": generation_config(family, ids, config["transformers_version"]),
        "tokenizer.json": tokenizer(special, model.vocab),
        "tokenizer_config.json": tokenizer_config(special),
    }
    if family == "gemma-3":
        size = {"height": model.image, "width": model.image}
        images = config["mm_tokens_per_image"]
        documents["preprocessor_config.json"] = dict(PREPROCESSOR, image_seq_length=images, size=size)
        processor = {"image_seq_length": images, "processor_class": "Gemma3Processor"}
        documents["processor_config.json"] = processor
    for name, content in documents.items():
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (out / name).write_text(text, encoding="utf-8")
    (out / "LICENSE").write_text(LICENSE)
    values = dict(vars(model), family=family, architecture=config["architectures"][0])
    (out / "README.md").write_text(README.format(**values))
