"""open(2) and finding files, flag by flag, as docs/semantics.md says."""

import fcntl
import os

import pytest

from support.syscalls import opened, outcome

SHARD = "model-00001-of-00004.safetensors"


def opening(flags, path=SHARD):
    def attempt(root):
        os.close(os.open(os.path.join(os.fsencode(root), os.fsencode(path)), flags, 0o644))

    return attempt


FLAGS = {
    "O_RDONLY": (opening(os.O_RDONLY), "ok"),
    "O_WRONLY": (opening(os.O_WRONLY), "EROFS"),
    "O_RDWR": (opening(os.O_RDWR), "EROFS"),
    "access mode 3": (opening(os.O_ACCMODE), "EROFS"),
    "O_RDONLY+O_APPEND": (opening(os.O_APPEND), "ok"),
    "O_RDONLY+O_TRUNC": (opening(os.O_TRUNC), "EROFS"),
    "O_CREAT of a file": (opening(os.O_CREAT), "ok"),
    "O_CREAT of nothing": (opening(os.O_CREAT, "new"), "EROFS"),
    "O_CREAT of a directory": (opening(os.O_CREAT, "extra"), "EISDIR"),
    "O_CREAT+O_EXCL of a file": (opening(os.O_CREAT | os.O_EXCL), "EEXIST"),
    "O_CREAT+O_EXCL of nothing": (opening(os.O_CREAT | os.O_EXCL, "new"), "EROFS"),
    "O_TMPFILE": (opening(os.O_TMPFILE | os.O_RDWR, "."), "EROFS"),
    "O_DIRECT": (opening(os.O_DIRECT), "ok"),
    "O_DIRECT+O_WRONLY": (opening(os.O_DIRECT | os.O_WRONLY), "EROFS"),
    "O_NOATIME": (opening(os.O_NOATIME), "ok"),
    "O_SYNC": (opening(os.O_SYNC), "ok"),
    "O_NONBLOCK": (opening(os.O_NONBLOCK), "ok"),
    "O_PATH": (opening(os.O_PATH), "ok"),
    "O_NOFOLLOW": (opening(os.O_NOFOLLOW), "ok"),
    "O_DIRECTORY of a file": (opening(os.O_DIRECTORY), "ENOTDIR"),
    "O_DIRECTORY of a directory": (opening(os.O_DIRECTORY, "extra"), "ok"),
    "O_WRONLY of a directory": (opening(os.O_WRONLY, "extra"), "EISDIR"),
}


@pytest.mark.parametrize(("attempt", "expected"), FLAGS.values(), ids=FLAGS)
def test_flags(tiny_root, attempt, expected):
    assert outcome(attempt, tiny_root) == expected


NAMES = {
    "absent": (opening(0, "extra/absent"), "ENOENT"),
    "file as a directory": (opening(0, "config.json/x"), "ENOTDIR"),
    "file and a slash": (opening(0, SHARD + "/"), "ENOTDIR"),
    "other case": (opening(0, "Config.json"), "ENOENT"),
    "bytes that are no UTF-8": (opening(0, b"\xff\xfe"), "ENOENT"),
    "255 bytes": (opening(0, "x" * 255), "ENOENT"),
    "256 bytes": (opening(0, "x" * 256), "ENAMETOOLONG"),
    "path of 4096 bytes": (opening(0, "./" * 2048 + "x"), "ENAMETOOLONG"),
    "dots": (opening(0, "extra/./deep/../../" + SHARD), "ok"),
    "above the root": (opening(0, "extra/../../tiny/" + SHARD), "ok"),
}


@pytest.mark.parametrize(("attempt", "expected"), NAMES.values(), ids=NAMES)
def test_names(tiny_root, attempt, expected):
    assert outcome(attempt, tiny_root) == expected


def test_a_descriptor_of_o_path_names_a_file_and_reads_nothing(tiny, tiny_root):
    with opened(tiny_root / SHARD, os.O_PATH) as fd:
        assert os.fstat(fd).st_size == (tiny / SHARD).stat().st_size
        assert outcome(os.pread, fd, 1, 0) == "EBADF"
        with opened(f"/proc/self/fd/{fd}") as again:
            assert os.pread(again, 100, 0) == (tiny / SHARD).read_bytes()[:100]
    with opened(tiny_root / "extra", os.O_PATH) as directory:
        with opened("notes.txt", dir_fd=directory) as fd:
            assert os.read(fd, 4) == b"kept"


def test_o_direct_may_be_switched_on_and_off(tiny, tiny_root):
    content = (tiny / SHARD).read_bytes()
    with opened(tiny_root / SHARD) as fd:
        for flags in (os.O_DIRECT, 0, os.O_DIRECT):
            fcntl.fcntl(fd, fcntl.F_SETFL, flags)
            assert os.pread(fd, 5001, 777) == content[777:5778]


def test_writing_to_what_is_open_for_reading(tiny_root):
    with opened(tiny_root / SHARD) as fd, opened(tiny_root / "config.json") as other:
        found = {
            "write": outcome(os.write, fd, b"x"),
            "pwritev": outcome(os.pwritev, fd, [b"x"], 0),
            "sendfile": outcome(os.sendfile, fd, other, 0, 10),
            "copy_file_range": outcome(os.copy_file_range, other, fd, 10),
            "fallocate": outcome(os.posix_fallocate, fd, 0, 10),
            "ftruncate": outcome(os.ftruncate, fd, 0),
        }
    assert found.pop("ftruncate") == "EINVAL"
    assert found == dict.fromkeys(found, "EBADF")


def test_a_file_is_not_executable(tiny_root):
    assert outcome(os.execv, tiny_root / SHARD, ["it"]) == "EACCES"


def test_what_is_neither_link_nor_directory(tiny_root):
    assert outcome(os.readlink, tiny_root / SHARD) == "EINVAL"
    assert outcome(os.chdir, tiny_root / SHARD) == "ENOTDIR"
