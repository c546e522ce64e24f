"""mmap(2) and the calls on mappings, as docs/semantics.md says."""

import mmap
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from support.mounting import drop_page_cache, wait_until
from support.residence import share
from support.syscalls import Mapping, call, opened, outcome

SHARD = "model-00001-of-00004.safetensors"
PAGE = mmap.PAGESIZE
NONE, READ, WRITE, EXEC = 0, mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_EXEC
PRIVATE, SHARED = Mapping.PRIVATE, Mapping.SHARED
# What Python's mmap module does not name.
NUMBERS = {"COLD": 20, "PAGEOUT": 21, "POPULATE_READ": 22, "POPULATE_WRITE": 23}


@pytest.fixture(scope="module")
def content(tiny):
    data = (tiny / SHARD).read_bytes()
    assert len(data) % PAGE, "the last page must have a tail"
    return data


@pytest.fixture
def fd(tiny_root):
    with opened(tiny_root / SHARD) as fd:
        yield fd


def mapping(protection, flags, offset=0, path=None, how=os.O_RDONLY):
    """Maps 10 pages, and closes the descriptor first: a mapping needs none."""

    def attempt(root):
        fd = os.open(root / (path or SHARD), how)
        try:
            made = Mapping(fd, 10 * PAGE, protection, flags, offset)
        finally:
            os.close(fd)
        with made:
            return "ok" if protection & READ == 0 or made.read(0, PAGE) else "empty"

    return attempt


MAPPINGS = {
    "private": (mapping(READ, PRIVATE), "ok"),
    "private, writable": (mapping(READ | WRITE, PRIVATE), "ok"),
    "private, executable": (mapping(READ | EXEC, PRIVATE), "ok"),
    "private, inaccessible": (mapping(NONE, PRIVATE), "ok"),
    "shared": (mapping(READ, SHARED), "ok"),
    "shared, executable": (mapping(READ | EXEC, SHARED), "ok"),
    "shared, writable": (mapping(READ | WRITE, SHARED), "EACCES"),
    "MAP_SHARED_VALIDATE": (mapping(READ, Mapping.VALIDATE), "ok"),
    "MAP_SYNC": (mapping(READ, Mapping.VALIDATE | Mapping.SYNC), "EOPNOTSUPP"),
    "MAP_HUGETLB": (mapping(READ, PRIVATE | 0x40000), "EINVAL"),
    "by an O_DIRECT descriptor": (mapping(READ, SHARED, how=os.O_DIRECT), "ok"),
    "by an O_PATH descriptor": (mapping(READ, SHARED, how=os.O_PATH), "EBADF"),
    "at an odd offset": (mapping(READ, PRIVATE, 1), "EINVAL"),
    "a directory": (mapping(READ, PRIVATE, path="extra"), "ENODEV"),
}


@pytest.mark.parametrize(("attempt", "expected"), MAPPINGS.values(), ids=MAPPINGS)
def test_mappings(tiny_root, attempt, expected):
    assert outcome(attempt, tiny_root) == expected


def test_noexec(tiny_lossless, mount):
    with mount(tiny_lossless.path, "-o", "noexec") as root:
        assert outcome(mapping(READ | EXEC, PRIVATE), root) == "EPERM"
        assert outcome(mapping(READ, PRIVATE), root) == "ok"
        assert os.statvfs(root).f_flag & os.ST_NOEXEC
        assert outcome(os.execve, root / SHARD, ["x"], {}) == "EACCES"


def test_behind_the_end_the_last_page_is_zeros(fd, content):
    tail = -len(content) % PAGE
    with Mapping(fd, len(content) + tail, READ, SHARED) as view:
        assert view.read(0, len(content) + tail) == content + bytes(tail)


def test_a_private_page_keeps_what_was_written(fd, tiny_root, content):
    with Mapping(fd, len(content), READ | WRITE, PRIVATE) as view:
        view.write(100_000, b"mine")
        view.write(len(content), b"behind the end")
        assert view.read(99_999, 6) == content[99_999:100_000] + b"mine" + content[100_004:100_005]
        view.call("madvise", NUMBERS["PAGEOUT"])
        assert view.read(100_000, 4) == b"mine"
        assert (tiny_root / SHARD).read_bytes() == content
        # Only this throws it away.
        view.call("madvise", mmap.MADV_DONTNEED)
        assert view.read(0, len(content)) == content


@pytest.mark.parametrize("flags", ("PRIVATE", "SHARED"))
def test_a_page_behind_the_end_is_sigbus(tiny_root, flags):
    """As with every file; a reader that trusts a wrong length ends so."""
    program = """
        import os, sys
        from support.syscalls import Mapping
        fd = os.open(sys.argv[1], os.O_RDONLY)
        size = os.fstat(fd).st_size
        view = Mapping(fd, size + (1 << 20), 1, getattr(Mapping, sys.argv[2]))
        view.read(size - 1, 2)
        print("still here", flush=True)
        view.read(size + 4096, 1)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), tiny_root / SHARD, flags]
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "still here\n", done.stderr
    assert done.returncode == -signal.SIGBUS


@pytest.mark.parametrize("flags", (PRIVATE, SHARED), ids=("PRIVATE", "SHARED"))
def test_map_populate_reads_at_once(tiny_root, fd, content, flags):
    drop_page_cache(tiny_root / SHARD)
    with Mapping(fd, len(content), READ, flags | Mapping.POPULATE) as view:
        assert all(view.resident())
        assert view.read(0, len(content)) == content


def protect(protection, flags):
    def attempt(fd):
        with Mapping(fd, 10 * PAGE, READ, flags) as view:
            view.call("mprotect", protection)

    return attempt


PROTECTIONS = {
    "shared, writable": (protect(READ | WRITE, SHARED), "EACCES"),
    "shared, executable": (protect(READ | EXEC, SHARED), "ok"),
    "private, writable": (protect(READ | WRITE, PRIVATE), "ok"),
    "private, executable": (protect(READ | EXEC, PRIVATE), "ok"),
    "private, inaccessible": (protect(NONE, PRIVATE), "ok"),
}


@pytest.mark.parametrize(("attempt", "expected"), PROTECTIONS.values(), ids=PROTECTIONS)
def test_mprotect(fd, attempt, expected):
    assert outcome(attempt, fd) == expected


ADVICE = {
    "NORMAL": "ok", "RANDOM": "ok", "SEQUENTIAL": "ok", "WILLNEED": "ok", "DONTNEED": "ok",
    "COLD": "ok", "PAGEOUT": "ok", "POPULATE_READ": "ok", "POPULATE_WRITE": "EINVAL",
    "FREE": "EINVAL", "REMOVE": "EACCES", "DONTFORK": "ok",
}  # fmt: skip


@pytest.mark.parametrize(("advice", "expected"), ADVICE.items(), ids=ADVICE)
def test_madvise(fd, content, advice, expected):
    """Whatever is advised, before and after reading, the bytes stay."""
    number = NUMBERS.get(advice)
    number = getattr(mmap, "MADV_" + advice) if number is None else number
    with Mapping(fd, len(content), READ, SHARED) as view:
        for _ in range(2):
            assert outcome(view.call, "madvise", number) == expected
            assert view.read(0, len(content)) == content


def test_madvise_hugepage(fd, content):
    """Kernels without huge pages refuse it; with them nothing is seen of it."""
    with Mapping(fd, len(content), READ, PRIVATE) as view:
        assert outcome(view.call, "madvise", mmap.MADV_HUGEPAGE) in ("ok", "EINVAL")
        assert view.read(0, len(content)) == content


def test_madvise_willneed_fetches(tiny_root, fd, content):
    drop_page_cache(tiny_root / SHARD)
    with Mapping(fd, len(content), READ, SHARED) as view:
        view.call("madvise", mmap.MADV_WILLNEED)
        wait_until(lambda: any(view.resident()), "pages that were advised are in memory")


def test_madvise_populate_read_fetches_all(tiny_root, fd, content):
    drop_page_cache(tiny_root / SHARD)
    with Mapping(fd, len(content), READ, PRIVATE) as view:
        view.call("madvise", NUMBERS["POPULATE_READ"])
        assert all(view.resident())


@pytest.mark.parametrize("flags", (PRIVATE, SHARED), ids=("PRIVATE", "SHARED"))
def test_pageout_and_again(tiny_root, fd, content, flags):
    """What a machine short of memory does to pages, again and again."""
    drop_page_cache(tiny_root / SHARD)
    for _ in range(5):
        with Mapping(fd, len(content), READ, flags) as view:
            for _ in range(3):
                assert view.read(0, len(content)) == content
                view.call("madvise", NUMBERS["PAGEOUT"])
    drop_page_cache(tiny_root / SHARD)
    assert share(tiny_root / SHARD) == 0


def test_mincore_counts_the_page_cache(tiny_root, fd, content):
    drop_page_cache(tiny_root / SHARD)
    with Mapping(fd, len(content), READ, SHARED) as view:
        assert not any(view.resident())
        assert os.pread(fd, len(content), 0) == content
        assert all(view.resident())


def test_msync_and_mlock(fd, content):
    with Mapping(fd, len(content), READ, SHARED) as view:
        for flag in (1, 4, 2):  # MS_ASYNC, MS_SYNC, MS_INVALIDATE
            assert view.call("msync", flag) == 0
        assert view.call("mlock", length=50_000) == 0
        assert all(view.resident()[:12])
        assert view.call("munlock", length=50_000) == 0


def test_a_mapping_outlives_its_descriptor(tiny_root, content):
    with opened(tiny_root / SHARD) as fd:
        view = Mapping(fd, len(content), READ, PRIVATE)
    with view:
        assert view.read(0, len(content)) == content


def test_a_child_reads_what_was_mapped(fd, content):
    with Mapping(fd, len(content), READ, PRIVATE) as view:
        view.read(0, 10)
        child = os.fork()
        if child == 0:
            os._exit(0 if view.read(0, len(content)) == content else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_syncing(fd, tiny_root):
    with opened(tiny_root) as directory:
        for name in ("fsync", "fdatasync", "syncfs"):
            assert call(name, fd) == call(name, directory) == 0
    assert call("sync_file_range", fd, 0, 0, 7) == 0
