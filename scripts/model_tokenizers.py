"""Tokenizers of the families: tokens and merges drawn at random, special tokens with their names and
in their places. Each reads any text and gives it back."""

import random
from dataclasses import dataclass

TOKENIZER_SEED = 14
# phi-4 keeps the last 96 ids of its vocabulary for special tokens.
PHI4_RESERVED = 96
PHI4_SPECIAL = {
    1: "<|endoftext|>",
    2: "<|fim_prefix|>",
    3: "<|fim_middle|>",
    4: "<|fim_suffix|>",
    8: "<|im_start|>",
    9: "<|im_end|>",
    10: "<|im_sep|>",
    20: "<|endofprompt|>",
}


@dataclass
class Special:
    """Names of special tokens: those with the first ids, those with the last, and their tasks."""

    bos: str
    eos: str
    pad: str
    unk: str
    first: tuple = ()
    last: tuple = ()
    # Pieces with bytes for what they lack, as SentencePiece has them; else letters for bytes.
    pieces: bool = False
    # Whether a text begins with a space that it does not have.
    prefix_space: bool = False
    tokenizer_class: str = "PreTrainedTokenizerFast"
    length: int = 131072

    def id_of(self, name, vocab):
        if name in self.first:
            return self.first.index(name)
        return vocab - len(self.last) + self.last.index(name)


SPECIAL = {
    "phi-4": Special(
        "<|endoftext|>", "<|im_end|>", "<|dummy_93|>", "<|endoftext|>",
        last=tuple(PHI4_SPECIAL.get(i, f"<|dummy_{i}|>") for i in range(PHI4_RESERVED)),
        tokenizer_class="GPT2Tokenizer", length=16384,
    ),
    "grok-1": Special(
        "[BOS]", "[EOS]", "[PAD]", "[UNK]", ("[PAD]", "[BOS]", "[EOS]", "[UNK]"),
        pieces=True, tokenizer_class="LlamaTokenizer", length=8192,
    ),
    "mixtral": Special(
        "<s>", "</s>", "</s>", "<unk>", ("<unk>", "<s>", "</s>"),
        pieces=True, prefix_space=True, tokenizer_class="LlamaTokenizer",
    ),
    "qwen3": Special(
        "<|endoftext|>", "<|im_end|>", "<|endoftext|>", "<|endoftext|>",
        last=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), tokenizer_class="Qwen2Tokenizer",
    ),
    "deepseek-v3": Special(
        "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>", "<｜▁pad▁｜>",
        ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"),
        ("<｜User｜>", "<｜Assistant｜>"), length=16384,
    ),
    "gemma-3": Special(
        "<bos>", "<eos>", "<pad>", "<unk>", ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"),
        ("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
        pieces=True, tokenizer_class="GemmaTokenizer",
    ),
    "gpt-oss": Special(
        "<|startoftext|>", "<|return|>", "<|endoftext|>", "<|endoftext|>",
        last=("<|startoftext|>", "<|endoftext|>", "<|return|>", "<|channel|>", "<|start|>",
              "<|end|>", "<|message|>"),
    ),
}  # fmt: skip
SPECIAL["qwen3-moe"] = SPECIAL["qwen3"]


def byte_letters():
    """GPT-2's 256 printable characters, one for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def merges(letters, count, space):
    """Random merges of a BPE; each makes a token that is new."""
    draw = random.Random(TOKENIZER_SEED)
    lower = [c for c in letters if c.islower() and c.isascii()]
    parts, seen, pairs = lower + [space], set(letters), []
    while len(pairs) < count:
        left, right = draw.choice(parts), draw.choice(parts)
        if len(left) + len(right) > 12 or space in right or left + right in seen:
            continue
        pairs.append([left, right])
        seen.add(left + right)
        parts.append(left + right)
    return pairs


def piece_steps(special):
    """What tokenizers of SentencePiece's kind do before and after the merges."""
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    after = [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
    normalizer = space
    if special.prefix_space:
        normalizer = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, space]}
        after.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return normalizer, None, {"type": "Sequence", "decoders": after}


def byte_steps():
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    return None, byte_level, byte_level


def begin_with(special):
    """A post-processor that puts the first token before a text."""
    begin = {"SpecialToken": {"id": special.bos, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    token = {"id": special.bos, "ids": [special.first.index(special.bos)], "tokens": [special.bos]}
    return {
        "type": "TemplateProcessing",
        "single": [begin, text],
        "pair": [begin, text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {special.bos: token},
    }


def tokenizer(special, vocab):
    """tokenizer.json for a vocabulary of so many tokens."""
    if special.pieces:
        alphabet = [f"<0x{b:02X}>" for b in range(256)] + [chr(b) for b in range(33, 127)] + ["▁"]
        normalizer, before, decoder = piece_steps(special)
    else:
        alphabet = byte_letters()
        normalizer, before, decoder = byte_steps()
    room = vocab - len(special.first) - len(special.last)
    alphabet = alphabet[:room]
    space = "▁" if special.pieces else "\u0120"
    pairs = merges(alphabet, room - len(alphabet), space)
    tokens = [*special.first, *alphabet, *(a + b for a, b in pairs)]
    flags = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    named = [*enumerate(special.first), *enumerate(special.last, vocab - len(special.last))]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": t, **flags} for i, t in named],
        "normalizer": normalizer,
        "pre_tokenizer": before,
        "post_processor": begin_with(special) if special.first else before,
        "decoder": decoder,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": special.unk if special.pieces else None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": special.pieces,
            "byte_fallback": special.pieces,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": pairs,
        },
    }


def tokenizer_config(special):
    return {
        "add_prefix_space": special.prefix_space,
        "bos_token": special.bos,
        "clean_up_tokenization_spaces": False,
        "eos_token": special.eos,
        "model_max_length": special.length,
        "pad_token": special.pad,
        "tokenizer_class": special.tokenizer_class,
        "unk_token": special.unk,
    }
