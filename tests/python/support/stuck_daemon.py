"""A FUSE daemon that gets stuck as a real one may: a READ that it never answers has locked a
page, and a thread of its waits in the kernel to store that page. Run as root:

    stuck_daemon.py MOUNTPOINT WATCHDOG...      WATCHDOG: a command; the connection is added

prints "pushing" when the READ has come and the thread is about to wait. Nothing of
upg is involved but its watchdog.
"""

import os
import struct
import subprocess
import sys
import threading

from fuse_protocol import BATCH_FORGET, FILE, FORGET, READ, answer, mount, reply, request

NOTIFY_STORE = 4
SIZE = 1 << 20


def watch(command, point):
    with open("/proc/self/mountinfo") as mounts:
        device = next(line.split()[2] for line in mounts if line.split()[4] == point)
    command = [*command, device.removeprefix("0:")]
    watchdog = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert watchdog.stdout.readline() == "ready\n"
    watchdog.stdin.write("\n")
    watchdog.stdin.close()
    return watchdog


def main():
    point, command = sys.argv[1], sys.argv[2:]
    fd = mount(point)
    watchdog = watch(command, point) if command else None
    page = struct.pack("<2Q2I", FILE, 0, 4096, 0) + bytes(4096)
    store = struct.pack("<IiQ", 16 + len(page), NOTIFY_STORE, 0) + page
    while True:
        opcode, unique, node, _ = request(fd)
        if opcode == READ:
            threading.Thread(target=os.write, args=(fd, store), daemon=True).start()
            print("pushing", watchdog and watchdog.pid, flush=True)
        elif opcode not in (FORGET, BATCH_FORGET):
            reply(fd, unique, answer(opcode, node, SIZE))


if __name__ == "__main__":
    main()
