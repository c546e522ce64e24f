"""A mount namespace of a test's own, where mount(8) finds the helper as after an installation."""

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

from .mounting import daemons, wait_until
from .programs import UPG_MOUNT, require, require_fuse, run

# The machine's own /sbin, fstab, utab and /dev/fuse (which may be closed to ordinary users) stay
# as they are.
PREPARE = r"""
set -e
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir upper work run
sbin=$(readlink -f /sbin)
mount -t overlay overlay -o lowerdir="$sbin",upperdir=upper,workdir=work "$sbin"
install -m 755 "$2" /sbin/upg-mount
ln -s upg-mount /sbin/mount.upg
ln -s mount.upg /sbin/mount.fuse.upg
mkdir -p /run/mount
mount --bind run /run/mount
mknod -m 666 fuse c 10 229
mount --bind fuse /dev/fuse
touch fstab
mount --bind fstab /etc/fstab
echo ready
read -r end
"""


def unescaped(field):
    """mountinfo writes blanks as three octal digits."""
    return field.encode().decode("unicode_escape")


class Namespace:
    def __init__(self, holder):
        self.holder = holder

    def __call__(self, *command, **more):
        return run("nsenter", f"--mount=/proc/{self.holder}/ns/mnt", *command, timeout=60, **more)

    def mounts(self, point):
        """(options, type, source) of what is mounted at a point; options are the mount's and the
        file system's."""
        found = []
        for line in Path(f"/proc/{self.holder}/mountinfo").read_text().splitlines():
            own, common = (part.split(" ") for part in line.split(" - "))
            kind, source, options = common
            if unescaped(own[4]) == str(point):
                found.append((own[5].split(",") + options.split(","), kind, unescaped(source)))
        return found

    def write_fstab(self, *lines):
        done = self("tee", "/etc/fstab", input="".join(f"{line}\n" for line in lines))
        assert done.returncode == 0, done.stderr

    def clear(self, point):
        while self.mounts(point):
            assert self("umount", "-l", point).returncode == 0
        wait_until(lambda: not daemons(point), f"the daemon of {point} has ended")


@contextmanager
def namespace(base):
    require(os.getuid() == 0, "needs root")
    require_fuse()
    require(shutil.which("nsenter"), "no nsenter")
    base.mkdir()
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", PREPARE, "sh", base, UPG_MOUNT]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([str(word) for word in command], **streams) as holder:
        ready = holder.stdout.readline()
        if not ready:
            require(False, f"no mount namespace with a /sbin of its own: {holder.stderr.read().strip()}")
        try:
            yield Namespace(holder.pid)
        finally:
            holder.communicate("end\n", timeout=30)
