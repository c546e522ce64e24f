"""Whatever would change the model is refused with EROFS, and changes nothing; what opening a file
for writing says is in test_semantics_open.py."""

import os
import socket

import pytest

from support import tensors
from support.syscalls import AT_FDCWD, call, opened, outcome

SHARD = "model-00001-of-00004.safetensors"


def open_for(flags):
    return lambda root: os.close(os.open(root / SHARD, flags))


def with_descriptor(attempt):
    def opening(root):
        with opened(root / SHARD) as fd:
            attempt(fd)

    return opening


def renameat2(flags):
    def attempt(root):
        old, new = os.fsencode(root / SHARD), os.fsencode(root / "config.json")
        new += b"" if flags == 2 else b".new"
        call("renameat2", AT_FDCWD, old, AT_FDCWD, new, flags)

    return attempt


def bind(path):
    with socket.socket(socket.AF_UNIX) as unix, opened(path.parent, os.O_PATH) as directory:
        # By way of a descriptor, as a socket's path must be short.
        unix.bind(f"/proc/self/fd/{directory}/{path.name}")


ATTEMPTS = {
    "open to append": open_for(os.O_WRONLY | os.O_APPEND),
    "create below": lambda root: os.close(
        os.open(root / "extra" / "new", os.O_CREAT | os.O_RDONLY, 0o644)
    ),
    "mkdir": lambda root: os.mkdir(root / "new"),
    "rmdir": lambda root: os.rmdir(root / "extra"),
    "unlink": lambda root: os.unlink(root / SHARD),
    "rename": lambda root: os.rename(root / SHARD, root / "new"),
    "replace": lambda root: os.replace(root / SHARD, root / "config.json"),
    "chmod": lambda root: os.chmod(root / SHARD, 0o666),
    "chmod of the root": lambda root: os.chmod(root, 0o777),
    "chown": lambda root: os.chown(root / SHARD, os.getuid(), os.getgid()),
    "utime": lambda root: os.utime(root / SHARD),
    "truncate": lambda root: os.truncate(root / SHARD, 0),
    "setxattr": lambda root: os.setxattr(root / SHARD, "user.note", b"x"),
    "setxattr of a counter": lambda root: os.setxattr(root, "user.upg.cache.hits", b"0"),
    "removexattr": lambda root: os.removexattr(root / SHARD, "user.upg.codec"),
    "symlink": lambda root: os.symlink("config.json", root / "new"),
    "link": lambda root: os.link(root / SHARD, root / "new"),
    "mknod": lambda root: os.mknod(root / "new", 0o644),
    "fifo": lambda root: os.mkfifo(root / "new"),
    "device": lambda root: os.mknod(root / "new", 0o20644, os.makedev(1, 3)),
    "socket": lambda root: bind(root / "new"),
    "rename without replacing": renameat2(1),
    "exchange": renameat2(2),
    "rename and leave a whiteout": renameat2(4),
    "rename onto itself": lambda root: os.rename(root / SHARD, root / SHARD),
    "unlink of nothing": lambda root: os.unlink(root / "absent"),
    "unlink of a directory": lambda root: os.unlink(root / "extra"),
    "rmdir of a file": lambda root: os.rmdir(root / SHARD),
    "fchmod": with_descriptor(lambda fd: os.fchmod(fd, 0o666)),
    "fchown": with_descriptor(lambda fd: os.fchown(fd, os.getuid(), os.getgid())),
    "futimens": with_descriptor(os.utime),
    "fsetxattr": with_descriptor(lambda fd: os.setxattr(fd, "user.note", b"x")),
}


@pytest.fixture(scope="module", autouse=True)
def nothing_changes(tiny, tiny_root):
    yield
    assert tensors.tree(tiny_root) == tensors.tree(tiny)
    assert sorted(os.listdir(tiny_root)) == sorted(os.listdir(tiny))


REFUSALS = [(attempt, "EROFS") for attempt in ATTEMPTS.values()]


@pytest.mark.parametrize(("attempt", "expected"), REFUSALS, ids=ATTEMPTS)
def test_every_write_is_refused(tiny_root, attempt, expected):
    assert outcome(attempt, tiny_root) == expected


# What is wrong with the names is said first.
OTHERS = {
    "mkdir of what is there": (lambda root: os.mkdir(root / "extra"), "EEXIST"),
    "symlink to what is there": (lambda root: os.symlink("x", root / SHARD), "EEXIST"),
    "mkdir below a file": (lambda root: os.mkdir(root / SHARD / "new"), "ENOTDIR"),
    "chmod of nothing": (lambda root: os.chmod(root / "absent", 0o600), "ENOENT"),
    "truncate of a directory": (lambda root: os.truncate(root, 0), "EISDIR"),
    "rename out": (lambda root: os.rename(root / SHARD, root.parent / "new"), "EXDEV"),
    "rename in": (lambda root: os.rename(root.parent / "absent", root / "new"), "EXDEV"),
    "link out": (lambda root: os.link(root / SHARD, root.parent / "new"), "EXDEV"),
}


@pytest.mark.parametrize(("attempt", "expected"), OTHERS.values(), ids=OTHERS)
def test_what_is_refused_for_another_reason(tiny_root, attempt, expected):
    assert outcome(attempt, tiny_root) == expected
