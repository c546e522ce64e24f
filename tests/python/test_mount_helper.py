"""`mount -t upg` and lines of fstab: mount(8) and its helper, /sbin/mount.upg."""

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from support import tensors
from support.mount_namespace import namespace
from support.mounting import daemons, wait_until
from support.objects import BUCKET
from support.programs import REPO, UPG, UPG_MOUNT, require, run
from test_hub import snapshot

DOCUMENT = (REPO / "docs" / "mounting.md").read_text()
USER = 65534


@pytest.fixture(scope="module")
def base():
    """Where ordinary users get in; pytest's own directories are closed to them."""
    base = Path(tempfile.mkdtemp(prefix="upg-test-"))
    base.chmod(0o755)
    yield base
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def system(base):
    with namespace(base / "system") as entered:
        yield entered


@pytest.fixture(scope="module")
def image(tiny_lossless, base):
    """With what a list of options and fstab take for the end of a name."""
    image = Path(shutil.copy(tiny_lossless.path, base / "a model, tiny.upg"))
    image.chmod(0o644)
    return image


@pytest.fixture
def point(system, base, request):
    point = base / f"{request.node.name.replace('[', '-').rstrip(']')[:60]} point"
    point.mkdir()
    yield point
    system.clear(point)


def fstab_line(image, point, options):
    file, directory = (str(path).replace(" ", "\\040") for path in (image, point))
    return f"{file} {directory} upg {options} 0 0"


def contents(system, point):
    done = system("sh", "-c", 'cd "$0" && find . -type f -exec sha256sum {} +', point)
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    return {path.removeprefix("./"): digest for digest, path in lines}


def assert_done(done):
    assert (done.returncode, done.stderr) == (0, "")


def test_mount_and_umount(system, image, point, tiny):
    assert_done(system("mount", "-t", "upg", image, point))
    ((options, kind, source),) = system.mounts(point)
    assert {"ro", "nosuid", "nodev"} <= set(options)
    assert (kind, source) == ("fuse.upg", str(image))
    assert contents(system, point) == tensors.tree(tiny)
    assert_done(system("umount", point))
    wait_until(lambda: not daemons(point), "the daemon has ended")
    assert system.mounts(point) == []


def test_upg_mount_ends_it_too(system, image, point):
    assert_done(system("mount", "-t", "upg", image, point))
    assert_done(system("upg-mount", "-u", point))
    assert system.mounts(point) == []


def test_options_of_upg_mount(system, image, point, base):
    log = base / "log, of a mount"
    options = f'cache-size=65MiB,hf_cache,repo=org/name,allow_other,log_file="{log}",threads=2,decoders=0'
    options += ",drop_compressed,verify,noexec,_netdev,nofail,x-systemd.automount"
    done = system("mount", "-v", "-t", "upg", image, point, "-o", options)
    assert done.returncode == 0, done.stderr
    assert f"mount.upg: {image} mounted on {point}\n" in done.stdout
    ((seen, _, _),) = system.mounts(point)
    assert {"allow_other", "noexec", "ro"} <= set(seen)
    assert "models--org--name/refs/main" in contents(system, point)
    assert log.exists()
    done = system("getfattr", "--only-values", "-n", "user.upg.cache.capacity", point)
    assert done.stdout == str(65 << 20)


REFUSED = {
    "unknown": ("colour=red", 1, "-o colour=red: no such option"),
    "not for mounting": ("unmount=/mnt", 1, "-o unmount=/mnt: no such option"),
    "no number": ("threads=many", 1, "--threads"),
    "a flag with a value": ("hf_cache=1", 1, "--hf-cache"),
    "remount": ("remount", 1, "umount it and mount it again"),
    "log in the mount": ("log_file={point}/log", 32, "must not lie below the mountpoint"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(system, image, point, case):
    options, code, words = REFUSED[case]
    done = system("mount", "-t", "upg", image, point, "-o", options.format(point=point))
    assert done.returncode == code and words in done.stderr, done
    assert "mount.upg: " in done.stderr or "error: " in done.stderr
    assert system.mounts(point) == [] and daemons(point) == []


def test_sloppy(system, image, point):
    done = system("mount", "-s", "-t", "upg", image, point, "-o", "colour=red,noexec")
    assert_done(done)
    ((options, _, _),) = system.mounts(point)
    assert "noexec" in options


def test_no_file_or_a_damaged_one(system, image, point, base):
    absent = base / "absent.upg"
    damaged = base / "damaged.upg"
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    for file, options in ((absent, "nofail"), (damaged, "verify")):
        done = system("mount", "-t", "upg", file, point, "-o", options)
        assert done.returncode == 32 and str(file) in done.stderr, done
        assert system.mounts(point) == [] and daemons(point) == []


def test_fake_mounts_nothing_but_looks(system, image, point, base):
    assert_done(system("mount", "-f", "-t", "upg", image, point))
    assert system.mounts(point) == [] and daemons(point) == []
    assert system("mount", "-f", "-t", "upg", base / "absent.upg", point).returncode == 32


def test_mount_all_twice_mounts_once(system, image, point, base):
    table = base / "fstab"
    table.write_text(fstab_line(image, point, "allow_other,nofail,_netdev,x-systemd.automount") + "\n")
    for _ in range(2):
        assert_done(system("mount", "-a", "-T", table))
        assert len(system.mounts(point)) == len(daemons(point)) == 1
    assert_done(system("umount", point))
    assert_done(system("mount", "-a", "-T", table))
    assert len(system.mounts(point)) == 1


def test_remount_is_refused_whatever_names_the_mount(system, image, point, base):
    table = base / "fstab-of-remount"
    table.write_text(fstab_line(image, point, "cache_size=64MiB") + "\n")
    assert_done(system("mount", "-T", table, point))
    # By fstab, and by what is mounted, whose type is fuse.upg.
    for command in (("-T", table, "-o", "remount", point), ("-o", "remount,ro", point)):
        done = system("mount", *command)
        assert done.returncode == 1 and "umount it and mount it again" in done.stderr, done
    assert len(system.mounts(point)) == 1


@pytest.mark.parametrize("case", ("a file", "verified", "an object"))
def test_in_another_namespace(system, image, point, base, s3, case):
    """Whoever enters it must have one thread: those that verified or fetched have ended."""
    file = s3.put(image, "model.upg") if case == "an object" else image
    options = ("-o", "verify") if case == "verified" else ()
    with namespace(base / f"other-{case[-4:]}") as other:
        try:
            command = ("mount", "-N", other.holder, "-t", "upg", file, point, *options)
            assert_done(system(*command, env=s3.environment()))
            assert system.mounts(point) == []
            assert len(other.mounts(point)) == 1
            assert "config.json" in contents(other, point)
        finally:
            other.clear(point)


def test_by_an_ordinary_user(system, image, point):
    """With the option `user`: through fusermount3, and unmounted by the same user."""
    require(os.stat(shutil.which("mount")).st_mode & 0o4000, "mount(8) is not for ordinary users")
    os.chown(point, USER, USER)
    system.write_fstab(fstab_line(image, point, "user,noauto,cache_size=64MiB"))
    user = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--reset-env")
    assert_done(system(*user, "mount", point))
    ((options, kind, source),) = system.mounts(point)
    assert {f"user_id={USER}", "noexec"} <= set(options)
    assert (kind, source) == ("fuse.upg", str(image))
    assert system("ls", point).returncode != 0, "root is let in"
    assert "config.json" in system(*user, "ls", point).stdout
    assert_done(system(*user, "umount", point))
    assert system.mounts(point) == []


def test_without_mount(tmp_path):
    """What the program says under this name, before anything is mounted."""
    helper = tmp_path / "mount.upg"
    helper.symlink_to(UPG_MOUNT)
    done = run(helper, "--help")
    assert done.returncode == 0 and "/etc/fstab" in done.stdout
    done = run(helper, "a.upg")
    assert done.returncode == 1 and "<DIRECTORY>" in done.stderr


# What docs/mounting.md says


def here(text, base):
    """The document's places below a directory of the test's own."""
    text = re.sub(r"(?<![\w.])/(models|mnt)\b", lambda found: f"{base}/{found[1]}", text)
    return text.replace("/var/log", str(base))


@pytest.fixture
def places(tiny, base):
    """The document's places: a model that says what repository it is from, and mountpoints."""
    place = base / "documented"
    for name in ("models", "mnt/phi4", "mnt/hub"):
        (place / name).mkdir(parents=True)
    known = snapshot(tiny, place / "cache", "microsoft/phi-4")
    assert run(UPG, "convert", known, "-o", place / "models" / "phi-4.upg", "--lossless").returncode == 0
    yield place
    shutil.rmtree(place)


def test_the_commands_of_the_document(system, places):
    blocks = re.findall(r"^```console\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    commands = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("# ")]
    assert len(commands) == 5
    path = f"{os.environ['PATH']}:/sbin"
    # The links that the first commands make.
    assert_done(system("rm", "/sbin/mount.upg", "/sbin/mount.fuse.upg"))
    try:
        for command in commands:
            assert_done(system("sh", "-ec", here(command, places), env={**os.environ, "PATH": path}))
            if command.startswith("mount "):
                point = places / re.search(r"/(mnt/\w+)", command)[1]
                assert len(system.mounts(point)) == 1 and contents(system, point)
    finally:
        for name in ("phi4", "hub"):
            system.clear(places / "mnt" / name)
    assert (places / "upg.log").exists()


def test_the_lines_of_fstab_in_the_document(system, places):
    lines = re.findall(r"^/models\S* +/mnt\S* +upg .*$", DOCUMENT, re.MULTILINE)
    assert len(lines) == 2
    point = places / "mnt" / "phi4"
    for line in lines:
        system.write_fstab(here(line, places))
        try:
            assert_done(system("mount", point))
            assert "config.json" in contents(system, point)
            assert_done(system("umount", point))
            # What is mounted at boot.
            assert_done(system("mount", "-a"))
            assert len(system.mounts(point)) == ("noauto" not in line)
        finally:
            system.clear(point)


def test_a_signed_address_does_not_belong_into_fstab(system, image, point, base, s3):
    """As the document says, mount(8) refuses it, or finds another source in mountinfo than in fstab."""
    table = base / "fstab-of-addresses"
    s3.put(image, "model.upg")
    url = s3.client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "model.upg"})
    assert "=" in url
    table.write_text(f"{url} {point} upg allow_other 0 0\n")
    for count in (1, 2):
        done = system("mount", "-a", "-T", table)
        refused = "parse error" in done.stderr
        assert len(system.mounts(point)) == (0 if refused else count), done
