"""A power cut: what a conversion or a merge left on the disk, without what waited in memory to be written."""

import subprocess

import pytest

from support.conversions import content, job, merge_job, write_model
from support.disks import MIB, after_a_power_cut, disk, make_ext4
from support.processes import STRACE, require_strace
from support.programs import often

pytestmark = pytest.mark.timeout(often(300, 7200))

STEPS = "fsync,rename,renameat2,copy_file_range,unlink,unlinkat"


@pytest.fixture(scope="module", params=("alone.upg", "directory", "merged"))
def conversion(request, tiny_lossless, tuned_lossless, tmp_path_factory):
    base = tmp_path_factory.mktemp("power")
    if request.param == "merged":
        return merge_job([tiny_lossless.path, tuned_lossless.path], base)
    return job(write_model(base / "model"), base, request.param)


def cut(conversion, base, force, *disturbed):
    """Converts on a disk of its own, cuts its power, and looks at what is there."""
    file, copy = base / "disk", base / "copy"
    make_ext4(file, 80 * MIB)
    with disk(file, base / "at") as place:
        out = conversion.out
        conversion.out = place / out.name
        try:
            conversion.reset(force)
            subprocess.run(["sync", "-f", str(place)], check=True)
            command = [*disturbed, *conversion.command(force)]
            code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
            after_a_power_cut(file, copy)
        finally:
            conversion.out = out
    with disk(copy, base / "at") as place:
        return code, content(place / conversion.out.name)


@pytest.mark.parametrize("force", (False, True), ids=("fresh", "replacing"))
def test_what_was_reported_done_is_there(conversion, tmp_path, force):
    assert cut(conversion, tmp_path, force) == (0, conversion.expected)


def test_without_waiting_for_the_disk_it_would_not_be(conversion, tmp_path):
    """Else the test above would prove nothing."""
    require_strace()
    lie = ["-e", "trace=fsync", "-e", "inject=fsync:retval=0"]
    code, found = cut(conversion, tmp_path, False, *STRACE, *lie)
    assert code == 0 and found != conversion.expected


@pytest.mark.parametrize("force", (False, True), ids=("fresh", "replacing"))
def test_whole_or_absent_at_every_step(conversion, tmp_path, force):
    require_strace()
    allowed = (conversion.expected, conversion.before if force else None)
    for step in range(1, 100, often(4, 1)):
        kill = ["-e", f"trace={STEPS}", "-e", f"inject={STEPS}:signal=KILL:when={step}"]
        code, found = cut(conversion, tmp_path, force, *STRACE, *kill)
        assert found in allowed, step
        if code == 0:
            break
