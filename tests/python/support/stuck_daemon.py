"""A FUSE daemon that gets stuck as a real one may: a READ that it never answers has locked a
page, and a thread of its waits in the kernel to store that page. Run as root:

    stuck_daemon.py MOUNTPOINT WATCHDOG...      WATCHDOG: a command; the connection is added

prints "pushing" when the READ has come and the thread is about to wait. The protocol is
the kernel's own (linux/fuse.h), so that nothing of upg is involved but its watchdog.
"""

import ctypes
import os
import struct
import subprocess
import sys
import threading

LOOKUP, FORGET, GETATTR, OPEN, READ, INIT, BATCH_FORGET = 1, 2, 3, 14, 15, 26, 42
NOTIFY_STORE = 4
ROOT, FILE, SIZE = 1, 2, 1 << 20


def attributes(ino):
    mode = 0o040555 if ino == ROOT else 0o100444
    size = 0 if ino == ROOT else SIZE
    return struct.pack("<6Q10I", ino, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(opcode, node):
    if opcode == INIT:
        return struct.pack("<4I2H2I2HI28x", 7, 31, 1 << 17, 0, 16, 12, 1 << 17, 1, 32, 0, 0)
    if opcode == LOOKUP:
        return struct.pack("<4Q2I", FILE, 0, 3600, 3600, 0, 0) + attributes(FILE)
    if opcode == GETATTR:
        return struct.pack("<Q2I", 3600, 0, 0) + attributes(node)
    if opcode == OPEN:
        return struct.pack("<Q2I", 0, 0, 0)
    return b""


def mount(point):
    fd = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    data = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    read_only = 1
    if libc.mount(b"stuck", os.fsencode(point), b"fuse", read_only, data):
        raise OSError(ctypes.get_errno(), "mount")
    return fd


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
        request = os.read(fd, 1 << 20)
        _, opcode, unique, node = struct.unpack_from("<2I2Q", request)
        if opcode == READ:
            threading.Thread(target=os.write, args=(fd, store), daemon=True).start()
            print("pushing", watchdog and watchdog.pid, flush=True)
        elif opcode not in (FORGET, BATCH_FORGET):
            body = answer(opcode, node)
            os.write(fd, struct.pack("<IiQ", 16 + len(body), 0, unique) + body)


if __name__ == "__main__":
    main()
