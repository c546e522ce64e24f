"""Run as root in a mount namespace of its own: an ordinary user mounts through fusermount3.

    ordinary_user.py UPG_MOUNT IMAGE BASE [OPTION...]

BASE belongs to that user. If FUSERMOUNT_PATH names another program than fusermount3, that is the only one which
upg-mount finds. Prints what it saw as JSON.
"""

import json
import os
import stat
import subprocess
import sys

USER = 65534
OTHER = 65533


def as_user(uid, *command, env=None):
    return subprocess.run(
        [str(c) for c in command],
        user=uid,
        group=uid,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=env,
    )


def daemon_status(point):
    """Lines of /proc/PID/status of the daemon, as a dictionary."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                arguments = f.read().split(b"\0")
        except OSError:
            continue
        if arguments[0].endswith(b"upg-mount") and os.fsencode(point) in arguments:
            with open(f"/proc/{pid}/status") as f:
                return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    return {}


def main(upg_mount, image, base, *options):
    # The machine's own may be closed to everybody but root.
    device = os.path.join(base, "fuse")
    os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(10, 229))
    os.chmod(device, 0o666)
    subprocess.run(["mount", "--bind", device, "/dev/fuse"], check=True)
    point = os.path.join(base, "point")
    os.mkdir(point)
    os.chown(point, USER, USER)

    seen = {}
    env = {**os.environ, "PATH": "/none"} if "FUSERMOUNT_PATH" in os.environ else None
    done = as_user(USER, upg_mount, image, point, *options, env=env)
    seen["mount"] = [done.returncode, done.stderr]
    if done.returncode == 0:
        with open("/proc/self/mountinfo") as f:
            (line,) = [line for line in f if line.split()[4] == point]
        seen["options"] = line.split()[5].split(",")
        seen["type"] = line.split(" - ")[1].split()[0]
        status = daemon_status(point)
        seen["daemon"] = {k: status[k] for k in ("Uid", "CapEff", "CapPrm")}
        # Not Python: it may lie where only root gets.
        script = 'cd "$0" && find . -type f -exec sha256sum {} +'
        done = as_user(USER, "sh", "-c", script, point)
        lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
        seen["files"] = {path.removeprefix("./"): digest for digest, path in lines}
        done = as_user(OTHER, "ls", point)
        seen["other user"] = [done.returncode, done.stderr]
        try:
            os.listdir(point)
            seen["root"] = "in"
        except OSError as error:
            seen["root"] = error.strerror
        done = as_user(USER, upg_mount, "-u", point, env=env)
        seen["unmount"] = [done.returncode, done.stderr]
        with open("/proc/self/mountinfo") as f:
            seen["left"] = [line for line in f if line.split()[4] == point]
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
