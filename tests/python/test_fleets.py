"""docs/fleets.md does what it says: its commands run, and what they need a cluster for is checked."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from support import tensors
from support.mounting import foreground, is_mounted, mounts_below, wait_until
from support.processes import STRACE, require_strace
from support.programs import REPO, UPG, UPG_MOUNT, needed, require, require_fuse, run

DOCUMENT = (REPO / "docs" / "fleets.md").read_text()
UNIT = REPO / "packaging" / "upg-mount@.service"
KUBERNETES = sorted((REPO / "deploy" / "kubernetes").glob("*.yaml"))
# These talk to what a test does not have.
ELSEWHERE = ("podman", "kubectl", "systemctl", "install")


def commands():
    """[(command, what the document says it prints)] of all examples."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", DOCUMENT, re.DOTALL):
        for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, printed = command.partition("\n")
            found.append((line, printed))
    return found


@pytest.fixture
def ray_directory():
    """Names of sockets are short, and those of tests are not."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as place:
        yield place


def test_the_commands_work(tiny, ray_directory, tmp_path):
    require_fuse()
    for tool in ("curl", "getfattr"):
        require(shutil.which(tool), f"no {tool}")
    require(importlib.util.find_spec("ray"), "no package ray")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "grok-1").symlink_to(tiny)
    (tmp_path / "scripts").symlink_to(REPO / "scripts")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    python = Path(sys.executable).parent
    path = f"{UPG.parent}:{python}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "RAY_TMPDIR": ray_directory, "HOME": str(tmp_path)}
    ran = 0
    try:
        for command, printed in commands():
            if command.split()[0] in ELSEWHERE:
                continue
            command = command.replace("/mnt/", f"{tmp_path}/mnt/").replace(":9464", f":{port}")
            done = run("bash", "-c", command, cwd=tmp_path, env=environment)
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
            assert printed in done.stdout, command
            ran += 1
    finally:
        for point in mounts_below(tmp_path):
            run(UPG_MOUNT, "-u", point)
    assert ran > 10
    ray, alone = tmp_path / "grok-1-ray.upg", tmp_path / "grok-1.upg"
    for image in (ray, alone):
        (model,) = json.loads(run(UPG, "info", image, "--json").stdout)["models"]
        assert model["part"] is None and len(model["files"]) == len(tensors.tree(tiny))


def test_what_is_run_elsewhere_is_there():
    named = [command for command, _ in commands() if command.split()[0] in ELSEWHERE]
    assert len(named) > 4
    for command in named:
        for path in re.findall(r"(?:deploy|packaging)/\S+", command):
            assert (REPO / path).is_file(), command
    for path in re.findall(r"`((?:deploy|packaging|scripts)/[^`* ]+)`", DOCUMENT):
        assert (REPO / path).exists(), path


def test_the_table_has_every_metric_and_its_attribute(tiny_lossy, tmp_path):
    parser = needed("prometheus_client.parser")
    require_fuse()
    table = dict(re.findall(r"^\| `(upg_\w+)` \| (?:`([\w.]+)` )?\|", DOCUMENT, re.MULTILINE))
    point = tmp_path / "point"
    with foreground(tiny_lossy.path, point, "--metrics", "127.0.0.1:0") as daemon:
        port = re.search(r":(\d+)/metrics", daemon.stderr.readline())[1]
        text = run("curl", "-sf", f"http://127.0.0.1:{port}/metrics").stdout
        attributes = {name.removeprefix("user.upg.") for name in os.listxattr(point)}
        daemon.terminate()
        daemon.communicate(timeout=15)
    found = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    assert len(list(parser.text_string_to_metric_families(text))) == len(found)
    # Of what is pushed, if that may be, and of objects (test_objects).
    some = {name for name in table if name.startswith(("upg_pushed_", "upg_object_", "upg_disk_cache_"))}
    assert found | some == set(table)
    assert {name for metric, name in table.items() if name and metric not in some} <= attributes


# systemd


def unit():
    """{key: [values]}"""
    found = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_systemd_takes_the_unit(tmp_path):
    require(shutil.which("systemd-analyze"), "no systemd-analyze")
    text = UNIT.read_text().replace("/usr/bin/upg-mount", str(UPG_MOUNT))
    path = tmp_path / "upg-mount@phi-4.service"
    path.write_text(text)
    done = run("systemd-analyze", "verify", path)
    # It may speak of other units of the machine.
    assert not [line for line in (done.stdout + done.stderr).splitlines() if "upg-mount" in line]
    path.write_text(text.replace("Type=notify", "Type=nonsense"))
    done = run("systemd-analyze", "verify", path)
    assert "nonsense" in done.stderr, "it checks nothing"


def test_the_unit_gives_the_mount_no_namespace_of_its_own():
    private = ("Private", "Protect", "ReadOnly", "ReadWrite", "Inaccessible", "Temporary", "Bind", "Root", "MountFlags")
    assert not [key for key in unit() if key.startswith((*private, "DynamicUser"))]


def test_the_unit_cannot_leave_a_daemon_that_waits_for_itself():
    """Whoever kills the daemon together with its watchdog, in the middle of a push, leaves both it and its
    readers for good (test_push)."""
    (start,), (kill,), (stopped,) = (unit()[key] for key in ("ExecStart", "KillMode", "ExecStopPost"))
    assert " --no-push " in start and kill == "process"
    # And whoever has mounted there since keeps his mount.
    assert stopped.endswith(" --if-dead")


def test_the_unit_leaves_what_mounting_takes(mixed, mixed_lossy, tmp_path):
    """With the capabilities that it leaves, a mount comes, is read, and goes; and it takes no system
    call that is filtered."""
    require_fuse()
    require_strace()
    for tool in ("setpriv", "systemd-analyze", "curl"):
        require(shutil.which(tool), f"no {tool}")
    require(os.getuid() == 0, "needs root")
    (capabilities,) = unit()["CapabilityBoundingSet"]
    kept = ",".join("+" + name.removeprefix("CAP_").lower() for name in capabilities.split())
    limits = ["setpriv", f"--bounding-set=-all,{kept}", "--inh-caps=-all", "--no-new-privs"]
    point = tmp_path / "point"
    point.mkdir()
    trace = tmp_path / "trace"
    command = [*STRACE[:-1], trace, *limits, UPG_MOUNT, mixed_lossy.path, point, "-f", "--metrics", "127.0.0.1:0"]
    daemon = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    try:
        port = re.search(r":(\d+)/metrics", daemon.stderr.readline())[1]
        wait_until(lambda: is_mounted(point), "mounted")
        assert (point / mixed.name).stat().st_size == len((point / mixed.name).read_bytes())
        assert run("curl", "-sf", f"http://127.0.0.1:{port}/healthz").stdout == "ok\n"
        assert run(UPG_MOUNT, "-u", point).returncode == 0
        assert daemon.wait(timeout=15) == 0
    finally:
        daemon.kill()
        daemon.communicate(timeout=15)
        for left in mounts_below(tmp_path):
            run(UPG_MOUNT, "-u", left)
    # setpriv's own calls are those of a program that starts.
    used = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))
    allowed = allowed_calls(unit()["SystemCallFilter"][0].split())
    assert {"mount", "umount2", "fsopen"} & used and len(used) > 30
    assert used - allowed == set()


def allowed_calls(groups):
    text = run("systemd-analyze", "syscall-filter", "--no-pager").stdout
    listed, group = {}, None
    for line in text.splitlines():
        line = re.sub(r"\x1b\[[0-9;]*m", "", line)
        if line.startswith("@"):
            group = listed.setdefault(line.strip(), set())
        elif group is not None and line.startswith(" ") and not line.strip().startswith("#"):
            group.add(line.strip())

    def flat(name):
        return set().union(*(flat(n) if n.startswith("@") else {n} for n in listed[name]))

    # What a program needs to start is allowed to all.
    return set().union(*(flat(name) for name in (*groups, "@default")))


# Kubernetes


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.stem)
def test_kubernetes_takes_the_examples(path):
    validate, yaml = needed("kubernetes_validate"), needed("yaml")
    document = yaml.safe_load(path.read_text())
    validate.validate(document, "1.31", strict=True)
    document["spec"]["nonsense"] = 1
    with pytest.raises(validate.ValidationError):
        validate.validate(document, "1.31", strict=True)


def pods():
    yaml = needed("yaml")
    for path in KUBERNETES:
        document = yaml.safe_load(path.read_text())
        spec = document["spec"]
        yield path.stem, spec.get("template", {}).get("spec", spec)


def test_who_mounts_may_and_who_reads_may_not():
    propagation = {}
    for name, pod in pods():
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
            assert mounts.keys() <= volumes
            kinds = {mount.get("mountPropagation") for mount in mounts.values()} - {None}
            (kind,) = kinds
            propagation.setdefault(name, set()).add(kind)
            privileged = container.get("securityContext", {}).get("privileged", False)
            assert privileged == (kind == "Bidirectional")
            if not privileged:
                assert all(mount["readOnly"] for mount in mounts.values())
                continue
            point = container["lifecycle"]["preStop"]["exec"]["command"][-1]
            script = container["args"][0]
            assert script.count(point) == 3 and "exec upg-mount -f " in script
            assert any(point.startswith(mount["mountPath"] + "/") for mount in mounts.values())
            (port,) = (port["containerPort"] for port in container["ports"])
            for probe in ("startupProbe", "readinessProbe"):
                assert container[probe]["httpGet"] == {"path": "/healthz", "port": "metrics"}
            # /healthz fails when the store is away, too: the mount would be killed for that.
            assert "livenessProbe" not in container
            # The watchdog that pushing needs ends with the container.
            assert " --no-push " in script
            assert f'--metrics "[::]:{port}"' in script and "--allow-other" in script
    assert propagation == {
        "daemonset": {"Bidirectional"},
        "reader": {"HostToContainer"},
        "sidecar": {"Bidirectional", "HostToContainer"},
    }


@pytest.mark.parametrize("name", ("daemonset", "sidecar"))
def test_the_script_of_the_containers(tiny_lossless, s3, tmp_path, name):
    """As it stands there, but for where the model lies and what it is called: it mounts, and again when
    a killed one left its mount behind."""
    require_fuse()
    (pod,) = (pod for found, pod in pods() if found == name)
    (container,) = (c for c in [*pod.get("initContainers", []), *pod["containers"]] if "args" in c)
    places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "cache")
    # As the kubelet makes them.
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777 if "emptyDir" in volume else 0o755)
    (mounted_at,) = places.keys() - {"cache"}
    script = container["args"][0].replace(places[mounted_at], str(tmp_path)).replace(":9464", ":0")
    script = script.replace(f"--disk-cache {places['cache']}", f"--disk-cache {cache}")
    script = re.sub(r"s3://\S+", s3.put(tiny_lossless.path), script)
    environment = {**s3.environment(), "PATH": f"{UPG.parent}:{os.environ['PATH']}"}
    point = tmp_path / "phi-4"

    def answers():
        with contextlib.suppress(OSError):
            return is_mounted(point) and os.listdir(point)

    try:
        for _ in range(2):
            daemon = subprocess.Popen(
                [*container["command"], script], env=environment, stderr=subprocess.PIPE, text=True
            )
            try:
                wait_until(lambda: answers() or daemon.poll() is not None, "mounted")
                assert daemon.poll() is None, daemon.stderr.read()
                tensors.tree(point)
                wait_until(lambda: list(cache.rglob("*")), "something is kept")
            finally:
                daemon.kill()
                daemon.communicate(timeout=15)
            assert is_mounted(point) and not answers()
    finally:
        done = run(UPG_MOUNT, "-u", point)
    assert done.returncode == 0 and mounts_below(tmp_path) == []


def test_the_image_copies_what_the_build_needs():
    text = (REPO / "deploy" / "Containerfile").read_text()
    copied = [path for line in re.findall(r"^COPY (?!--from)(.*)", text, re.MULTILINE) for path in line.split()[:-1]]
    assert all((REPO / path).exists() for path in copied)
    manifest = (REPO / "Cargo.toml").read_text()
    (version,) = re.findall(r'^rust-version = "(.*)"', manifest, re.MULTILINE)
    assert f"rust:{version}-" in text
    (program_version,) = re.findall(r'^version = "(.*)"', manifest, re.MULTILINE)
    assert f"upg:{program_version}" in text
