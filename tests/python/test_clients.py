"""scripts/clients.sh: what it takes for a client to have passed. The clients themselves take half an hour and
8 GB, and are not part of the tests."""

import copy
import itertools
import json
import sys

import pytest

from support.programs import REPO, run

TABLE = REPO / "scripts" / "clients_table.py"


def runs():
    """Results of a client that passes."""
    result = {}
    for kind in ("lossless", "lossy"):
        for place in ("plain", "mount"):
            got = {"a": f"weights, {kind}", "b": "a norm"}
            result[f"{kind}.{place}"] = dict(version="1.2", did="loads", seconds=0.5, got=got)
    return result


def table(tmp_path, results, *options):
    for name, report in results.items():
        (tmp_path / f"loader.{name}").write_text(report if isinstance(report, str) else json.dumps(report))
    return run(sys.executable, TABLE, tmp_path, *options, "loader")


def test_a_client_that_got_the_same(tmp_path):
    report, markdown = tmp_path / "report.json", tmp_path / "table.md"
    done = table(tmp_path, runs(), "--json", report, "--markdown", markdown)
    assert done.returncode == 0 and "1 passed, 0 failed" in done.stdout, done.stderr
    (row,) = json.loads(report.read_text())
    assert row["passed"] and row["compared"] == 2 and row["seconds"]["lossy, mount"] == 0.5
    lines = markdown.read_text().splitlines()
    assert len(lines) == 3 and "| loader | 1.2 | loads | equal, 2 of 2 | 0.50 / 0.50 |" in lines[2]


def other(name, got):
    def change(results):
        results[name]["got"] = got

    return change


@pytest.mark.parametrize(
    "change, word",
    (
        (other("lossless.mount", {"a": "weights, lossless", "b": "another"}), "'b'"),
        (other("lossy.mount", {"a": "weights, lossy"}), "1 differ"),
        (other("lossless.plain", {}), "nothing"),
        (lambda results: results.pop("lossy.mount"), "without a result"),
        (lambda results: results.update(failed="not installed: no wheel"), "no wheel"),
        (lambda results: [r["got"].update(a="same") for k, r in results.items()], "depend on the weights"),
    ),
    ids=("another tensor", "a tensor less", "nothing", "a run less", "not installed", "not the weights"),
)
def test_a_client_that_did_not(tmp_path, change, word):
    results = copy.deepcopy(runs())
    change(results)
    done = table(tmp_path, results)
    assert done.returncode == 1 and "0 passed, 1 failed" in done.stdout
    assert word in done.stdout, done.stdout


def test_a_client_that_is_not_there():
    done = run(REPO / "scripts" / "clients.sh", "no-such-client")
    assert done.returncode == 2 and "transformers" in done.stderr


def test_the_readme_has_the_table_of_the_docs():
    def rows(document):
        lines = (REPO / document).read_text().splitlines()
        begin = next(i for i, line in enumerate(lines) if line.startswith("| client | version |"))
        table = itertools.takewhile(lambda line: line.startswith("|"), lines[begin:])
        return [[cell.strip() for cell in line.split("|")[1:5]] for line in table]

    assert rows("README.md") == rows("docs/clients.md")
