"""tests/bad/*.upg: the programs refuse them in one line, and so does the reference decoder."""

import sys

import pytest

from support.programs import REPO, UPG, UPG_MOUNT, one_line, run

BAD = sorted((REPO / "tests" / "bad").glob("*.upg"))
ERRORS = dict(
    line.split(": ", 1) for line in (REPO / "tests/bad/errors.txt").read_text().splitlines()
)
# What the index says is checked when a file is opened, stored bytes when they are read.
WHEN_READ = ("payload-", "side-", "zstd-", "stored-block-", "coded-block-", "block-checksum")
OPEN = [path for path in BAD if not path.name.startswith(WHEN_READ)]


def test_there_are_hostile_files():
    assert len(OPEN) >= 40 and len(BAD) - len(OPEN) >= 20


@pytest.fixture(scope="module")
def reference():
    """The decoder that was written from the document, in this process."""
    sys.path.insert(0, str(REPO / "scripts"))
    try:
        from reference import archive, common

        yield archive.Upg, common.FormatError
    finally:
        sys.path.remove(str(REPO / "scripts"))


@pytest.mark.parametrize("bad", BAD, ids=lambda path: path.stem)
def test_the_reference_decoder_refuses_it(bad, reference):
    upg, format_error = reference
    with open(bad, "rb") as file, pytest.raises(format_error):
        opened = upg(file)
        assert bad not in OPEN, "opened"
        for path, entry in opened.presented():
            for _ in opened.content(path, entry):
                pass


@pytest.mark.parametrize("bad", OPEN, ids=lambda path: path.stem)
def test_it_is_not_opened(bad):
    done = run(UPG, "info", bad)
    assert (done.returncode, done.stdout) == (1, "")
    assert one_line(done.stderr).endswith(f"{bad}: {ERRORS[bad.name]}")


def test_it_is_not_mounted(tmp_path):
    for bad in OPEN[:: len(OPEN) // 8]:
        done = run(UPG_MOUNT, bad, tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert ERRORS[bad.name] in one_line(done.stderr)
        assert not list(tmp_path.iterdir())
