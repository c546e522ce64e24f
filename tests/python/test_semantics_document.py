"""docs/semantics.md and the tests say the same: no line without a test that exists, no test
without a line, and the outcome of a line is the one that its test expects."""

import json
import re
import sys
from pathlib import Path

import pytest

from support.programs import REPO, run

DOCUMENT = REPO / "docs" / "semantics.md"
HERE = Path(__file__).parent
#: Every test in these must have a line.
COVERED = re.compile(r"test_(semantics_\w+|readonly)\.py")


def lines():
    """[(what happens, tests)] of all tables."""
    found = []
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("| ") and not line.endswith("| test |"):
            _, _, happens, tests, _ = line.split("|")
            found.append((happens.strip(), re.findall("`([^`]+)`", tests)))
    return found


@pytest.fixture(scope="module")
def collected():
    """{id: outcome that the test expects, or None} of the files that the document names, and of
    those that it must."""
    files = {test.split("::")[0] for _, tests in lines() for test in tests}
    files |= {path.name for path in HERE.glob("test_*.py") if COVERED.fullmatch(path.name)}
    missing = [name for name in files if not (HERE / name).exists()]
    assert not missing, f"no such files: {missing}"
    done = run(sys.executable, "-m", "support.collected", *sorted(files), cwd=HERE)
    assert done.returncode == 0, done.stderr
    names = [json.loads(line) for line in done.stdout.splitlines()]
    return {name["id"].rpartition("/")[2]: name["expected"] for name in names}


def meant(test, collected):
    """The tests of a name: with a case in brackets that one, else all of its cases."""
    return [name for name in collected if test in (name, name.split("[")[0])]


def test_every_line_names_tests_that_exist(collected):
    assert len(lines()) > 150
    for happens, tests in lines():
        assert tests, f"no test backs: {happens}"
        for test in tests:
            assert meant(test, collected), f"{test} does not exist"


def test_every_line_begins_with_what_its_tests_expect(collected):
    compared = 0
    for happens, tests in lines():
        for name in (name for test in tests for name in meant(test, collected)):
            if collected[name] is not None:
                expected = re.escape(collected[name])
                assert re.match(rf"{expected}\b", happens), f"{name}: {expected}, not: {happens}"
                compared += 1
    assert compared > 100


def test_every_test_has_a_line(collected):
    named = {name for _, tests in lines() for test in tests for name in meant(test, collected)}
    covered = {name for name in collected if COVERED.match(name)}
    covered -= {name for name in covered if name.startswith(Path(__file__).name)}
    assert sorted(covered - named) == []
