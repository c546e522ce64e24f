"""Whatever would change the model is refused with EROFS, and changes nothing."""

import errno
import mmap
import os

import pytest

from support import tensors

SHARD = "model-00001-of-00004.safetensors"


def open_for(flags):
    return lambda root: os.close(os.open(root / SHARD, flags))


ATTEMPTS = {
    "open for writing": open_for(os.O_WRONLY),
    "open for both": open_for(os.O_RDWR),
    "open to append": open_for(os.O_WRONLY | os.O_APPEND),
    "open and truncate": open_for(os.O_WRONLY | os.O_TRUNC),
    "create": lambda root: os.close(os.open(root / "new", os.O_CREAT | os.O_WRONLY, 0o644)),
    "create below": lambda root: os.close(
        os.open(root / "extra" / "new", os.O_CREAT | os.O_RDONLY, 0o644)
    ),
    "nameless file": lambda root: os.close(os.open(root, os.O_TMPFILE | os.O_RDWR, 0o644)),
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
}


def test_every_write_is_refused(tiny, tiny_lossless, mount):
    before = tensors.tree(tiny)
    refused = {}
    with mount(tiny_lossless.path) as root:
        for what, attempt in ATTEMPTS.items():
            with pytest.raises(OSError) as failure:
                attempt(root)
            refused[what] = errno.errorcode[failure.value.errno]
        assert tensors.tree(root) == before
        assert not (root / "new").exists()
    assert refused == dict.fromkeys(ATTEMPTS, "EROFS")


def test_access_says_so(tiny_lossless, mount):
    with mount(tiny_lossless.path) as root:
        assert os.access(root / SHARD, os.R_OK)
        assert not os.access(root / SHARD, os.W_OK)
        assert not os.access(root / SHARD, os.X_OK)
        assert os.access(root, os.R_OK | os.X_OK)
        assert not os.access(root, os.W_OK)


def test_a_shared_mapping_cannot_be_writable(tiny_lossless, mount):
    with mount(tiny_lossless.path) as root, open(root / SHARD, "rb") as f:
        with pytest.raises(PermissionError):
            mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


def test_a_file_open_for_reading_cannot_be_written(tiny_lossless, mount):
    with mount(tiny_lossless.path) as root:
        fd = os.open(root / SHARD, os.O_RDONLY)
        try:
            with pytest.raises(OSError) as failure:
                os.write(fd, b"x")
            assert failure.value.errno == errno.EBADF
            with pytest.raises(OSError) as failure:
                os.ftruncate(fd, 0)
            assert failure.value.errno == errno.EINVAL
        finally:
            os.close(fd)
