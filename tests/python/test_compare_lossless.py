"""scripts/compare_lossless.py counts what the tensors need, and leaves nothing behind."""

import importlib.util
import json
import sys

import pytest

from support.programs import BINARIES, REPO, needed, one_line, run

needed("torch")

SCRIPT = REPO / "scripts" / "compare_lossless.py"
PEERS = [p for p, package in (("zipnn", "zipnn"), ("pco", "pcodec"))
         if importlib.util.find_spec(package)]  # fmt: skip


def compare(model, work, *options):
    work.mkdir(exist_ok=True)
    given = ("--bin", BINARIES, "--work", work, "--threads", 2)
    done = run(sys.executable, "-W", "ignore", SCRIPT, model, *given, *options)
    assert not list(work.iterdir())
    return done


def test_sizes_are_near_the_bound(tiny, tmp_path):
    report = tmp_path / "report.json"
    peers = ",".join(PEERS) or "none"
    done = compare(tiny, tmp_path / "work", "--peers", peers, "--json", report)
    assert done.returncode == 0, done.stderr
    copies = json.loads(report.read_text())["copies"]
    widths = {"BF16": 16, "F32": 32, "F32-wide": 32, "F16": 16, "F8_E4M3": 8, "F8_E5M2": 8}
    assert list(copies) == list(widths)
    for copy, entries in copies.items():
        large = [e for e in entries if e["weights"] >= 1 << 16]
        assert len(entries) == 15 and len(large) >= 6
        for entry in large:
            assert entry["raw"] == entry["weights"] * widths[copy] // 8
            for name in PEERS:
                assert 0 < entry[name] < 1.01 * entry["raw"]
            # The synthetic weights have exponents of 2 to 4 bits.
            assert entry["order_0"] < entry["raw"] * 0.9
            if copy != "F32-wide":  # may be far below: half of its bits are zeros
                assert entry["upg"] == pytest.approx(entry["order_0"], rel=0.02)
    assert done.stdout.count("\n| F16 ") >= 1


def test_limit_takes_whole_rows_of_every_tensor(tiny, tmp_path):
    report = tmp_path / "report.json"
    options = ("--peers", "none", "--dtypes", "F16", "--limit", "10K", "--json", report)
    done = compare(tiny, tmp_path / "work", *options)
    assert done.returncode == 0, done.stderr
    entries = json.loads(report.read_text())["copies"]["F16"]
    assert all(e["weights"] <= 10_000 for e in entries)
    assert {e["weights"] for e in entries if len(e["shape"]) == 2} == {39 * 256, 19 * 512}


def test_errors_are_said(tmp_path):
    done = compare(tmp_path, tmp_path / "work", "--peers", "none")
    assert done.returncode == 1 and ".safetensors" in one_line(done.stderr)
    done = compare(tmp_path, tmp_path / "work", "--peers", "gzip")
    assert done.returncode == 2 and "gzip" in done.stderr
