"""Names of files, models and tensors come from anybody: none of them drives a terminal."""

import unicodedata

import pytest

from support import tensors
from support.programs import UPG, UPG_MOUNT, require_fuse, run

# Clears the screen, begins a line, and turns the direction of what follows.
TENSOR = "w\x1b[2J\n\u202e"
SHOWN_TENSOR = r"w\u{1b}[2J\n\u{202e}"
# In names of models control characters are refused.
MODEL = "m\u202ex"
SHOWN_MODEL = r"m\u{202e}x"


def harmless(text):
    """No control character but line feeds, and nothing that reorders text."""
    return all(c == "\n" or unicodedata.category(c) not in ("Cc", "Cf") for c in text)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile") / MODEL
    tensors.write(root / "model.safetensors", [tensors.gaussian(TENSOR, (64, 64)), tensors.gaussian("n", (64,))])
    return root


@pytest.fixture(scope="module")
def image(model, tmp_path_factory):
    """`upg convert` has a line for the destination alone, whose name is hostile, too."""
    out = tmp_path_factory.mktemp("hostile") / f"{TENSOR}.upg"
    done = run(UPG, "convert", model, "-o", out, "--lossless")
    assert done.returncode == 0 and harmless(done.stdout + done.stderr)
    assert f"{SHOWN_TENSOR}.upg" in done.stdout
    return out


@pytest.fixture(scope="module")
def damaged(image, tmp_path_factory):
    """With another byte in its one matrix."""
    data = bytearray(image.read_bytes())
    data[len(data) // 3] ^= 1
    out = tmp_path_factory.mktemp("hostile") / f"{TENSOR}.upg"
    out.write_bytes(data)
    return out


@pytest.mark.parametrize(
    "command",
    (
        "catalog MODEL --tensors",
        "info IMAGE --tensors",
        "verify IMAGE --tensors --against MODEL",
        "verify DAMAGED",
    ),
)
def test_a_tensor_and_a_model(command, model, image, damaged):
    named = {"MODEL": model, "IMAGE": image, "DAMAGED": damaged}
    done = run(UPG, *(named.get(word, word) for word in command.split()))
    assert done.returncode == (3 if "DAMAGED" in command else 0) and done.stderr == ""
    assert harmless(done.stdout)
    assert SHOWN_TENSOR in done.stdout and SHOWN_MODEL in done.stdout


@pytest.mark.parametrize(
    "command", ("catalog MODEL --tensors", "info IMAGE", "verify DAMAGED", "verify IMAGE --against MODEL")
)
def test_json(command, model, image, damaged):
    named = {"MODEL": model, "IMAGE": image, "DAMAGED": damaged}
    done = run(UPG, *(named.get(word, word) for word in command.split()), "--json")
    assert harmless(done.stdout) and r"\u202e" in done.stdout and r"w\u001b[2J\n" in done.stdout


def test_unpack_and_merge(image, tmp_path):
    done = run(UPG, "unpack", image, "-o", tmp_path / TENSOR)
    assert done.returncode == 0 and harmless(done.stdout + done.stderr) and SHOWN_TENSOR in done.stdout
    done = run(UPG, "merge", image, f"other={image}", "-o", tmp_path / f"{TENSOR}.upg")
    assert done.returncode == 0 and harmless(done.stdout + done.stderr)
    assert SHOWN_TENSOR in done.stdout and SHOWN_MODEL in done.stdout


def test_errors(model, image, damaged, tmp_path):
    (tmp_path / TENSOR).mkdir()
    commands = (
        (UPG, "convert", tmp_path / TENSOR, "-o", tmp_path / "out.upg"),  # no model
        (UPG, "convert", model, "-o", image),  # is there
        (UPG, "catalog", tmp_path / TENSOR),
        (UPG, "info", tmp_path / f"{TENSOR}.upg"),
        (UPG, "unpack", damaged, "-o", tmp_path / "unpacked"),
        (UPG, "merge", image, f"other={damaged}", "-o", tmp_path / "out.upg"),
        (UPG, "verify", image, "--against", tmp_path / "absent" / TENSOR),
        (UPG_MOUNT, tmp_path / f"{TENSOR}.upg", tmp_path),
        (UPG_MOUNT, image, tmp_path / "absent" / TENSOR),
        (UPG_MOUNT, "--verify", damaged, tmp_path / TENSOR),
    )
    require_fuse()
    for command in commands:
        done = run(*command)
        assert done.returncode in (1, 3), command
        assert done.stdout == "" and harmless(done.stderr) and SHOWN_TENSOR in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1
