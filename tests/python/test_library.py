"""Several .upg files in one mount, each model in a directory of its own."""

import contextlib
import json
import os
import shutil

import pytest

from support import tensors
from support.merging import below
from support.mounting import foreground, is_mounted
from support.programs import UPG, UPG_MOUNT, one_line, require, require_fuse, run


@pytest.fixture(scope="module")
def library(tiny_lossless, tiny_lossy, mixed_lossy, tmp_path_factory):
    """Three files, two of models of other names than the files', and what is none of them."""
    root = tmp_path_factory.mktemp("library")
    shutil.copy(tiny_lossless.path, root / "a.upg")
    done = run(UPG, "merge", f"small={tiny_lossy.path}", f"again={tiny_lossless.path}", "-o", root / "b.upg")
    assert done.returncode == 0, done.stderr
    shutil.copy(mixed_lossy.path, root / "c.upg")
    (root / "notes.txt").write_text("not a model\n")
    return root


def alone(image, mount):
    with mount(image) as root:
        return tensors.tree(root)


@pytest.fixture
def expected(tiny, tiny_lossy, mixed_lossy, library, mount):
    (mixed,) = json.loads(run(UPG, "info", library / "c.upg", "--json").stdout)["models"]
    return (
        below("tiny", tensors.tree(tiny)) | below("again", tensors.tree(tiny))
        | below("small", alone(tiny_lossy.path, mount)) | below(mixed["name"], alone(mixed_lossy.path, mount))
    )  # fmt: skip


def mounted(point, *arguments):
    point.mkdir(exist_ok=True)
    done = run(UPG_MOUNT, *arguments, point)
    return done.returncode, done.stderr


def unmount(point):
    assert run(UPG_MOUNT, "-u", point).returncode == 0


def test_files_and_directories_of_them(library, expected, tmp_path):
    require_fuse()
    point = tmp_path / "point"
    files = [library / name for name in ("c.upg", "a.upg", "b.upg")]
    for arguments in ([library], files, ["--drop-compressed", library], ["--verify", *files]):
        assert mounted(point, *arguments) == (0, "")
        try:
            assert tensors.tree(point) == expected
            assert sorted(os.listdir(point)) == sorted({path.split("/")[0] for path in expected})
            space = os.statvfs(point)
            assert space.f_blocks * space.f_bsize >= sum((library / f).stat().st_size for f in ("a.upg", "b.upg"))
        finally:
            unmount(point)


def test_a_library_of_one(tiny, tiny_lossless, tmp_path):
    """Its model has a directory all the same: another file would change nothing."""
    require_fuse()
    library, point = tmp_path / "library", tmp_path / "point"
    library.mkdir()
    shutil.copy(tiny_lossless.path, library)
    assert mounted(point, library) == (0, "")
    try:
        assert tensors.tree(point) == below("tiny", tensors.tree(tiny))
    finally:
        unmount(point)


@pytest.mark.parametrize("what", ("twice", "empty", "broken", "missing"))
def test_what_cannot_be_mounted(library, tmp_path, what):
    require_fuse()
    point, files = tmp_path / "point", [library / "a.upg", library / "b.upg"]
    if what == "twice":
        shutil.copy(library / "a.upg", tmp_path / "copy.upg")
        files.append(tmp_path / "copy.upg")
        words = ["tiny", "a.upg", "copy.upg", "NAME=FILE"]
    elif what == "empty":
        (tmp_path / "nothing").mkdir()
        files, words = [tmp_path / "nothing"], ["nothing", "no .upg file"]
    elif what == "broken":
        (tmp_path / "broken.upg").write_bytes((library / "a.upg").read_bytes()[:-9])
        files.append(tmp_path / "broken.upg")
        words = ["broken.upg", "cut short"]
    else:
        files.append(tmp_path / "missing.upg")
        words = ["missing.upg", "No such file"]
    code, message = mounted(point, *files)
    assert code == 1 and all(word in one_line(message) for word in words), message
    assert not is_mounted(point)


def test_damage_is_named_by_the_file_that_it_is_in(library, tmp_path):
    require_fuse()
    data = bytearray((library / "c.upg").read_bytes())
    data[len(data) // 2] ^= 1
    files = tmp_path / "files"
    files.mkdir()
    shutil.copy(library / "a.upg", files)
    damaged = files / "damaged.upg"
    damaged.write_bytes(data)
    point = tmp_path / "point"
    code, message = mounted(point, "--verify", files)
    assert code == 3 and "checksum" in message and not is_mounted(point)
    finding = json.loads(run(UPG, "verify", damaged, "--json").stdout)["findings"][0]
    log = tmp_path / "log"
    with foreground(files, point, "--log-file", log) as daemon:
        for path in sorted(path for path in point.rglob("*") if path.is_file()):
            # Of the model that is damaged some fail, of the other none.
            with contextlib.suppress(OSError) if "tiny" not in path.parts else contextlib.nullcontext():
                path.read_bytes()
        daemon.terminate()
        daemon.communicate(timeout=15)
    text = log.read_text()
    assert f"{damaged}: " in text and f"at byte {finding['offset']}" in text, text


def test_each_model_belongs_to_the_owner_of_its_file(library, tmp_path):
    require_fuse()
    require(os.getuid() == 0, "needs root")
    a, c = tmp_path / "a.upg", tmp_path / "c.upg"
    shutil.copy(library / "a.upg", a)
    shutil.copy(library / "c.upg", c)
    os.chown(c, 65531, 65532)
    a.chmod(0o600)
    c.chmod(0o640)
    point = tmp_path / "point"
    assert mounted(point, a, c) == (0, "")
    try:
        names = {model for model in os.listdir(point) if model != "tiny"}
        (other,) = names
        for path in (point / "tiny").rglob("*"):
            status = path.stat()
            assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, 0, 0o500 if path.is_dir() else 0o400)
        for path in (point / other).rglob("*"):
            status = path.stat()
            assert (status.st_uid, status.st_gid) == (65531, 65532)
            assert status.st_mode & 0o777 == (0o550 if path.is_dir() else 0o440)
        root = point.stat()
        assert (root.st_uid, root.st_mode & 0o777) == (0, 0o555)
        assert os.getxattr(point / "tiny", "user.upg.cache.hits")
    finally:
        unmount(point)


def test_usage(library):
    assert run(UPG_MOUNT, library / "a.upg").returncode == 2
    assert run(UPG_MOUNT).returncode == 2
