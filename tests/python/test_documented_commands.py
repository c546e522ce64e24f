"""The commands of the documentation, as they stand there."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from support.merging import tune
from support.mounting import force_away, mounts_below
from support.objects import BUCKET
from support.programs import BINARIES, REPO, convert, make_model, require, require_fuse, run
from test_hub import snapshot

# How many commands each has.
DOCUMENTS = {"README.md": 30, "docs/objects.md": 5, "docs/benchmarks.md": 14, "docs/codec.md": 3}
# What takes longer, or has no place in a test: where it is tried, and what stands there.
ELSEWHERE = {
    "cargo install": ("scripts/check_packages.sh", "cargo install"),
    "scripts/test.sh": (".ci/run", "scripts/test.sh"),
    "scripts/quality.py": ("tests/python/test_quality.py", '"quality.py"'),
}
# What takes longer than a test may is made smaller, and what has a place in the repository goes elsewhere.
STAND_IN = REPO / "tests" / "python" / "support" / "garage_stand_in.py"
SMALLER = {
    "scripts/demo.sh": "scripts/demo.sh --tiny",
    "make_model.py": "make_model.py --tiny",
    " --runs 7": "",
    " --touch 8": " --touch 0.01",
    " --touch 15": " --touch 0.01",
    "bench_mount.py": "bench_mount.py --runs 1",
    "bench_startup.py": "bench_startup.py --runs 1 --sizes ''",
    "bench_objects.py": f"bench_objects.py --runs 1 --server {STAND_IN}",
    "bench_full.sh": "bench_full.sh -o full.json two-layers",
    "soak_mount.py": "soak_mount.py --seconds 1 --readers 6",
    "plot_mount.py": "plot_mount.py -o mount.svg",
    "plot_bench.py": "plot_bench.py -o plots",
    "upg bench": "upg bench --weights 65536 --data 1MiB",
}
# Where a command of SMALLER needs what an ordinary user may not.
AS_ROOT = ("docs/benchmarks.md",)


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


def as_a_test(command, tmp_path):
    """The command, with everything that it makes below the test's directory."""
    for start, instead in SMALLER.items():
        command = command.replace(start, instead)
    command = command.replace("/mnt/", f"{tmp_path}/mnt/").replace("/var/cache/upg", f"{tmp_path}/kept")
    return re.sub(r"(?<![\w/.-])scripts/", f"{REPO}/scripts/", command)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_of(document, workplace, request, tmp_path):
    require_fuse()
    require(shutil.which("getfattr"), "no getfattr (package attr)")
    require(document not in AS_ROOT or os.geteuid() == 0, "emptying the page cache needs root")
    found = commands(document)
    env = dict(os.environ)
    if any("s3://" in command for command in found):
        s3 = request.getfixturevalue("s3")
        for name in s3.names():
            s3.client.delete_object(Bucket=BUCKET, Key=name)
        env = s3.environment()
    place = tmp_path / "place"
    shutil.copytree(workplace, place, symlinks=True)
    env |= {"PATH": f"{BINARIES}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    env |= {"UPG_BIN_DIR": str(BINARIES), "UPG_PYTHON": sys.executable}
    try:
        for command in found:
            if any(command.startswith(start) for start in ELSEWHERE):
                continue
            here = as_a_test(command, tmp_path)
            # The documents mount in one place again and again.
            for point in mounts_below(tmp_path / "mnt") if "upg-mount" in here else ():
                if str(point) in here:
                    subprocess.run([BINARIES / "upg-mount", "-u", point], check=True)
            done = run("bash", "-ec", here, cwd=place, env=env, timeout=600)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    finally:
        for point in mounts_below(tmp_path):
            force_away(point)
    assert len(found) == DOCUMENTS[document], found


@pytest.mark.parametrize("start", ELSEWHERE)
def test_what_is_tried_elsewhere_is(start):
    assert any(command.startswith(start) for document in DOCUMENTS for command in commands(document))
    file, text = ELSEWHERE[start]
    assert text in (REPO / file).read_text()
