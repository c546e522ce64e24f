"""A conversion killed with SIGKILL at any moment: what is at the destination is whole, old or new,
or absent; the source is as it was; and the next run works and removes what the last one left."""

import os
import random
import signal
import subprocess
import time

import pytest

from support.conversions import TEMPORARY, temporaries
from support.processes import STRACE, require_strace
from support.programs import often

pytestmark = pytest.mark.timeout(often(300, 7200))

# Whatever changes a directory or waits for the disk, once the blocks are written.
STEPS = "fsync,rename,renameat2,mkdir,copy_file_range,sendfile,unlink,unlinkat,rmdir"


@pytest.mark.parametrize("force", (False, True), ids=("fresh", "replacing"))
def test_killed_at_random_moments(conversion, force):
    conversion.reset(force)
    start = time.monotonic()
    assert conversion.start(force).wait() == 0
    duration = time.monotonic() - start
    draw, killed, left, finished = random.Random(f"{conversion.out} {force}"), 0, 0, 0
    while killed < often(5, 50):
        conversion.reset(force)
        process = conversion.start(force)
        # Every third towards the end, where the name changes hands.
        time.sleep(duration * (draw.random() if draw.randrange(3) else draw.uniform(0.8, 1)))
        process.kill()
        if process.wait() == -signal.SIGKILL:
            killed += 1
        else:
            finished += 1
            # It is faster than it was.
            duration *= 0.95
            assert conversion.check(force) and finished < 200
        left += bool(temporaries(conversion.out.parent))
        conversion.check(force)
        conversion.rerun()
    print(f"{killed} killed, {left} left something behind, {finished} were done before")


@pytest.mark.parametrize("force", (False, True), ids=("fresh", "replacing"))
def test_killed_at_every_step_of_the_end(conversion, force):
    """Not at random: at every call that makes something durable or gives it a name."""
    require_strace()
    renewed = []
    for step in range(1, 100):
        conversion.reset(force)
        inject = ["-e", f"trace={STEPS}", "-e", f"inject={STEPS}:signal=KILL:when={step}"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        done = subprocess.run([*STRACE, *inject, *conversion.command(force)], check=False, **quiet)
        renewed.append(conversion.check(force))
        if done.returncode == 0:
            break
        if step % often(4, 1) == 0:
            conversion.rerun()
    conversion.rerun()
    # Counted by thread: those that write the archive, and those that add what lies beside it.
    assert len(renewed) >= (3 if conversion.out.suffix else 9)
    # Once it is there it stays, and it is there before the last call: that syncs the directory.
    assert renewed == sorted(renewed) and renewed.count(True) >= 2, renewed


def test_only_what_is_dead_and_ours_is_removed(conversion):
    """What another conversion is writing stays, and so does what only looks like ours."""
    place = conversion.out.parent
    conversion.reset(force=True)
    living = conversion.stopped(force=True)
    (alive,) = temporaries(place)
    assert TEMPORARY.fullmatch(alive)
    others = [".upg-abcdef.old", ".upg-abc.partial", ".upg-abcde_.partial", "upg-abcdef.partial"]
    for name in others:
        (place / name).write_text("precious")
    (place / ".upg-linked.partial").symlink_to(conversion.source)
    os.mkfifo(place / ".upg-fifo00.partial")
    # Two that are dead.
    (place / ".upg-dead00.partial").write_bytes(b"half")
    (place / ".upg-dead01.partial" / "sub").mkdir(parents=True)
    (place / ".upg-dead01.partial" / "sub" / "file").write_bytes(b"half")
    if os.getuid() == 0:
        others.append(".upg-foreig.partial")
        (place / others[-1]).write_text("another user's")
        os.chown(place / others[-1], 65534, 65534)
    try:
        other = conversion.out.with_name("other.upg")
        command = conversion.command(force=False)
        command[command.index("-o") + 1] = str(other)
        assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
        kept = {*others, alive, ".upg-linked.partial", ".upg-fifo00.partial"}
        assert {name for name in os.listdir(place) if "upg-" in name} == kept
        living.send_signal(signal.SIGCONT)
        assert living.wait(60) == 0
        conversion.check(force=False)
    finally:
        living.kill()
        for name in (*others, ".upg-linked.partial", ".upg-fifo00.partial", "other.upg"):
            (place / name).unlink(missing_ok=True)
