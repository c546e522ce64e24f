"""A model's logits on a text, and how far another model's are from them."""

import gc
import hashlib
import json
import math
import os
from pathlib import Path

import torch
from safetensors import safe_open

from . import files
from . import Trouble
from .programs import progress

BATCH_BYTES = 128 << 20  # of logits, that one call of the model may produce


def windows(model_dir, text_file, tokens, window):
    """Windows of a text, spread evenly over the whole of it: int64[count, window]."""
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(model_dir, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
        text = Path(text_file).read_text(encoding="utf-8")
    except (OSError, ValueError) as failure:
        raise Trouble(str(failure)) from None
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    window = window or min(512, context or 512, tokens)
    if context and window > context:
        raise Trouble(f"--window {window} exceeds the model's context of {context}")
    ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    there, count = len(ids) // window, tokens // window
    if min(there, count) == 0:
        raise Trouble(f"{min(len(ids), tokens)} tokens are less than one window of {window}")
    every = torch.tensor(ids[: there * window]).view(there, window)
    return every if there <= count else every[torch.arange(count) * there // count]


def load(directory):
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            directory, local_files_only=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError) as failure:
        raise Trouble(f"transformers cannot load {directory}: {failure}") from None
    return model.eval()


def batches(model, inputs, what):
    """Yields (inputs, logits) a few windows at a time. The split is always the same, so that
    the same weights give the same bits."""
    count, window = inputs.shape
    vocabulary = model.get_output_embeddings().weight.shape[0]
    size = max(1, BATCH_BYTES // (4 * window * vocabulary))
    with torch.inference_mode():
        for at in range(0, count, size):
            progress(f"{what}: window {at + 1} of {count}")
            part = inputs[at : at + size]
            yield at, part, model(part, use_cache=False).logits.float()
    progress()


class Reference:
    """The source's logits, in a file that later runs can use again."""

    def __init__(self, path, model_dir, inputs):
        self.path, self.model_dir, self.inputs = Path(path), model_dir, inputs
        settings = [files.fingerprint(model_dir), list(inputs.shape), torch.get_num_threads()]
        settings += [torch.__version__, hashlib.sha256(inputs.numpy().tobytes()).hexdigest()]
        self.key = json.dumps(settings)
        if not self._is_there():
            self._make()
        self.file = safe_open(self.path, framework="pt")
        self.logits = self.file.get_slice("logits")

    def _is_there(self):
        if not self.path.exists():
            return False
        try:
            with safe_open(self.path, framework="pt") as file:
                return file.metadata()["key"] == self.key
        except Exception:  # safetensors has no public type of its own for a bad file
            complaint = f"{self.path} exists and holds no logits; it is not overwritten"
            raise Trouble(complaint) from None

    def _make(self):
        model = load(self.model_dir)
        shape = (*self.inputs.shape, model.get_output_embeddings().weight.shape[0])
        part = self.path.with_name(self.path.name + ".part")
        try:
            files.write(
                part,
                [("logits", "F32", shape)],
                (logits.numpy() for _, _, logits in batches(model, self.inputs, "source")),
                {"key": self.key},
            )
            os.replace(part, self.path)
        finally:
            part.unlink(missing_ok=True)

    def perplexity(self):
        total, count = 0.0, 0
        for at in range(len(self.inputs)):
            total += loss(self.logits[at : at + 1], self.inputs[at : at + 1])
            count += self.inputs.shape[1] - 1
        return math.exp(total / count)


def loss(logits, inputs):
    """Sum of -log p(next token), over all tokens but the first of each window."""
    flat, wanted = logits[:, :-1].reshape(-1, logits.shape[-1]), inputs[:, 1:].reshape(-1)
    each = torch.nn.functional.cross_entropy(flat, wanted, reduction="none")
    return float(each.double().sum())


def measure(directory, reference, what):
    """How the model in a directory answers, beside the reference."""
    model = load(directory)
    divergences, agree, total = [], 0, 0.0
    for at, part, logits in batches(model, reference.inputs, what):
        source = reference.logits[at : at + len(part)]
        if source.shape != logits.shape:
            raise Trouble(f"{what}: logits {tuple(logits.shape)}, the source has {source.shape}")
        total += loss(logits, part)
        agree += int((logits.argmax(-1) == source.argmax(-1)).sum())
        log_p, log_q = source.log_softmax(-1), logits.log_softmax(-1)
        divergences.append(((log_p - log_q) * log_p.exp()).sum(-1).flatten().double())
    del model
    gc.collect()  # tensors may map files of a mount, which keeps it busy
    kld = torch.cat(divergences)
    if not bool(torch.isfinite(kld).all()):
        raise Trouble(f"{what}: the model's answers are not finite")
    count, window = reference.inputs.shape
    return {
        "perplexity": math.exp(total / (count * (window - 1))),
        "kld": float(kld.mean()),
        "kld_999": float(kld.quantile(0.999)) if kld.numel() < 1 << 24 else quantile(kld, 0.999),
        "top1": agree / kld.numel(),
    }


def quantile(values, share):
    """torch.quantile refuses more than 16 M values."""
    return float(values.sort().values[min(len(values) - 1, round(share * (len(values) - 1)))])


def snr(source, directory):
    """10 log10(sum w^2 / sum (w - w')^2) over all matrices; None if they are equal."""
    signal = noise = 0.0
    for path in files.shards(source):
        matrices = [t for t in files.tensors(path) if t.is_matrix]
        with safe_open(path, "pt") as a, safe_open(Path(directory) / path.name, "pt") as b:
            for tensor in matrices:
                one, two = a.get_slice(tensor.name), b.get_slice(tensor.name)
                rows = max(1, (1 << 24) // (tensor.weights // tensor.shape[0]))
                for at in range(0, tensor.shape[0], rows):
                    w = one[at : at + rows].double()
                    signal += float(w.square().sum())
                    noise += float((w - two[at : at + rows].double()).square().sum())
    return None if noise == 0 else 10 * math.log10(max(signal, 1e-300) / noise)
