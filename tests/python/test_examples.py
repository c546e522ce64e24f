"""The examples of the library, run as their texts say."""

import unicodedata

import pytest

from support import tensors
from support.programs import BINARIES, convert, needed, require, run


def example(name, *arguments):
    program = BINARIES / "examples" / name
    require(program.exists(), f"{program} is missing: cargo build --release --examples")
    return run(program, *arguments)


def test_read_tensor(tiny, tiny_lossless):
    listed = example("read_tensor", tiny_lossless.path)
    expected = tensors.read_model(tiny)
    assert listed.returncode == 0 and len(listed.stdout.splitlines()) == len(expected)
    for name, tensor in expected.items():
        done = example("read_tensor", tiny_lossless.path, name)
        assert f"{len(tensor.data)} bytes, which add up to {sum(tensor.data)}\n" in done.stdout, done.stderr
    missing = example("read_tensor", tiny_lossless.path, "nothing")
    assert missing.returncode == 1 and "nothing" in missing.stderr


def test_from_memory(tiny, tiny_lossless):
    done = example("from_memory", tiny_lossless.path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(tensors.tree(tiny))
    for path in tensors.tree(tiny):
        data = (tiny / path).read_bytes()
        assert f'"tiny"/"{path}": {len(data)} bytes, beginning with {list(data[:8])}' in lines


def test_convert(tiny, tmp_path):
    done = example("convert", tiny, tmp_path / "out.upg")
    assert done.returncode == 0, done.stderr
    same = convert(tiny, tmp_path / "same.upg", "--bits", "4")
    assert f"at {same.report['bits_per_weight']:.3f} bits each" in done.stdout
    assert tensors.sha256(tmp_path / "out.upg") == tensors.sha256(same.path)


def candle(*arguments):
    program = BINARIES.parent / "debug" / "upg-candle"
    require(program.exists(), f"{program} is missing: cargo build --manifest-path examples/candle/Cargo.toml")
    return run(program, *arguments)


def test_candle(tiny, tiny_lossless, tiny_root):
    """What it says is what transformers says of the source, with nothing mounted and of a mount's files."""
    torch, transformers = needed("torch"), needed("transformers")
    prompt, tokens = "A mount of model weights", 24
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    said = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)[0]
    done = candle(tiny_lossless.path, prompt, tokens)
    assert done.returncode == 0, done.stderr
    assert len(said) > ids.shape[1]
    text = tokenizer.decode(said, skip_special_tokens=True)
    # Whatever a model says, a terminal is not told to do anything.
    shown = "".join("\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)
    assert done.stdout == shown + "\n"
    mapped = candle(tiny_root, prompt, tokens)
    assert mapped.stdout == done.stdout, mapped.stderr


@pytest.mark.parametrize("arguments, words", (((), "usage"), (("no-such.upg", "x"), "no-such.upg"), (("/dev", "x"), ".safetensors"), (("FILE", "x", "y"), "TOKENS")))
def test_candle_says_what_is_missing(arguments, words, tiny_lossless):
    done = candle(*(tiny_lossless.path if a == "FILE" else a for a in arguments))
    assert done.returncode == 1 and words in done.stderr
