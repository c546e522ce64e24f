"""scripts/convert_ray.py on a cluster of several processes, one of which is killed."""

import importlib.util
import os
import sys
import tempfile

from support import tensors
from support.programs import REPO, UPG, require, run

SCRIPT = REPO / "scripts" / "convert_ray.py"

# The first worker that converts part 2 is killed before that is done. Part 3 fails once.
TROUBLED = """#!/bin/sh
case "$*" in
*"--part 2/3"*) mkdir "{marks}/killed" 2>/dev/null && kill -9 $PPID ;;
*"--part 3/3"*) mkdir "{marks}/failed" 2>/dev/null && {{ echo "disk on fire" >&2; exit 1; }} ;;
esac
exec "{upg}" "$@"
"""


def convert_on_cluster(source, out, upg, *options, tmp_path):
    command = (sys.executable, SCRIPT, source, out, "--parts", "3", "--upg", upg, *options)
    # Names of sockets are short, and those of tests are not.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as place:
        environment = {**os.environ, "RAY_TMPDIR": place, "HOME": str(tmp_path / "home")}
        return run(*command, env=environment, cwd=tmp_path, timeout=280)


def test_the_model_is_right_whatever_happens_to_a_worker(tiny, tiny_lossless, tmp_path):
    require(importlib.util.find_spec("ray"), "no package ray")
    upg, marks = tmp_path / "upg", tmp_path / "marks"
    marks.mkdir()
    upg.write_text(TROUBLED.format(marks=marks, upg=UPG))
    upg.chmod(0o755)
    out = tmp_path / "tiny.upg"
    done = convert_on_cluster(tiny, out, upg, "--", "--lossless", tmp_path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(marks)) == ["failed", "killed"]
    assert "nothing is wrong" in done.stdout
    assert tensors.sha256(out) == tensors.sha256(tiny_lossless.path)
    assert sorted(os.listdir(tmp_path)) == ["home", "marks", "tiny.upg", "upg"]


def test_what_is_there_is_not_replaced(tiny, tmp_path):
    """And what would be no .upg file is not made; both are said before anything starts."""
    out = tmp_path / "tiny.upg"
    for name, said in (("tiny.upg", "exists"), ("tiny", "must end in .upg")):
        out.write_text("mine")
        done = run(sys.executable, SCRIPT, tiny, tmp_path / name, "--parts", "3")
        assert done.returncode == 2 and said in done.stderr and out.read_text() == "mine"
