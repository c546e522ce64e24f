"""What a mount shows: the files of the model, under their names, with their bytes."""

import os
import stat

import pytest

from support import tensors
from support.programs import convert, run


def small_files(root):
    return {
        path: sha for path, sha in tensors.tree(root).items() if not path.endswith(".safetensors")
    }


def test_lossless_mount_has_every_byte_of_the_source(tiny, tiny_lossless, mount):
    with mount(tiny_lossless.path) as root:
        assert tensors.tree(root) == tensors.tree(tiny)


def test_lossy_mount_keeps_small_files_and_headers(tiny, tiny_lossy, mount):
    with mount(tiny_lossy.path) as root:
        assert small_files(root) == small_files(tiny)
        shards = sorted(tiny.glob("*.safetensors"))
        assert len(shards) == 4
        for shard in shards:
            here = (root / shard.name).read_bytes()
            source = shard.read_bytes()
            header = 8 + int.from_bytes(source[:8], "little")
            assert len(here) == len(source)
            assert here[:header] == source[:header]
            assert here != source, "nothing was coded lossily"


def test_lossy_mount_changes_matrices_only_and_little(tiny, tiny_lossy, mount):
    source = tensors.read_model(tiny)
    with mount(tiny_lossy.path) as root:
        decoded = tensors.read_model(root)
    assert decoded.keys() == source.keys()
    for name, tensor in source.items():
        if len(tensor.shape) == 1:
            assert decoded[name].data == tensor.data, name
        else:
            assert decoded[name].data != tensor.data, name
            # A Gaussian's bound is 6.02 dB a bit; matrices get different numbers of bits.
            bits = tiny_lossy.tensor(name)["bits_per_weight"]
            assert tensors.snr(tensor, decoded[name]) > 6.02 * bits - 3, name


def test_directories_list_exactly_what_is_there(tiny, tiny_lossless, mount):
    with mount(tiny_lossless.path) as root:
        for directory in (".", "extra", "extra/deep"):
            assert sorted(os.listdir(root / directory)) == sorted(os.listdir(tiny / directory))
        assert (root / "extra" / "empty").stat().st_size == 0
        with pytest.raises(FileNotFoundError):
            os.stat(root / "extra" / "absent")
        with pytest.raises(NotADirectoryError):
            os.stat(root / "config.json" / "x")
        assert os.stat(root / "extra" / "..").st_ino == os.stat(root).st_ino


def test_one_safetensors_file_as_source(mixed, mixed_lossless, mount):
    with mount(mixed_lossless.path) as root:
        assert tensors.tree(root) == {mixed.name: tensors.sha256(mixed)}


def test_unsharded_directory_as_source(tmp_path, mount):
    source = tmp_path / "one"
    tensors.write(
        source / "model.safetensors", [tensors.gaussian("w", (300, 500))], {"format": "pt"}
    )
    (source / "config.json").write_text("{}\n")
    image = convert(source, tmp_path / "one.upg", "--lossless")
    with mount(image.path) as root:
        assert tensors.tree(root) == tensors.tree(source)


def test_attributes(tiny, tiny_lossy, mount):
    with mount(tiny_lossy.path) as root:
        inodes = set()
        for directory, _, files in os.walk(root):
            status = os.stat(directory)
            assert stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o555
            for name in files:
                status = os.stat(os.path.join(directory, name))
                assert stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o444
                assert status.st_blksize >= 4096 and status.st_blksize.bit_count() == 1
                assert status.st_nlink == 1
                inodes.add(status.st_ino)
    assert len(inodes) == len(tensors.tree(tiny)), "inodes are not unique"


def test_times_and_inodes_are_those_of_every_mount(tiny_lossy, mount):
    """Tools that cache by them would start anew after each mount."""

    def seen():
        with mount(tiny_lossy.path) as root:
            states = {p.relative_to(root): p.stat() for p in (root, *root.rglob("*"))}
        return {p: (s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for p, s in states.items()}

    first = seen()
    assert len(first) > 10
    assert seen() == first


def test_du_shows_the_compressed_size(tiny_lossy, mount):
    size = tiny_lossy.path.stat().st_size
    with mount(tiny_lossy.path) as root:
        paths = [p for p in root.rglob("*") if p.is_file()]
        used = sum(p.stat().st_blocks * 512 for p in paths)
        apparent = sum(p.stat().st_size for p in paths)
        # Each file is rounded up to blocks of 512 bytes; the index belongs to no file.
        assert 0.9 * size <= used <= size + 512 * len(paths)
        assert used < apparent / 3
        for path in paths:
            # tar -S and cp --sparse take a file without blocks for a hole.
            assert path.stat().st_blocks >= 1 or path.stat().st_size == 0, path


def test_du_itself_says_so(tiny_lossy, mount):
    """Directories must not count again what their files count."""
    size = tiny_lossy.path.stat().st_size
    with mount(tiny_lossy.path) as root:
        done = run("du", "-s", "--block-size=1", root)
        assert done.returncode == 0, done.stderr
        assert 0.9 * size <= int(done.stdout.split()[0]) <= size + 64_000


def test_statfs(tiny_lossless, mount):
    with mount(tiny_lossless.path) as root:
        state = os.statvfs(root)
        assert state.f_flag & os.ST_RDONLY
        assert state.f_namemax >= 255
        assert state.f_bavail == 0 and state.f_ffree == 0
        assert state.f_blocks > 0 and state.f_bsize > 0
        assert state.f_files >= len(tensors.tree(root))
