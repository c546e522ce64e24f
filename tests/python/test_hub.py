"""upg-mount --hf-cache: models by the names of their repositories, as the hub's client finds them."""

import json
import os
import shutil
import sys

import pytest

from support import tensors
from support.merging import merge
from support.programs import UPG, UPG_MOUNT, convert, needed, one_line, require_fuse, run

needed("huggingface_hub")

REVISION = "187ef0342fff0eb3333be9f00389385e95ef0b61"


def snapshot(source, cache, repository, revision=REVISION):
    """A model in a cache as the client makes it: links to blobs, and a branch. The snapshot's path."""
    root = cache / ("models--" + repository.replace("/", "--"))
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(revision)
    (root / "blobs").mkdir()
    for i, path in enumerate(sorted(p for p in source.rglob("*") if p.is_file())):
        link = root / "snapshots" / revision / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob = root / "blobs" / f"{i:040x}"
        shutil.copyfile(path, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return root / "snapshots" / revision


@pytest.fixture(scope="module")
def cached(tiny, tmp_path_factory):
    where = snapshot(tiny, tmp_path_factory.mktemp("cache"), "microsoft/phi-4")
    return convert(where, tmp_path_factory.mktemp("upg") / "phi-4.upg", "--lossless")


def python(text, cache):
    env = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    done = run(sys.executable, "-c", text, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(image, tmp_path, *options, code=1):
    (tmp_path / "m").mkdir(exist_ok=True)
    done = run(UPG_MOUNT, image, tmp_path / "m", *options)
    assert done.returncode == code and not os.path.ismount(tmp_path / "m")
    return done.stderr


def test_a_conversion_notes_repository_and_revision(cached, tiny_lossless):
    noted = json.loads(run(UPG, "info", cached.path, "--json").stdout)["models"][0]
    assert noted["name"] == "phi-4"
    assert noted["metadata"]["source"] == {"repository": "microsoft/phi-4", "revision": REVISION}
    other = json.loads(run(UPG, "info", tiny_lossless.path, "--json").stdout)["models"][0]
    assert "source" not in other["metadata"]


def test_what_is_shown(cached, tiny, mount):
    require_fuse()
    with mount(cached.path, "--hf-cache") as root:
        assert os.listdir(root) == ["models--microsoft--phi-4"]
        repository = root / "models--microsoft--phi-4"
        assert sorted(os.listdir(repository)) == ["refs", "snapshots"]
        assert (repository / "refs" / "main").read_text() == REVISION
        assert tensors.tree(repository / "snapshots" / REVISION) == tensors.tree(tiny)


def test_transformers_take_it_by_its_name(cached, tiny, mount):
    needed("transformers")
    require_fuse()
    text = """
import transformers
model = transformers.AutoModelForCausalLM.from_pretrained("microsoft/phi-4")
tokenizer = transformers.AutoTokenizer.from_pretrained("microsoft/phi-4")
print(tokenizer("the same as ever").input_ids, sum(p.double().abs().sum().item() for p in model.parameters()))
"""
    with mount(cached.path, "--hf-cache") as root:
        mounted = python(text, root)
    assert mounted == python(text.replace("microsoft/phi-4", str(tiny)), tiny.parent)


def test_the_client_lists_it(cached, tiny, mount):
    require_fuse()
    text = """
import huggingface_hub
found = huggingface_hub.scan_cache_dir()
assert not found.warnings, found.warnings
for repository in found.repos:
    for revision in repository.revisions:
        print(repository.repo_id, revision.commit_hash, sorted(revision.refs), len(revision.files), revision.size_on_disk)
print(huggingface_hub.try_to_load_from_cache("microsoft/phi-4", "config.json"))
"""
    files = [p for p in tiny.rglob("*") if p.is_file()]
    size = sum(p.stat().st_size for p in files)
    with mount(cached.path, "--hf-cache") as root:
        listed, config = python(text, root).splitlines()
        assert listed == f"microsoft/phi-4 {REVISION} ['main'] {len(files)} {size}"
        assert config == f"{root}/models--microsoft--phi-4/snapshots/{REVISION}/config.json"
        client = shutil.which("hf", path=os.path.dirname(sys.executable))
        done = run(client, "cache", "ls", env=os.environ | {"HF_HUB_CACHE": str(root)})
        assert done.returncode == 0 and "microsoft/phi-4" in done.stdout, done.stderr


def test_a_library(cached, tiny, tiny_lossless, tiny_lossy, mount, tmp_path):
    """Of one that names its repository, one that is given it, and one with a commit."""
    require_fuse()
    library = tmp_path / "library"
    library.mkdir()
    shutil.copy(cached.path, library)
    merge(library / "more.upg", f"a={tiny_lossless.path}", f"b={tiny_lossy.path}")
    options = ("--hf-cache", "--repo", "a=me/mine", "--repo", "b=gpt2@main-2")
    with mount(library, *options) as root:
        assert sorted(os.listdir(root)) == ["models--gpt2", "models--me--mine", "models--microsoft--phi-4"]
        (revision,) = os.listdir(root / "models--me--mine" / "snapshots")
        assert len(revision) == 40 and int(revision, 16) > 0
        assert (root / "models--me--mine" / "refs" / "main").read_text() == revision
        assert tensors.tree(root / "models--me--mine" / "snapshots" / revision) == tensors.tree(tiny)
        assert os.listdir(root / "models--gpt2" / "snapshots") == ["main-2"]


def test_another_name_for_one_model(cached, mount):
    require_fuse()
    with mount(cached.path, "--hf-cache", "--repo", "me/mine") as root:
        assert os.listdir(root) == ["models--me--mine"]
    with mount(cached.path, "--hf-cache", "--repo", "microsoft/phi-4") as root:
        assert os.listdir(root / "models--microsoft--phi-4" / "snapshots") == [REVISION]


def test_what_cannot_be_shown(cached, tiny_lossless, tmp_path):
    line = one_line(refused(tiny_lossless.path, tmp_path, "--hf-cache"))
    assert "tiny.upg" in line and "--repo tiny=ORG/NAME" in line
    assert '"other"' in one_line(refused(cached.path, tmp_path, "--hf-cache", "--repo", "other=a/b"))
    for wrong in ("a/b/c", "../up", "a/..", "a b", "a/b@../c", ""):
        assert "ORG/NAME" in refused(cached.path, tmp_path, "--hf-cache", "--repo", wrong, code=2)
    assert "--hf-cache" in refused(cached.path, tmp_path, "--repo", "a/b", code=2)
    both = tmp_path / "both.upg"
    merge(both, cached.path, f"tuned={cached.path}")
    assert "beside each other" in one_line(refused(both, tmp_path, "--hf-cache"))
    assert "MODEL=a/b" in one_line(refused(both, tmp_path, "--hf-cache", "--repo", "a/b"))
