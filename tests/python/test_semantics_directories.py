"""Reading directories, as docs/semantics.md says."""

import os
import stat
import threading

import pytest

from support import tensors
from support.programs import convert, often
from support.syscalls import getdents, opened, outcome

MANY = 700
DEEPEST = 16


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A directory that takes several getdents64, with names of all lengths and scripts."""
    root = tmp_path_factory.mktemp("source") / "crowded"
    (root / "many" / "below").mkdir(parents=True)
    for i in range(MANY):
        (root / "many" / f"{i:04}-{'ä€😀x'[i % 4] * (i % 60)}").write_text(str(i))
    tensors.write(root / "many" / "below" / "x.safetensors", [tensors.gaussian("x", (3, 5))])
    return root


@pytest.fixture(scope="module")
def directory(crowded, tmp_path_factory, mount_for_module):
    image = convert(crowded, tmp_path_factory.mktemp("upg") / "crowded.upg", "--lossless")
    return mount_for_module(image.path) / "many"


@pytest.fixture
def fd(directory):
    with opened(directory, os.O_DIRECTORY) as fd:
        yield fd


def rest(fd, size=4096):
    """What is left to read, by as many calls as it takes."""
    found = []
    while part := getdents(fd, size):
        found += part
    return found


def names(entries):
    return [name for _, _, _, name in entries]


def test_entries_are_sorted_and_complete(crowded, fd):
    found = names(rest(fd))
    assert found[:2] == [b".", b".."]
    assert found[2:] == sorted(os.listdir(os.fsencode(crowded / "many")))


def test_every_size_of_buffer_gives_the_same(directory, fd):
    whole = rest(fd, 1 << 20)
    assert len(whole) == MANY + 3
    for size in (280, 281, 1000, 32_768):
        with opened(directory, os.O_DIRECTORY) as again:
            assert rest(again, size) == whole, size


def test_a_buffer_too_small_for_an_entry(fd):
    assert outcome(getdents, fd, 20) == "EINVAL"


def test_d_type_and_d_ino_are_those_of_stat(directory, fd):
    for inode, _, kind, name in rest(fd):
        found = os.lstat(name, dir_fd=fd) if name != b".." else os.stat(directory.parent)
        assert found.st_ino == inode, name
        assert kind == (4 if stat.S_ISDIR(found.st_mode) else 8), name
    assert sum(entry.is_dir() for entry in os.scandir(directory)) == 1


def test_seekdir_goes_on_where_telldir_was(fd):
    whole = rest(fd, 1 << 20)
    for i in (*range(0, len(whole), 37), len(whole) - 1):
        os.lseek(fd, whole[i][1], os.SEEK_SET)
        assert rest(fd, 2000) == whole[i + 1 :], i


def test_seekdir_before_anything_was_read(directory):
    """Also with nothing of the directory in memory, and in the middle."""
    with opened(directory, os.O_DIRECTORY) as fd:
        os.lseek(fd, 100, os.SEEK_SET)
        late = rest(fd)
    with opened(directory, os.O_DIRECTORY) as fd:
        assert rest(fd)[100:] == late and late


def test_rewinddir(fd):
    first = getdents(fd, 4096)
    rest(fd)
    assert getdents(fd, 4096) == []
    os.lseek(fd, 0, os.SEEK_SET)
    assert getdents(fd, 4096) == first


def test_seeking_beyond_the_last_entry(fd):
    os.lseek(fd, 1 << 40, os.SEEK_SET)
    assert getdents(fd, 4096) == []


def test_the_order_is_that_of_every_reader(directory, fd):
    """While eight others read, seek and start anew."""
    whole = rest(fd, 1 << 20)
    wrong = []

    def read_again_and_again(number):
        for i in range(often(10, 500)):
            with opened(directory, os.O_DIRECTORY) as own:
                os.lseek(own, whole[number * 50][1], os.SEEK_SET)
                found = getdents(own, 500) + rest(own, 700 + number)
                if found != whole[number * 50 + 1 :]:
                    wrong.append((number, i))

    readers = [threading.Thread(target=read_again_and_again, args=(n,)) for n in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_names_are_found_whatever_their_script(crowded, directory):
    for name in os.listdir(crowded / "many"):
        if (crowded / "many" / name).is_file():
            assert (directory / name).read_bytes() == (crowded / "many" / name).read_bytes()


def test_a_file_is_no_directory(directory):
    name = min(os.listdir(directory))
    with opened(directory / name) as fd:
        assert outcome(getdents, fd, 4096) == "ENOTDIR"
    assert outcome(os.listdir, directory / name) == "ENOTDIR"


def test_a_deep_path(tmp_path, mount):
    """As deep as a conversion goes."""
    root = tmp_path / "deep"
    path = root.joinpath(*["d"] * DEEPEST)
    path.mkdir(parents=True)
    tensors.write(path / "x.safetensors", [tensors.gaussian("x", (3, 5))])
    image = convert(root, tmp_path / "deep.upg", "--lossless")
    with mount(image.path) as top:
        assert tensors.tree(top) == tensors.tree(root)
        assert sum(1 for _ in os.walk(top)) == DEEPEST + 1
