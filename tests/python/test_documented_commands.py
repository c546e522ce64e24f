"""The commands of the documentation, as they stand there."""

import os
import re
import shlex
import shutil
import subprocess

import pytest

from support.merging import tune
from support.mounting import force_away, mounts_below
from support.objects import BUCKET
from support.programs import BINARIES, REPO, convert, make_model, require, require_fuse
from test_hub import snapshot

DOCUMENTS = ("README.md", "docs/objects.md")
# What takes longer, or has no place in a test, and where it is tried.
ELSEWHERE = {
    "cargo install": "scripts/check_packages.sh",
    "scripts/demo.sh": "tests/python/test_bench_scripts.py",
    "scripts/test.sh": ".ci/run",
    "pip install -r scripts/requirements-quality.txt": "tests/python/test_quality.py",
    "scripts/quality.py": "tests/python/test_quality.py",
}


def commands(document):
    """What stands behind `$ ` in consoles, with the lines that a quotation goes on for."""
    found, open_one = [], None
    for block in re.findall(r"^```console\n(.*?)^```", (REPO / document).read_text(), re.M | re.S):
        for line in block.splitlines():
            if open_one is not None:
                open_one += f"\n{line}"
            elif line.startswith("$ "):
                open_one = line[2:]
            else:
                continue
            try:
                shlex.split(open_one, comments=True)
            except ValueError:
                continue
            found.append(open_one)
            open_one = None
    assert open_one is None, open_one
    return found


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Where the documents' names exist: models, what they became, and a fine-tune."""
    place = tmp_path_factory.mktemp("documented")
    model = make_model(place / "models" / "phi-4", "--tiny")
    known = snapshot(model, place / "cache", "microsoft/phi-4")
    for name in ("library", "run-7", "tuned"):
        (place / name).mkdir()
    convert(known, place / "phi-4.upg", "--lossless")
    shutil.copy(place / "phi-4.upg", place / "library")
    tuned = tune(model, place / "tuned" / "phi-4", "model.layers.1.mlp.down_proj.weight")
    convert(tuned, place / "run-7" / "phi-4.upg", "--lossless")
    make_model(place / "models" / "grok-1", "--family", "grok-1")
    shutil.copytree(model, place / "models" / "qwen3")
    convert(place / "models" / "qwen3", place / "qwen3.upg")
    return place


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_of(document, workplace, s3, tmp_path):
    require_fuse()
    require(shutil.which("getfattr"), "no getfattr (package attr)")
    for name in s3.names():
        s3.client.delete_object(Bucket=BUCKET, Key=name)
    place = tmp_path / "place"
    shutil.copytree(workplace, place, symlinks=True)
    (place / "book.txt").write_text("text\n")
    env = s3.environment() | {"PATH": f"{BINARIES}:{os.path.dirname(os.sys.executable)}:{os.environ['PATH']}"}
    tried = 0
    try:
        for command in commands(document):
            elsewhere = [where for start, where in ELSEWHERE.items() if command.startswith(start)]
            if elsewhere:
                assert (REPO / elsewhere[0]).exists()
                continue
            here = command.replace("/mnt/", f"{tmp_path}/mnt/").replace("/var/cache/upg", f"{tmp_path}/kept")
            for point in re.findall(rf"{tmp_path}/mnt/[\w-]+", here) if "upg-mount" in here else ():
                os.makedirs(point, exist_ok=True)
                # The documents mount in one place again and again.
                subprocess.run([BINARIES / "upg-mount", "-u", point], capture_output=True, check=False)
            done = subprocess.run(["bash", "-ec", here], cwd=place, env=env, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            tried += 1
    finally:
        for point in mounts_below(tmp_path):
            force_away(point)
    assert tried > 3
