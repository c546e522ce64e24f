"""upg-mount --metrics: what monitors read, whoever else connects."""

import contextlib
import http.client
import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from support.mounting import daemons, foreground, is_mounted, mounts_below, stats, wait_until
from support.objects import free_port
from support.processes import descriptors
from support.programs import UPG_MOUNT, needed, one_line, require_fuse, run

parser = needed("prometheus_client.parser")


def ask(port, path="/metrics", method="GET", host="127.0.0.1"):
    """(status, content type, text)"""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read().decode()


def families(port):
    status, content_type, text = ask(port)
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert all(family.documentation and family.type != "unknown" for family in found.values())
    return found


def values(port):
    """{name as it is written, with le: value}"""
    return {
        s.name + s.labels.get("le", ""): s.value for f in families(port).values() for s in f.samples
    }


@pytest.fixture
def port():
    return free_port()


def test_metrics_are_the_attributes(mixed, mixed_lossy, mount, port):
    with mount(mixed_lossy.path, "--metrics", f"127.0.0.1:{port}") as root:
        before = values(port)
        assert before["upg_decoded_blocks_total"] == 0 and before["upg_cache_capacity_bytes"] == 512 << 20
        content = (root / mixed.name).read_bytes()
        after, shown = values(port), stats(root)
        assert after["upg_requested_bytes_total"] >= len(content) > before["upg_requested_bytes_total"]
        pairs = {
            "upg_cache_hits_total": shown["cache"]["hits"],
            "upg_cache_misses_total": shown["cache"]["misses"],
            "upg_cache_bytes": shown["cache"]["bytes"],
            "upg_decoded_blocks_total": shown["decoded"]["blocks"],
            "upg_decoded_bytes_total": shown["decoded"]["bytes"],
            "upg_ahead_blocks_total": shown["ahead"]["blocks"],
            "upg_read_errors_total": shown["errors"],
            "upg_kernel_readahead_bytes": 1024 * shown["kernel_readahead_kb"],
            "upg_request_bytes_count": sum(shown["requests"].values()),
            "upg_request_bytes_sum": shown["requested"]["bytes"],
            "upg_request_bytes_bucket+Inf": sum(shown["requests"].values()),
            "upg_request_bytes_bucket4096": shown["requests"]["4096"],
        }
        assert {name: after[name] for name in pairs} == pairs
        assert (after["upg_read_errors_total"], after["upg_build_info"]) == (0, 1)
        assert after["upg_stored_bytes"] == int(os.getxattr(root, "user.upg.stored_bytes"))


def test_every_counter_is_in_both(mixed_lossy, mount, port):
    """Nothing is counted that one of the two does not show, and every total is called one."""
    with mount(mixed_lossy.path, "--metrics", f"127.0.0.1:{port}") as root:
        of_files = {"requests", "stats", "stored_bytes"}
        counters = {name.removeprefix("user.upg.") for name in os.listxattr(root)} - of_files
        found = families(port)
        assert len(found) == len(counters) + len({"build_info", "stored_bytes", "request_bytes"})
        kinds = {name: family.type for name, family in found.items()}
        assert kinds["upg_request_bytes"] == "histogram" and kinds["upg_cache_bytes"] == "gauge"
        version = run(UPG_MOUNT, "--version").stdout.split()[1]
        assert found["upg_build_info"].samples[0].labels == {"version": version}


def test_a_failed_read_is_counted(mixed, mixed_lossless, mount, tmp_path, port):
    data = bytearray(mixed_lossless.path.read_bytes())
    data[len(data) // 2] ^= 1
    damaged = tmp_path / "damaged.upg"
    damaged.write_bytes(data)
    with mount(damaged, "--metrics", f"127.0.0.1:{port}") as root:
        with pytest.raises(OSError):
            (root / mixed.name).read_bytes()
        assert values(port)["upg_read_errors_total"] == stats(root)["errors"] > 0
        assert ask(port, "/healthz")[0] == 200, "a damaged block is no reason to restart"


def test_other_requests(mixed_lossy, mount, port):
    with mount(mixed_lossy.path, "--metrics", f"[::]:{port}"):
        assert ask(port, host="::1")[0] == 200 and ask(port, "/metrics?x=1")[0] == 200
        assert (ask(port, "/")[0], ask(port, method="POST")[0]) == (404, 405)
        for request in (b"nonsense\r\n\r\n", b"GET /metrics SPDY/3\r\n\r\n", b"\0\xff\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(request)
                assert client.recv(100).startswith(b"HTTP/1.1 400 ")


def test_clients_that_are_slow_or_never_end(mixed, mixed_lossy, mount, port):
    """More of them than there is room for: others are answered at once, reads go on, and all that
    they held is let go."""
    point = f"127.0.0.1:{port}"
    with mount(mixed_lossy.path, "--metrics", point) as root, contextlib.ExitStack() as clients:
        (daemon,) = daemons(root)
        before = descriptors(daemon)
        opened = []
        for i in range(100):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            client.sendall((b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n\r\n")[i % 4])
            opened.append(client)
        endless = clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                endless.sendall(b"a" * 4096)
        start = time.monotonic()
        assert ask(port)[0] == 200 and ask(port, "/healthz")[0] == 200
        assert (root / mixed.name).stat().st_size == len((root / mixed.name).read_bytes())
        assert time.monotonic() - start < 4
        assert descriptors(daemon) < before + 80
        # Whoever has not asked by then is let go.
        wait_until(lambda: descriptors(daemon) <= before, "connections are closed")


def test_the_answer_to_one_that_reads_late(mixed_lossy, mount, port):
    with mount(mixed_lossy.path, "--metrics", f"127.0.0.1:{port}"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            for byte in b"GET /metrics HTTP/1.0\r\n\r\n":
                client.sendall(bytes([byte]))
            time.sleep(0.3)
            text = b"".join(iter(lambda: client.recv(7), b""))
        assert text.startswith(b"HTTP/1.1 200 OK\r\n") and text.count(b"# TYPE ") > 15


def test_health_when_the_mount_has_gone(mixed, mixed_lossy, tmp_path, port):
    """The daemon lives, and what it serves is mounted nowhere any more."""
    require_fuse()
    point = tmp_path / "point"
    with foreground(mixed_lossy.path, point, "--metrics", f"127.0.0.1:{port}", "--no-push") as daemon:
        assert ask(port, "/healthz") == (200, "text/plain; charset=utf-8", "ok\n")
        # Somebody still reads: the mount goes from its place, and the daemon stays for him.
        with open(point / mixed.name, "rb") as reader:
            daemon.send_signal(signal.SIGTERM)
            wait_until(lambda: not is_mounted(point), "detached")
            since = time.monotonic()
            while ask(port, "/healthz")[0] != 503:
                # An answer is up to a second old.
                assert time.monotonic() - since < 3
            assert ask(port)[0] == 200 and reader.read(10)
        assert daemon.wait(timeout=15) == 0


def test_who_asks_often_is_told_the_same(mixed_lossy, mount, port):
    """There is no more than a process a second that asks the mount."""
    with mount(mixed_lossy.path, "--metrics", f"127.0.0.1:{port}") as root:
        (daemon,) = daemons(root)
        start = time.monotonic()
        faults = set()
        for _ in range(50):
            assert ask(port, "/healthz")[0] == 200
            # Page faults of children that were waited for, to which each adds some.
            faults.add(Path(f"/proc/{daemon}/stat").read_text().rpartition(")")[2].split()[8])
        assert len(faults) <= time.monotonic() - start + 2


def test_a_port_that_is_taken(mixed_lossy, tmp_path):
    require_fuse()
    point = tmp_path / "point"
    point.mkdir()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        for options in ((), ("-f",)):
            done = run(UPG_MOUNT, mixed_lossy.path, point, "--metrics", address, *options, timeout=60)
            assert done.returncode == 1 and done.stdout == ""
            assert address in one_line(done.stderr)
            assert mounts_below(point) == [] and daemons(point) == []
    for wrong in ("localhost", "9464", "127.0.0.1:99999"):
        done = run(UPG_MOUNT, mixed_lossy.path, point, "--metrics", wrong, timeout=60)
        assert done.returncode == 2 and wrong in done.stderr


def test_any_free_port(mixed_lossy, mount, tmp_path):
    log = tmp_path / "log"
    with mount(mixed_lossy.path, "--metrics", "127.0.0.1:0", "--log-file", log):
        found = re.search(r"metrics at http://127\.0\.0\.1:(\d+)/metrics", log.read_text())
        assert ask(int(found[1]))[0] == 200


def test_systemd_is_told_when_the_mount_answers(mixed, mixed_lossy, tmp_path, monkeypatch):
    """Type=notify: by a path, and by a name that lies in no file system."""
    require_fuse()
    for i, name in enumerate((str(tmp_path / "notify"), f"\0upg-test-{os.getpid()}")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(name)
            told.settimeout(15)
            monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
            point = tmp_path / f"point-{i}"
            with foreground(mixed_lossy.path, point) as daemon:
                assert told.recv(100) == b"READY=1"
                assert (point / mixed.name).stat().st_size == mixed.stat().st_size
                daemon.terminate()
                daemon.communicate(timeout=15)
