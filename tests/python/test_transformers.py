"""transformers on a mount: from_pretrained gives the model, and the model its tokens."""

import errno
import gc
import json
import shutil

import pytest

from support import tensors
from support.programs import convert, needed

torch = needed("torch")
transformers = needed("transformers")

PROMPTS = [[5, 17, 250, 3], [400, 1, 77, 78, 79, 80, 81]]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A seeded Phi3ForCausalLM in BF16, several shards. Its weights are large enough that the
    tokens depend on all of them."""
    torch.manual_seed(7)
    config = transformers.Phi3Config(
        vocab_size=512, hidden_size=128, intermediate_size=352, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        original_max_position_embeddings=256, initializer_range=0.15,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    root = tmp_path_factory.mktemp("source") / "phi3"
    model = transformers.Phi3ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(root, max_shard_size="300KB")
    assert len(list(root.glob("model-*.safetensors"))) >= 3
    assert (root / "model.safetensors.index.json").exists()
    return root


def generated(directory, **options):
    """Greedy tokens and first logits. The model, whose weights may be a mapping of the files,
    is gone on return, so that the mount is not busy."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, local_files_only=True, **options
    )
    model.eval()
    tokens, logits = [], []
    with torch.inference_mode():
        for prompt in PROMPTS:
            ids = torch.tensor([prompt])
            logits.append(model(ids).logits.float().tolist())
            out = model.generate(
                ids, max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=2
            )
            tokens.append(out[0].tolist())
    del model, ids, out
    gc.collect()
    assert all(len(t) == len(p) + 24 for t, p in zip(tokens, PROMPTS, strict=True))
    return tokens, logits


def test_lossless_mount_gives_the_tokens_of_the_source(source, tmp_path, mount):
    image = convert(source, tmp_path / "m.upg", "--lossless")
    with mount(image.path) as root:
        assert generated(root) == generated(source)


@pytest.mark.parametrize("options", ({}, {"dtype": "float32"}), ids=("as stored", "float32"))
def test_lossy_mount_gives_the_tokens_of_its_bytes(source, tmp_path, mount, options):
    image = convert(source, tmp_path / "m.upg", "--bits", "3.2")
    with mount(image.path) as root:
        copy = shutil.copytree(root, tmp_path / "copy")
        mounted, copied = generated(root, **options), generated(copy, **options)
    assert mounted == copied
    assert mounted[1] != generated(source, **options)[1], "lossy coding changed no logit"


def test_shards_and_index_are_the_originals(source, tmp_path, mount):
    image = convert(source, tmp_path / "m.upg")
    index = json.loads((source / "model.safetensors.index.json").read_text())
    with mount(image.path) as root:
        assert json.loads((root / "model.safetensors.index.json").read_text()) == index
        for name, shard in index["weight_map"].items():
            assert name in tensors.read(root / shard)


def test_saving_into_the_mount_is_refused(source, tmp_path, mount):
    image = convert(source, tmp_path / "m.upg", "--lossless")
    with mount(image.path) as root:
        model = transformers.AutoModelForCausalLM.from_pretrained(root, local_files_only=True)
        number = None
        try:
            model.save_pretrained(root)
        except OSError as failure:  # not pytest.raises, which would keep the model alive
            number = failure.errno
        assert number == errno.EROFS
        del model
        gc.collect()
        assert tensors.tree(root) == tensors.tree(source)


def test_tokenizer(tiny, tiny_lossy, mount):
    text = "A mount of model weights, 3.2 bits each."
    with mount(tiny_lossy.path) as root:
        ours = transformers.AutoTokenizer.from_pretrained(root, local_files_only=True)
        theirs = transformers.AutoTokenizer.from_pretrained(tiny, local_files_only=True)
        assert ours(text).input_ids == theirs(text).input_ids
        assert ours.decode(ours(text).input_ids) == text


def test_the_cache_layout_of_the_hub(source, tmp_path, mount, monkeypatch):
    """A mount in the place of a snapshot is a downloaded model."""
    image = convert(source, tmp_path / "m.upg", "--lossless")
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--phi3"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    (repository / "snapshots").mkdir()
    with mount(image.path) as root:
        (repository / "snapshots" / revision).symlink_to(root)
        assert generated("someone/phi3", cache_dir=tmp_path / "hub") == generated(source)
