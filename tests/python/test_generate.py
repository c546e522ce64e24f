"""`upg --generate`: manual pages and completions, as packages have them."""

import re
import shutil

import pytest

from support import tensors
from support.programs import UPG, UPG_MOUNT, require, run

SUBCOMMANDS = ("convert", "catalog", "info", "verify", "unpack", "merge", "bench")
PAGES = ("upg.1", "upg-mount.1", *(f"upg-{name}.1" for name in SUBCOMMANDS))
FILES = {
    *(f"man/man1/{page}" for page in PAGES),
    "man/man8/mount.upg.8",
    *(f"bash-completion/completions/{program}" for program in ("upg", "upg-mount")),
    *(f"zsh/site-functions/_{program}" for program in ("upg", "upg-mount")),
    *(f"fish/vendor_completions.d/{program}.fish" for program in ("upg", "upg-mount")),
}


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    share = tmp_path_factory.mktemp("share")
    done = run(UPG, "--generate", share)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return share


def commands(tmp_path):
    """Each page with the command that it is of."""
    helper = tmp_path / "mount.upg"
    helper.symlink_to(UPG_MOUNT)
    yield "man1/upg.1", (UPG,)
    yield "man1/upg-mount.1", (UPG_MOUNT,)
    yield "man8/mount.upg.8", (helper,)
    for name in SUBCOMMANDS:
        yield f"man1/upg-{name}.1", (UPG, name)


def options(text):
    """Those that a line begins with, short and long."""
    lines = re.findall(r"^ *(-\w|--[a-z][a-z-]*)(?:, (--[a-z][a-z-]*))?", text, re.MULTILINE)
    return {option for line in lines for option in line if option}


def test_the_same_files_every_time(generated, tmp_path):
    (tmp_path / "man" / "man1").mkdir(parents=True)
    (tmp_path / "man" / "man1" / "upg.1").write_text("an older one")
    assert run(UPG, "--generate", tmp_path).returncode == 0
    first = tensors.tree(generated)
    assert set(first) == FILES
    assert tensors.tree(tmp_path) == first


def test_every_option_is_in_its_page(generated, tmp_path):
    for page, command in commands(tmp_path):
        text = (generated / "man" / page).read_text().replace("\\fB", "").replace("\\fR", "").replace("\\-", "-")
        said = options(run(*command, "--help").stdout)
        assert len(said) >= 4, f"{page}: {said}"
        assert options(text) == said, page


def test_manual_pages_are_well_formed(generated):
    require(shutil.which("man"), "no man")
    for page in sorted(generated.glob("man/*/*")):
        done = run("man", "--warnings", "-E", "UTF-8", "-l", page, env={"PATH": "/usr/bin:/bin", "MANWIDTH": "100"})
        assert (done.returncode, done.stderr) == (0, ""), page
        for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"):
            assert re.search(rf"^{heading}$", done.stdout, re.MULTILINE), (page, heading)
        name = re.search(r"^NAME\n +(\S+) +- +\w", done.stdout, re.MULTILINE)
        assert name[1] == page.stem
        # Examples have their lines.
        if page.stem == "upg-info":
            assert re.search(r"^ +upg info phi-4.upg --tensors$", done.stdout, re.MULTILINE)


COMPLETED = {
    "a subcommand": (("upg", "con"), {"convert"}),
    "an option": (("upg", "convert", "--lossl"), {"--lossless"}),
    "a value": (("upg", "convert", "--grid", ""), {"auto", "prime", "uniform"}),
    "of upg-mount": (("upg-mount", "--cache"), {"--cache-size"}),
    "nothing hidden": (("upg-mount", "--bench"), set()),
}


@pytest.mark.parametrize("case", COMPLETED)
def test_bash_completes(generated, case):
    require(shutil.which("bash"), "no bash")
    words, expected = COMPLETED[case]
    script = """
        . "$0"
        function=$(complete -p "$1" | sed -E 's/.*-F ([^ ]+).*/\\1/')
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        "$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    file = generated / "bash-completion" / "completions" / words[0]
    done = run("bash", "--norc", "-c", script, file, *words)
    assert done.returncode == 0 and done.stderr == ""
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize("shell, check", (("zsh", "-n"), ("fish", "--no-execute")))
def test_other_shells_take_theirs(generated, shell, check):
    require(shutil.which(shell), f"no {shell}")
    files = sorted(generated.glob(f"{shell}/*/*"))
    assert len(files) == 2
    for file in files:
        done = run(shell, check, file)
        assert (done.returncode, done.stderr) == (0, ""), file
        assert "lossless" in file.read_text() or "cache-size" in file.read_text()
        assert "bench-null" not in file.read_text()


def test_it_stands_alone(tmp_path):
    for arguments, code in ((("--generate",), 2), (("--generate", tmp_path, "info", "a.upg"), 2), ((), 2)):
        assert run(UPG, *arguments).returncode == code, arguments
    file = tmp_path / "file"
    file.write_text("")
    done = run(UPG, "--generate", file)
    assert done.returncode == 1 and str(file) in done.stderr
