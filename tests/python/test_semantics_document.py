"""docs/semantics.md and the tests say the same: no line without a test that exists, no test
without a line, and the outcome of a line is the one that its test expects."""

import ast
import errno
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


def source(test):
    """What a test is written like."""
    file, _, name = test.partition("::")
    text = (HERE / file).read_text()
    (found,) = (part for part in ast.parse(text).body if getattr(part, "name", "") == name)
    return ast.get_source_segment(text, found)


def test_every_errno_of_a_line_stands_in_a_test():
    """Of tests that are no table of attempts and outcomes."""
    compared = 0
    for happens, tests in lines():
        if any("[" in test for test in tests):
            continue
        text = "".join(map(source, tests))
        for name in re.findall(r"\bE[A-Z0-9]+\b", happens):
            assert hasattr(errno, name), f"no errno: {name}, in: {happens}"
            assert name in text, f"none of {tests} expects {name}: {happens}"
            compared += 1
    assert compared > 12


def test_every_test_has_a_line(collected):
    named = {name for _, tests in lines() for test in tests for name in meant(test, collected)}
    covered = {name for name in collected if COVERED.match(name)}
    covered -= {name for name in covered if name.startswith(Path(__file__).name)}
    assert sorted(covered - named) == []
