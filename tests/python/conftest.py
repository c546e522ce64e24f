"""Fixtures: models to convert, converted ones, and mounts that must not stay behind."""

import contextlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from support import tensors
from support.conversions import job, write_model
from support.merging import tune
from support.mounting import force_away, mounted, mounts_below
from support.objects import S3
from support.programs import UPG, UPG_MOUNT, convert, make_model, require

os.environ["HF_HUB_OFFLINE"] = "1"  # everything the tests load lies on this machine


@pytest.fixture(scope="session", autouse=True)
def programs():
    for program in (UPG, UPG_MOUNT):
        if not program.exists():
            pytest.exit(f"{program} is missing: cargo build --release", returncode=3)


@pytest.fixture(scope="session", autouse=True)
def system_tools():
    require(shutil.which("fusermount3"), "no fusermount3 (package fuse3)")


@pytest.fixture
def mount(tmp_path):
    """mount(image, *options): a context manager whose value is the mount point."""
    count = 0

    def at_new_point(image, *options):
        nonlocal count
        count += 1
        return mounted(image, tmp_path / f"mount-{count}", *options)

    yield at_new_point
    left = mounts_below(tmp_path)
    for point in left:
        force_away(point)
    assert not left, f"left mounted: {left}"


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """A server with nothing in it, for the tests of a file."""
    server = S3(tmp_path_factory.mktemp("s3"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A sharded phi-4-shaped model of 3 MB, with files in nested directories."""
    root = make_model(tmp_path_factory.mktemp("source") / "tiny", "--tiny")
    (root / "extra" / "deep").mkdir(parents=True)
    (root / "extra" / "notes.txt").write_text("kept as they are\n" * 400)
    (root / "extra" / "deep" / "odd.bin").write_bytes(np.random.default_rng(5).bytes(70_001))
    (root / "extra" / "empty").write_bytes(b"")
    return root


@pytest.fixture(scope="session")
def tiny_lossless(tiny, tmp_path_factory):
    return convert(tiny, tmp_path_factory.mktemp("upg") / "tiny.upg", "--lossless")


@pytest.fixture(scope="session")
def tuned(tiny, tmp_path_factory):
    return tune(tiny, tmp_path_factory.mktemp("source") / "tuned", "model.layers.1.mlp.down_proj.weight")


@pytest.fixture(scope="session")
def tuned_lossless(tuned, tmp_path_factory):
    return convert(tuned, tmp_path_factory.mktemp("upg") / "tuned.upg", "--lossless")


@pytest.fixture(scope="session")
def conversion_source(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("source") / "model")


@pytest.fixture(scope="module", params=("alone.upg", "directory"))
def conversion(request, conversion_source, tmp_path_factory):
    """A conversion to disturb, to a file and to a directory; its source stays as it is."""
    before = tensors.tree(conversion_source)
    yield job(conversion_source, tmp_path_factory.mktemp("to"), request.param)
    assert tensors.tree(conversion_source) == before


@pytest.fixture(scope="module")
def mount_for_module(tmp_path_factory):
    """mount_for_module(image): a mount point for all tests of a module."""
    with contextlib.ExitStack() as mounts:

        def at_new_point(image):
            point = tmp_path_factory.mktemp("mount") / image.stem
            return mounts.enter_context(mounted(image, point))

        yield at_new_point


@pytest.fixture(scope="module")
def tiny_root(tiny_lossless, mount_for_module):
    return mount_for_module(tiny_lossless.path)


@pytest.fixture(scope="session")
def tiny_lossy(tiny, tmp_path_factory):
    return convert(tiny, tmp_path_factory.mktemp("upg") / "tiny.upg", "--bits", "3.2")


@pytest.fixture(scope="session")
def mixed(tmp_path_factory) -> Path:
    """One .safetensors file of 11 MB: an odd header length, tensors at odd offsets, matrices of
    several blocks whose rows do not divide a block, exact tensors between them."""
    random = np.random.default_rng(11)
    norm = 1 + 0.1 * random.standard_normal(1999)
    content = [
        tensors.random_bits("bytes", "U8", (3,), seed=1),
        tensors.gaussian("bf16", (1031, 1999), "BF16", seed=2),
        tensors.from_floats("scalar", np.float32(0.75), "F32"),
        tensors.gaussian("f32", (701, 1207), "F32", seed=3),
        tensors.Tensor("empty", "F16", (0, 7), b""),
        tensors.gaussian("f16", (513, 1025), "F16", seed=4),
        tensors.from_floats("norm", norm, "BF16"),
        tensors.random_bits("ids", "I64", (150_001,), seed=5),
        tensors.random_bits("more bytes", "U8", (5,), seed=6),
        tensors.gaussian("last", (999, 801), "BF16", seed=7),
    ]
    path = tmp_path_factory.mktemp("source") / "mixed.safetensors"
    return tensors.write(path, content, {"format": "pt"}, padded=False)


@pytest.fixture(scope="session")
def mixed_lossless(mixed, tmp_path_factory):
    return convert(mixed, tmp_path_factory.mktemp("upg") / "mixed.upg", "--lossless")


@pytest.fixture(scope="session")
def mixed_lossy(mixed, tmp_path_factory):
    return convert(mixed, tmp_path_factory.mktemp("upg") / "mixed.upg", "--bits", "3.2")
