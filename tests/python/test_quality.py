"""scripts/quality.py measures what it says, and leaves nothing behind."""

import importlib.metadata
import json
import math
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from support.mounting import mounts_below
from support.programs import (
    BINARIES, REPO, make_model, needed, one_line, require, require_fuse, run,
)  # fmt: skip

needed("torch")
needed("transformers")

QUALITY = REPO / "scripts" / "quality.py"
GGML = "pywhispercpp"


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """More than 512 tokens of any tokenizer."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    words = np.random.default_rng(3).integers(0, 10_000, 600)
    path.write_text("words and numbers: " + " ".join(f"{w} is not {w + 1}," for w in words))
    return path


def command(model, text, work, *options):
    given = ("--tokens", 512, "--window", 64, "--threads", 2, "--bin", BINARIES, "--work", work)
    return [str(c) for c in (sys.executable, QUALITY, model, "--text", text, *given, *options)]


def quality(model, text, work, *options):
    """(report, standard output) of a run that must succeed and clean up."""
    require_fuse()
    work.mkdir()
    report = work.parent / "report.json"
    done = run(*command(model, text, work, "--json", report, *options))
    assert done.returncode == 0, done.stderr
    assert not mounts_below(work) and not list(work.iterdir())
    return json.loads(report.read_text()), done.stdout


def require_ggml():
    try:
        importlib.metadata.version(GGML)
    except importlib.metadata.PackageNotFoundError:
        require(False, f"no package {GGML}")


def test_more_bits_answer_more_alike(tiny, text, tmp_path):
    report, table = quality(
        tiny, text, tmp_path / "work", "--ggml", "none",
        "--bits", "2,4,8", "--upg", "--lossless", "--upg", "--bits 3.2 --grid uniform",
    )  # fmt: skip
    assert report["tokens"] == 512 and report["ggml"] == [] and report["equal_kld"] == []
    two, four, eight, lossless, uniform = report["upg"]
    assert two["kld"] > uniform["kld"] > four["kld"] > eight["kld"] > lossless["kld"] == 0
    assert two["snr_db"] < uniform["snr_db"] < four["snr_db"] < eight["snr_db"]
    assert lossless["snr_db"] is None and lossless["top1"] == 1
    assert lossless["perplexity"] == pytest.approx(report["source_perplexity"], rel=1e-9)
    for result in (two, four, eight, uniform):
        assert result["kld"] < result["kld_999"] and 0 < result["top1"] < 1
        asked = float(result["options"][1])
        # --bits is the whole file's; a small model's other files may take 5 % of it.
        assert 0.94 * asked < result["bits"] < 1.003 * asked
        assert result["file_bits"] > result["bits"]
    assert uniform["name"] == "upg --bits 3.2 --grid uniform"
    assert table.count("\n| upg --bits") == 4 and "| upg --lossless" in table


def test_ggml_types_and_bits_at_equal_divergence(tiny, text, tmp_path):
    require_ggml()
    report, table = quality(
        tiny, text, tmp_path / "work", "--bits", "2,9", "--ggml", "Q2_K,IQ4_XS,Q4_K,Q8_0"
    )
    q2, iq4, q4, q8 = report["ggml"]
    assert [r["bits"] for r in (q2, iq4, q4, q8)] == [2.625, 4.25, 4.5, 8.5]
    assert q2["kld"] > q4["kld"] > q8["kld"] > 0 and q2["kld"] > iq4["kld"]
    # 6 dB for each bit, and llama.cpp's types are known to lie here on Gaussian weights.
    for result, snr in ((q2, 10.5), (iq4, 22), (q4, 22.5), (q8, 45)):
        assert result["snr_db"] == pytest.approx(snr, abs=1.5)
    low, high = report["upg"]
    for entry, other in zip(report["equal_kld"], report["ggml"], strict=True):
        if low["kld"] >= other["kld"] >= high["kld"]:
            slope = (high["bits"] - low["bits"]) / math.log(high["kld"] / low["kld"])
            bits = low["bits"] + slope * math.log(other["kld"] / low["kld"])
            assert entry["bits"] == pytest.approx(bits)
            assert entry["saves"] == pytest.approx(other["bits"] - bits)
        else:
            assert entry["bits"] is None and entry["saves"] is None
    assert "Bits per weight at equal mean KLD" in table


def test_rows_that_do_not_fit_ggml_blocks(text, tmp_path):
    """llama.cpp takes Q5_0 for rows that Q4_K cannot hold, and says so; so does this."""
    require_ggml()
    shape = ("--hidden", 192, "--heads", 4, "--intermediate", 512, "--vocab", 512, "--layers", 1)
    model = make_model(tmp_path / "odd", *shape)
    (tmp_path / "work").mkdir()
    report = tmp_path / "r.json"
    options = ("--bits", "none", "--ggml", "Q4_K", "--json", report)
    done = run(*command(model, text, tmp_path / "work", *options))
    assert done.returncode == 0, done.stderr
    assert "Q5_0 as in llama.cpp" in one_line(done.stderr)
    (result,) = json.loads(report.read_text())["ggml"]
    assert result["other_types"] == {"Q5_0": 5} and 4.5 < result["bits"] < 5.5


def test_logits_are_kept_and_known_again(tiny, text, tmp_path):
    cache = tmp_path / "logits"
    options = ("--cache", cache, "--bits", "3.2", "--ggml", "none")
    first, _ = quality(tiny, text, tmp_path / "work", *options)
    made = cache.stat().st_mtime_ns
    again, _ = quality(tiny, text, tmp_path / "work2", *options)
    assert again == first and cache.stat().st_mtime_ns == made
    fewer, _ = quality(tiny, text, tmp_path / "work3", *options, "--window", 32)
    assert fewer["window"] == 32 and cache.stat().st_mtime_ns != made

    cache.write_text("something else")
    done = run(*command(tiny, text, tmp_path, *options))
    assert done.returncode == 1 and "not overwritten" in one_line(done.stderr)
    assert cache.read_text() == "something else"


def test_an_interrupt_leaves_nothing(tiny, text, tmp_path):
    require_fuse()
    work = tmp_path / "work"
    work.mkdir()
    rates = ",".join(["3.2"] * 100)
    options = ("--bits", rates, "--ggml", "none")
    running = subprocess.Popen(command(tiny, text, work, *options), stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 120
        while not mounts_below(work):
            assert running.poll() is None and time.monotonic() < end, "never mounted"
            time.sleep(0.005)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 128 + signal.SIGTERM
    assert not mounts_below(work) and not list(work.iterdir())


@pytest.mark.parametrize(
    ("options", "complaint"),
    (
        (("--ggml", "Q9_K"), "Q9_K"),
        (("--ggml", "none", "--window", "100000"), "context"),
        (("--ggml", "none", "--bin", "/nowhere"), "/nowhere"),
        (("--ggml", "none", "--text", "/nowhere"), "/nowhere"),
        (("--ggml", "none", "--upg", "--no-such-option"), "--no-such-option"),
    ),
)
def test_errors_are_said(tiny, text, tmp_path, options, complaint):
    done = run(*command(tiny, text, tmp_path, *options))
    assert done.returncode == 1 and done.stdout == ""
    assert complaint in done.stderr and "Traceback" not in done.stderr
