"""The benchmarks run, measure what they say, and their plots can be drawn. Not how fast anything is."""

import json
import os
import sys

from support.programs import BINARIES, REPO, needed, require, require_fuse, run

SCRIPTS = REPO / "scripts"
STAND_IN = REPO / "tests" / "python" / "support" / "garage_stand_in.py"


def test_a_mount_is_measured_beside_plain_files_and_zeros_and_drawn(tiny, tmp_path):
    require_fuse()
    require(os.geteuid() == 0, "dropping the page cache needs root")
    report, images = tmp_path / "mount.json", tmp_path / "images"
    patterns = ["mmap x1", "mmap x4", "pread x1", "O_DIRECT x4", "random 64 KiB", "one tensor"]
    given = ["--runs", "1", "--subjects", "plain,3.2,lossless,zeros", "--patterns", ",".join(patterns)]
    given += ["--work", tmp_path, "--images", images, "--bin", BINARIES, "--json", report]
    done = run(sys.executable, SCRIPTS / "bench_mount.py", tiny, *given)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(report.read_text())["results"]
    # Of zeros nobody can read a header, and that is said.
    assert len(results) == 2 * (len(patterns) * 4 - 1)
    assert "zeros, one tensor" in done.stderr
    size = sum(path.stat().st_size for path in tiny.glob("*.safetensors"))
    for result in results:
        whole = result["pattern"] not in ("random 64 KiB", "one tensor")
        assert result["bytes"] == size if whole else 0 < result["bytes"] <= size, result
        assert all(seconds > 0 for seconds in result["seconds"])
        # What was there to decode was decoded, by the mount that was meant.
        assert (result["stats"] is None) == (result["work"] is None) == (result["subject"] == "plain")
        if result["stats"]:
            assert (result["stats"]["decoded"]["blocks"] > 0) == (result["subject"] in ("3.2", "lossless"))
    # What the daemons did for each READ. Their seconds are counted in hundredths, of which so small a model takes none.
    _, _, told = done.stdout.partition("the daemon of a mount")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in told.splitlines() if line.startswith("|")]
    assert rows[0][3:] == ["READs per GB", "user s per GB", "system s per GB", "faults per READ", "wake-ups per READ"]
    shown = {(state, pattern, subject): list(map(float, figures)) for state, pattern, subject, *figures in rows[2:]}
    assert shown.keys() == {(r["state"], r["pattern"], r["subject"]) for r in results if r["work"]}
    assert all(figures[0] > 0 and figures[3] > 0 and figures[4] > 0 for figures in shown.values())
    assert {path.name for path in images.iterdir()} == {"3.2", "lossless"}
    needed("matplotlib")
    plot = tmp_path / "mount.svg"
    done = run(sys.executable, SCRIPTS / "plot_mount.py", report, "-o", plot)
    assert done.returncode == 0, done.stderr
    assert all(pattern in plot.read_text() for pattern in patterns)


def test_start_up_is_measured(tiny_lossless, tmp_path):
    require_fuse()
    report = tmp_path / "startup.json"
    given = ["--sizes", "", "--runs", "2", "--work", tmp_path, "--bin", BINARIES, "--json", report]
    done = run(sys.executable, SCRIPTS / "bench_startup.py", tiny_lossless.path, *given)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(report.read_text())["results"]
    assert [result["state"] for result in results] == ["warm", "cold"]
    assert all(result["ready"] > 0 and 0 < result["read"] <= result["read_slowest"] for result in results)


def test_some_of_what_an_object_is_measured_by(tiny, tmp_path):
    """All of it is a command of docs/benchmarks.md."""
    require_fuse()
    require(os.geteuid() == 0, "a network namespace needs root")
    needed("moto")
    report = tmp_path / "objects.json"
    given = ["--runs", "2", "--work", tmp_path, "--bin", BINARIES, "--server", STAND_IN, "--json", report]
    done = run(sys.executable, SCRIPTS / "bench_objects.py", tiny, "--subjects", "local,cached", *given)
    assert done.returncode == 0, done.stdout + done.stderr
    seconds = json.loads(report.read_text())["results"]["seconds"]
    assert list(seconds) == ["mount, disk cache warm", "mount of the local file"]
    assert all(len(runs) == 2 and min(runs) > 0 for runs in seconds.values())
    done = run(sys.executable, SCRIPTS / "bench_objects.py", tiny, "--subjects", "plain,others", *given)
    assert done.returncode == 2 and "'others'" in done.stderr
