"""Limits on the memory of processes."""

import os
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

from .programs import require

V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


class Group:
    """A control group with a limit on its memory, page cache included."""

    def __init__(self, limit):
        require(os.getuid() == 0, "control groups need root")
        old = (V1 / "memory.limit_in_bytes").exists()
        root, setting = (V1, "memory.limit_in_bytes") if old else (V2, "memory.max")
        self.path = root / f"upg-test-{uuid.uuid4().hex[:8]}"
        try:
            self.path.mkdir()
            (self.path / setting).write_text(str(limit))
        except OSError as error:
            with suppress(OSError):
                self.path.rmdir()
            require(False, f"no control group for memory: {error}")

    def enter(self):
        """For `preexec_fn`."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def killed(self):
        for name in ("memory.oom_control", "memory.events"):
            with suppress(OSError):
                for line in (self.path / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0


@contextmanager
def memory_group(limit):
    group = Group(limit)
    try:
        yield group
    finally:
        for pid in (group.path / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (group.path.parent / "cgroup.procs").write_text(pid)
        group.path.rmdir()
