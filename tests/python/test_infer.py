"""scripts/infer.py: what a mounted model says is what its plain directory says."""

import re
import sys

import pytest

from support.programs import REPO, needed, run

needed("torch")
needed("transformers")

INFER = REPO / "scripts" / "infer.py"
PROMPT = "A mount of model weights"


def infer(directory, *options):
    return run(sys.executable, INFER, directory, "--prompt", PROMPT, *options)


def test_a_lossless_mount_gives_the_text_of_its_source(tiny, tiny_root):
    plain, mounted = (infer(where, "--tokens", "24") for where in (tiny, tiny_root))
    assert plain.returncode == mounted.returncode == 0, plain.stderr + mounted.stderr
    assert mounted.stdout == plain.stdout
    assert plain.stdout.startswith(PROMPT) and len(plain.stdout) > len(PROMPT) + 24
    numbers = re.search(r"loaded in ([\d.]+) s .*; (\d+) tokens in .*, ([\d.]+) tokens/s", mounted.stderr)
    load, count, rate = map(float, numbers.groups())
    assert load > 0 and 0 < count <= 24 and rate > 0


@pytest.mark.parametrize(
    "options, words", (((), "no config.json"), (("--tokens", "0"), "at least 1"))
)
def test_what_cannot_be_done_is_said_before_anything_is_loaded(tiny, tmp_path, options, words):
    done = infer(tiny if options else tmp_path, *options)
    assert done.returncode == 2 and words in done.stderr and not done.stdout
