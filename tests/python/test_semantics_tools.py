"""What the usual tools make of a mount, as docs/semantics.md says."""

import hashlib
import os
import shutil
import subprocess
import tarfile

import pytest

from support import tensors
from support.mounting import assert_gone, daemons, is_mounted, mounted
from support.programs import UPG_MOUNT, require, run

SHARD = "model-00001-of-00004.safetensors"


def ran(*command, **more):
    done = run(*command, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_du_apparent_size(tiny, tiny_root):
    """The sum of the lengths; some versions add those of directories, which are 0 here."""
    found = ran("du", "-s", "--apparent-size", "--block-size=1", tiny_root).split()[0]
    assert int(found) == sum(p.stat().st_size for p in tiny.rglob("*") if p.is_file())


def test_df_shows_the_image_and_that_it_is_full(tiny_lossless, tiny_root):
    columns = ran("df", "--block-size=1", "--output=source,size,used,avail", tiny_root)
    source, size, used, available = columns.splitlines()[1].split()
    assert source == "upg" and available == "0" and size == used
    image = tiny_lossless.path.stat().st_size
    assert image <= int(size) < image + 4096


def test_cp_of_the_tree(tiny, tiny_root, tmp_path):
    ran("cp", "-a", tiny_root, tmp_path / "copy")
    assert tensors.tree(tmp_path / "copy") == tensors.tree(tiny)
    copied, original = (root / "extra" / "notes.txt" for root in (tmp_path / "copy", tiny_root))
    assert copied.stat().st_mtime_ns == original.stat().st_mtime_ns
    ran("chmod", "-R", "u+w", tmp_path / "copy")  # for those who are not root


@pytest.mark.parametrize("option", ("auto", "never"))
def test_cp_reflink(tiny, tiny_root, tmp_path, option):
    ran("cp", f"--reflink={option}", tiny_root / SHARD, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tiny / SHARD).read_bytes()


def test_cp_reflink_always_fails(tiny_root, tmp_path):
    done = run("cp", "--reflink=always", tiny_root / SHARD, tmp_path / "copy")
    assert done.returncode == 1 and "failed to clone" in done.stderr


@pytest.mark.parametrize("copy", (shutil.copyfile, shutil.copy2), ids=lambda f: f.__name__)
def test_shutil(tiny, tiny_root, tmp_path, copy):
    copy(tiny_root / SHARD, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tiny / SHARD).read_bytes()


def test_tar_of_the_tree(tiny, tiny_root, tmp_path):
    """-S takes most files for sparse, as fewer bytes are stored than shown, and then finds no hole
    in them: nothing is lost, and nothing becomes a link to another file."""
    ran("tar", "-S", "-C", tiny_root, "-cf", tmp_path / "a.tar", ".")
    with tarfile.open(tmp_path / "a.tar") as archive:
        members = [m for m in archive if not m.isdir()]
        content = {m.name[2:]: archive.extractfile(m).read() for m in members if m.isreg()}
    assert len(members) == len(content)
    assert content == {path: (tiny / path).read_bytes() for path in tensors.tree(tiny)}
    (tmp_path / "out").mkdir()
    ran("tar", "-C", tmp_path / "out", "--delay-directory-restore", "-xf", tmp_path / "a.tar")
    assert tensors.tree(tmp_path / "out") == tensors.tree(tiny)
    ran("tar", "-C", tiny_root, "--compare", "-f", tmp_path / "a.tar")
    ran("chmod", "-R", "u+w", tmp_path / "out")


def test_rsync(tiny, tiny_root, tmp_path):
    require(shutil.which("rsync"), "no rsync")
    command = ["rsync", "-a", "--chmod=u+w", "--itemize-changes", f"{tiny_root}/", tmp_path / "out"]
    assert SHARD in ran(*command)
    assert tensors.tree(tmp_path / "out") == tensors.tree(tiny)
    # By size and time nothing is new, and by checksum neither.
    assert SHARD not in ran(*command) and SHARD not in ran(*command, "--checksum")
    with open(tmp_path / "out" / SHARD, "r+b") as changed:
        changed.write(b"x")
    assert SHARD in ran(*command, "--checksum", "--inplace")
    assert tensors.tree(tmp_path / "out") == tensors.tree(tiny)


def test_sha256sum_checks_against_the_source(tiny, tiny_root, tmp_path):
    hashes = "".join(f"{sha}  {path}\n" for path, sha in tensors.tree(tiny).items())
    (tmp_path / "hashes").write_text(hashes)
    ran("sha256sum", "--check", "--strict", "--quiet", tmp_path / "hashes", cwd=tiny_root)


def test_diff_and_cmp(tiny, tiny_root):
    ran("diff", "--recursive", tiny, tiny_root)
    ran("cmp", tiny / SHARD, tiny_root / SHARD)


def test_find(tiny, tiny_root):
    def found(root, *conditions):
        return sorted(ran("find", ".", *conditions, cwd=root).splitlines())

    for conditions in (
        ("-type", "f"), ("-type", "d"), ("-empty",), ("-size", "+100k"), ("-name", "*.json"),
        ("-xdev", "-samefile", SHARD), ("-type", "l"), ("-readable", "-type", "f"),
    ):  # fmt: skip
        assert found(tiny_root, *conditions) == found(tiny, *conditions), conditions
    assert found(tiny_root, "-writable") == []


def test_a_working_directory_in_the_mount(tiny, tiny_root):
    printed = ran("sha256sum", "deep/odd.bin", cwd=tiny_root / "extra")
    assert printed.split()[0] == tensors.sha256(tiny / "extra" / "deep" / "odd.bin")


def privately(script, *arguments):
    """A shell script as root in a mount namespace of its own, whose mounts go with it. What is
    unmounted outside meanwhile goes in there, too, where the system has mounts propagate."""
    require(os.geteuid() == 0, "not root")
    command = ["unshare", "--mount", "--propagation", "slave", "sh", "-euc", script, "sh"]
    return run(*command, *arguments)


def test_bind_mount(tiny, tiny_root, tmp_path):
    """Of a directory and of one file."""
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    script = """
        mount --bind "$1/extra" "$2/there" && mount --bind "$1/config.json" "$2/file"
        sha256sum "$2/there/deep/odd.bin" "$2/file"
        touch "$2/there/new" 2>&1 || true
    """
    done = privately(script, tiny_root, tmp_path)
    assert done.returncode == 0, done.stderr
    hashes = [line.split()[0] for line in done.stdout.splitlines()[:2]]
    assert hashes == [tensors.sha256(tiny / p) for p in ("extra/deep/odd.bin", "config.json")]
    assert "Read-only file system" in done.stdout


def test_chroot(tiny, tiny_root):
    """By a process that brings its program: a model holds none."""
    require(os.geteuid() == 0, "not root")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.chroot(tiny_root)
        os.chdir("/")
        with open("/extra/notes.txt", "rb") as f:
            os.write(writing, f.read(5) + b",".join(sorted(map(os.fsencode, os.listdir("/..")))))
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"kept " + b",".join(sorted(map(os.fsencode, os.listdir(tiny))))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def overlay_is_there():
    with open("/proc/filesystems") as known:
        return "overlay" in known.read()


def test_lower_layer_of_an_overlay(tiny, tiny_root, tmp_path):
    """Changes on top of a model that cannot change: a file edited, one removed, one moved."""
    require(overlay_is_there(), "no overlayfs")
    script = """
        mount -t tmpfs none "$2"; mkdir "$2/upper" "$2/work" "$2/all"
        mount -t overlay none -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/all"
        cd "$2/all"
        sha256sum "$3" extra/deep/odd.bin
        echo '{}' >config.json; rm LICENSE; mv extra/notes.txt moved; mv extra other
        printf x | dd of="$3" bs=1 seek=1000 conv=notrunc status=none
        cat config.json; ls; ls other; sha256sum moved
        head -c 1000 "$3" | sha256sum; tail -c +1002 "$3" | sha256sum
        cd /; umount "$2/all" "$2"
    """
    done = privately(script, tiny_root, tmp_path, SHARD)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == [
        tensors.sha256(tiny / path) for path in (SHARD, "extra/deep/odd.bin")
    ]
    names = sorted(set(os.listdir(tiny)) - {"extra", "LICENSE"} | {"other", "moved"})
    assert sorted(lines[3:-5]) == names and lines[2] == "{}"
    assert lines[-5:-3] == ["deep", "empty"]
    content = (tiny / SHARD).read_bytes()
    expected = [(tiny / "extra" / "notes.txt").read_bytes(), content[:1000], content[1001:]]
    hashes = [hashlib.sha256(part).hexdigest() for part in expected]
    assert [line.split()[0] for line in lines[-3:]] == hashes
    # And below nothing has changed.
    assert tensors.tree(tiny_root) == tensors.tree(tiny)



def test_another_mount_namespace_keeps_its_mount(tiny, tiny_lossless, tmp_path):
    """As a container does that was started while the mount was there."""
    require(os.geteuid() == 0, "not root")
    script = 'echo there; read go; sha256sum "$1/config.json"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    root = tmp_path / "m"
    with mounted(tiny_lossless.path, root):
        other = subprocess.Popen(
            [*command, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout.readline() == "there\n"
        assert run(UPG_MOUNT, "-u", root).returncode == 0
        assert not is_mounted(root) and len(daemons(root)) == 1
        printed, _ = other.communicate("go\n", timeout=60)
        assert printed.split()[0] == tensors.sha256(tiny / "config.json")
        assert_gone(root)
        # For the end of the test to unmount.
        assert run(UPG_MOUNT, tiny_lossless.path, root).returncode == 0
