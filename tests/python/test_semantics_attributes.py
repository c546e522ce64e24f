"""stat, statfs, access, attributes, ioctl and file handles, as docs/semantics.md says."""

import ctypes
import fcntl
import os
import struct
from pathlib import Path

import pytest

from support.programs import require
from support.syscalls import AT_FDCWD, call, file_handle, opened, outcome

SHARD = "model-00001-of-00004.safetensors"


def statx(path):
    """(mask of what is told, its fields by name)."""
    buffer = ctypes.create_string_buffer(256)
    call("statx", AT_FDCWD, os.fsencode(path), 0, 0xFFF, buffer)
    names = "mask blksize attributes nlink uid gid mode ino size blocks"
    found = dict(zip(names.split(), struct.unpack_from("IIQIIIH2xQQQ", buffer)))
    stamps = ("atime", "btime", "ctime", "mtime")
    seconds = {n: struct.unpack_from("qI", buffer, 0x40 + 16 * i) for i, n in enumerate(stamps)}
    return found | seconds


def test_statx_is_stat_without_a_birth_time(tiny_root):
    for path in (tiny_root, tiny_root / SHARD, tiny_root / "extra" / "empty"):
        found, known = statx(path), os.stat(path)
        for name in ("blksize", "nlink", "uid", "gid", "mode", "ino", "size", "blocks"):
            assert found[name] == getattr(known, "st_" + name), name
        assert found["mask"] & 0x7FF == 0x7FF and not found["mask"] & 0x800


def test_all_times_are_that_of_the_image(tiny_lossless, tiny_root):
    image = int(tiny_lossless.path.stat().st_mtime)
    for path in (tiny_root, tiny_root / SHARD):
        (tiny_root / SHARD).read_bytes()  # no access time is kept
        found = os.stat(path)
        assert {found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns} == {image * 10**9}


def test_owner_is_that_of_the_image(tiny_lossless, tiny_root):
    image = tiny_lossless.path.stat()
    found = [os.stat(path) for path in (tiny_root, tiny_root / SHARD)]
    assert {(s.st_uid, s.st_gid) for s in found} == {(image.st_uid, image.st_gid)}


def test_links(tiny_root):
    """find(1) leaves directories alone whose links say that nothing is below."""
    names = (".", "extra", "extra/deep", SHARD)
    links = {name: os.stat(tiny_root / name).st_nlink for name in names}
    assert links == {".": 3, "extra": 3, "extra/deep": 2, SHARD: 1}


def test_all_is_one_file_system(tiny_root):
    devices = {os.lstat(p).st_dev for p in (tiny_root, *tiny_root.rglob("*"))}
    assert len(devices) == 1 and os.path.ismount(tiny_root)
    assert not os.path.ismount(tiny_root / "extra")


def test_statfs(tiny_root):
    buffer = ctypes.create_string_buffer(120)
    call("statfs", os.fsencode(tiny_root / SHARD), buffer)
    kind, block, blocks, free, available, files, files_free = struct.unpack_from("7q", buffer)
    assert kind == 0x65735546  # FUSE_SUPER_MAGIC
    assert block == 4096 and blocks > 0 and files > 0
    assert free == available == files_free == 0


ACCESS = {
    "F_OK": (lambda root: call("access", os.fsencode(root / SHARD), os.F_OK), "ok"),
    "R_OK": (lambda root: call("access", os.fsencode(root / SHARD), os.R_OK), "ok"),
    "W_OK": (lambda root: call("access", os.fsencode(root / SHARD), os.W_OK), "EROFS"),
    "X_OK": (lambda root: call("access", os.fsencode(root / SHARD), os.X_OK), "EACCES"),
    "X_OK of a directory": (lambda root: call("access", os.fsencode(root), os.X_OK), "ok"),
    "W_OK of a directory": (lambda root: call("access", os.fsencode(root), os.W_OK), "EROFS"),
    "AT_EACCESS": (
        lambda root: call("faccessat", AT_FDCWD, os.fsencode(root / SHARD), os.W_OK, 0x200),
        "EROFS",
    ),
}


@pytest.mark.parametrize(("attempt", "expected"), ACCESS.values(), ids=ACCESS)
def test_access(tiny_root, attempt, expected):
    assert outcome(attempt, tiny_root) == expected


def get(name, size):
    return lambda path: call("getxattr", os.fsencode(path), name, bytes(size), size)


XATTRS = {
    "length of a value": (get(b"user.upg.codec", 0), "8"),
    "value that fits": (get(b"user.upg.codec", 8), "8"),
    "value that does not fit": (get(b"user.upg.codec", 7), "ERANGE"),
    "list that does not fit": (
        lambda path: call("listxattr", os.fsencode(path), bytes(5), 5),
        "ERANGE",
    ),
    "absent name": (get(b"user.absent", 100), "ENODATA"),
    "absent counter": (get(b"user.upg.absent", 100), "ENODATA"),
    "security.capability": (get(b"security.capability", 100), "ENODATA"),
    "security.selinux": (get(b"security.selinux", 100), "ENODATA"),
    "system.posix_acl_access": (get(b"system.posix_acl_access", 100), "ENODATA"),
    "trusted.overlay.opaque": (get(b"trusted.overlay.opaque", 100), "ENODATA"),
    "user.overlay.opaque": (get(b"user.overlay.opaque", 100), "ENODATA"),
    "setting": (lambda path: os.setxattr(path, "user.new", b"x"), "EROFS"),
    "setting an ACL": (lambda path: os.setxattr(path, "system.posix_acl_access", b"x"), "EROFS"),
    "removing what is absent": (lambda path: os.removexattr(path, "user.absent"), "EROFS"),
}


@pytest.mark.parametrize(("attempt", "expected"), XATTRS.values(), ids=XATTRS)
def test_xattrs(tiny_root, attempt, expected):
    assert outcome(attempt, tiny_root / SHARD) == expected


def ioctl(number, given):
    def attempt(root):
        with opened(root / SHARD) as fd:
            found = fcntl.ioctl(fd, number, given)
            return int.from_bytes(found[:8], "little")

    return attempt


def length_left(root):
    return "length" if ioctl(0x541B, bytes(4))(root) == (root / SHARD).stat().st_size else None


def clone(root):
    with opened(root / SHARD) as fd, opened(root / "config.json") as other:
        fcntl.ioctl(other, 0x40049409, fd)


IOCTLS = {
    "FS_IOC_GETFLAGS": (ioctl(0x80086601, bytes(8)), "ENOTTY"),
    "FS_IOC_SETFLAGS": (ioctl(0x40086602, bytes(8)), "EROFS"),
    "FS_IOC_FSGETXATTR": (ioctl(0x801C581F, bytes(28)), "ENOTTY"),
    "FS_IOC_FSSETXATTR": (ioctl(0x401C5820, bytes(28)), "EROFS"),
    "FS_IOC_FIEMAP": (ioctl(0xC020660B, struct.pack("QQ4I", 0, 1 << 20, 0, 0, 0, 0)), "EOPNOTSUPP"),
    "FIGETBSZ": (ioctl(2, bytes(4)), "4096"),
    "FIONREAD": (length_left, "length"),
    "FICLONE": (clone, "EBADF"),
    "FS_IOC_ENABLE_VERITY": (ioctl(0x40806685, bytes(128)), "ENOTTY"),
    "an unknown one": (ioctl(0x1234, bytes(8)), "ENOTTY"),
}


@pytest.mark.parametrize(("attempt", "expected"), IOCTLS.values(), ids=IOCTLS)
def test_ioctl(tiny_root, attempt, expected):
    assert outcome(attempt, tiny_root) == expected


def test_fibmap_knows_no_block(tiny_root):
    require(os.geteuid() == 0, "FIBMAP needs root")
    assert ioctl(1, bytes(4))(tiny_root) == 0


def forgotten():
    """Has the kernel forget the inodes that nobody uses; once is not enough for those in use a
    moment ago."""
    drop_caches = Path("/proc/sys/vm/drop_caches")
    require(os.access(drop_caches, os.W_OK), "caches cannot be dropped")
    for _ in range(3):
        drop_caches.write_text("2")


def test_file_handles_last(tiny, tiny_root):
    """An NFS server has nothing else to find a file by; it may hold one for weeks."""
    require(os.geteuid() == 0, "open_by_handle_at needs root")
    path = Path("extra") / "deep" / "odd.bin"
    handle, _ = file_handle(tiny_root / path)
    with opened(tiny_root) as mount:
        for _ in range(2):
            fd = call("open_by_handle_at", mount, handle, os.O_RDONLY)
            assert os.pread(fd, 100, 0) == (tiny / path).read_bytes()[:100]
            os.close(fd)
            forgotten()
        directory, _ = file_handle(tiny_root / "extra" / "deep")
        forgotten()
        # The directories above are found from it.
        fd = call("open_by_handle_at", mount, directory, os.O_RDONLY)
        assert os.readlink(f"/proc/self/fd/{fd}") == str(tiny_root / "extra" / "deep")
        assert os.stat("..", dir_fd=fd).st_ino == os.stat(tiny_root / "extra").st_ino
        os.close(fd)


def test_a_handle_of_no_file_is_stale(tiny_root):
    require(os.geteuid() == 0, "open_by_handle_at needs root")
    handle, _ = file_handle(tiny_root / SHARD)
    node = struct.unpack_from("I", handle.raw, 12)[0]  # 64 bits, the upper half first
    struct.pack_into("I", handle, 12, node + 10_000)
    with opened(tiny_root) as mount:
        assert outcome(call, "open_by_handle_at", mount, handle, os.O_RDONLY) == "ESTALE"
