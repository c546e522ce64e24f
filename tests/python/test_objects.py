"""Files that are objects: read by the mount and by every command, and written by convert and merge."""

import json
import os
import re
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support import tensors
from support.mounting import foreground, mounted
from support.objects import Fault, network
from support.programs import REPO, UPG, UPG_MOUNT, one_line, run


@pytest.fixture
def at_s3(s3, monkeypatch):
    for key, value in s3.environment().items():
        monkeypatch.setenv(key, value)
    return s3


@pytest.fixture(scope="module")
def lossless(s3, tiny_lossless):
    return s3.put(tiny_lossless.path)


@pytest.fixture(scope="module")
def lossy(s3, tiny_lossy):
    return s3.put(tiny_lossy.path, "lossy.upg")


def test_a_mount_has_the_bytes_of_the_source(at_s3, lossless, tiny, tmp_path):
    expected = tensors.tree(tiny)
    with mounted(lossless, tmp_path / "m") as root:
        assert tensors.tree(root) == expected
        counted = {name: int(os.getxattr(root, f"user.upg.{name}")) for name in ("object.requests", "object.bytes")}
        assert counted["object.requests"] >= 1 and counted["object.bytes"] > 0
        documented = re.findall(r"`upg_(?:object|disk_cache)_\w+` \| `([\w.]+)`", (REPO / "docs/fleets.md").read_text())
        attributes = {name.removeprefix("user.upg.") for name in os.listxattr(root)}
        assert len(documented) == 5 and attributes >= set(documented)
    with foreground(lossless, tmp_path / "f", "--verify"):
        assert tensors.tree(tmp_path / "f") == expected


def test_several_objects_and_files_in_one_mount(at_s3, lossless, tiny_lossy, tiny, tmp_path):
    (tmp_path / "m").mkdir()
    renamed = tmp_path / "other.upg"
    assert run(UPG, "merge", f"other={tiny_lossy.path}", "-o", renamed).returncode == 0
    done = run(UPG_MOUNT, lossless, renamed, tmp_path / "m")
    assert done.returncode == 0, done.stderr
    try:
        assert sorted(os.listdir(tmp_path / "m")) == ["other", "tiny"]
        assert tensors.tree(tmp_path / "m" / "tiny") == tensors.tree(tiny)
    finally:
        run(UPG_MOUNT, "-u", tmp_path / "m")


def test_every_command_reads_objects(at_s3, lossless, lossy, tiny, tiny_lossless, tmp_path):
    there, here = (json.loads(run(UPG, "info", place, "--json").stdout) for place in (lossless, tiny_lossless.path))
    assert there.pop("file") == lossless
    here.pop("file")
    assert there == here
    done = run(UPG, "verify", lossless, "--against", tiny, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["findings"] == []
    assert run(UPG, "unpack", lossless, "-o", tmp_path / "out").returncode == 0
    assert tensors.tree(tmp_path / "out") == tensors.tree(tiny)
    assert json.loads(run(UPG, "catalog", lossy, "--json").stdout)[0]["tensors"]
    done = run(UPG, "merge", f"a={lossless}", f"b={lossy}", "-o", tmp_path / "both.upg", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["models"] == ["a", "b"]


def test_a_conversion_writes_objects(at_s3, tiny, tiny_lossless):
    done = run(UPG, "convert", tiny, "-o", "s3://models/made", "--lossless", "--json")
    assert done.returncode == 0, done.stderr
    assert at_s3.get("made/tiny.upg") == tiny_lossless.path.read_bytes()
    for beside in ("config.json", "extra/notes.txt"):
        assert at_s3.get(f"made/{beside}") == (tiny / beside).read_bytes()
    assert json.loads(at_s3.get("made/upg-metadata.json"))["file_bytes"] == tiny_lossless.path.stat().st_size
    assert json.loads(at_s3.get("made/tiny-catalog.json"))
    again = run(UPG, "convert", tiny, "-o", "s3://models/made", "--lossless")
    assert again.returncode == 1 and "exists; choose another name" in one_line(again.stderr)
    assert run(UPG, "convert", tiny, "-o", "s3://models/made", "--force").returncode == 0
    assert len(at_s3.get("made/tiny.upg")) < tiny_lossless.path.stat().st_size
    done = run(UPG, "merge", "x=s3://models/made/tiny.upg", f"y={tiny_lossless.path}", "-o", "s3://models/merged.upg")
    assert done.returncode == 0, done.stderr
    assert run(UPG, "verify", "s3://models/merged.upg").returncode == 0


def test_a_large_object_is_written_in_parts(at_s3, tmp_path):
    """48 MB, which are three parts."""
    source = tmp_path / "large"
    data = os.urandom(2 * 6000 * 4000)
    tensors.write(source / "model.safetensors", [tensors.Tensor("w", "I16", (6000, 4000), data)])
    with network(at_s3) as between:
        env = at_s3.environment(between.port)
        done = run(UPG, "convert", source, "-o", "s3://models/large.upg", "--lossless", env=env)
        assert done.returncode == 0, done.stderr
        assert sum("partNumber=" in path for _, path, _ in between.requests) >= 3
    assert run(UPG, "verify", "s3://models/large.upg", "--against", source).returncode == 0
    # Parts that fail are sent again; one that never arrives leaves nothing behind.
    for fault in (Fault(status=503), Fault(lost=True)):
        at_first = [fault] * 2

        def fails_at_first(_, request, at_first=at_first):
            return at_first.pop() if "partNumber=2" in request.path and at_first else Fault()

        with network(at_s3, fails_at_first) as between:
            env = at_s3.environment(between.port)
            done = run(UPG, "convert", source, "-o", "s3://models/again.upg", "--lossless", "--force", env=env)
            assert done.returncode == 0 and not at_first, done.stderr
        assert at_s3.get("again.upg") == at_s3.get("large.upg")
    with network(at_s3, lambda _, request: Fault(status=403 if "partNumber=2" in request.path else None)) as between:
        done = run(UPG, "convert", source, "-o", "s3://models/never.upg", env=at_s3.environment(between.port))
        assert done.returncode == 1 and "s3://models/never.upg" in one_line(done.stderr)
    assert "never.upg" not in at_s3.names()


def test_an_interrupted_conversion_leaves_no_object(at_s3, tmp_path):
    source = tmp_path / "large"
    tensors.write(source / "model.safetensors", [tensors.Tensor("w", "I16", (20000, 4000), os.urandom(160_000_000))])
    with network(at_s3, lambda _, request: Fault(latency=3 if "partNumber=1" in request.path else 0)) as between:
        env = at_s3.environment(between.port)
        command = [str(c) for c in (UPG, "convert", source, "-o", "s3://models/killed.upg", "--lossless")]
        process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=1.5)
        process.terminate()
        assert "nothing was written" in process.communicate(timeout=30)[1]
        assert process.returncode == 128 + 15
        assert any(method == "DELETE" for method, *_ in between.requests), "the parts were not given up"
    assert "killed.upg" not in at_s3.names()


def test_objects_are_read_over_plain_http(s3, lossless, tiny, tiny_lossless, tmp_path):
    """A web server with the same bytes: addresses may be signed, and what signs them is not shown."""

    # What the standard library's server lacks is ranges.
    class Ranges(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if "secret=1" not in self.path:
                return self.send_error(403)
            data = tiny_lossless.path.read_bytes()
            first, last = (int(n) for n in self.headers["Range"].removeprefix("bytes=").split("-"))
            part = data[first : last + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Last-Modified", "Sat, 28 Nov 2026 10:00:00 GMT")
            self.end_headers()
            self.wfile.write(part)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/x/tiny.upg"
        with mounted(f"{address}?secret=1", tmp_path / "m") as root:
            assert tensors.tree(root) == tensors.tree(tiny)
            assert os.stat(root / "config.json").st_mtime == 1795860000
        helper = tmp_path / "mount.upg"
        helper.symlink_to(UPG_MOUNT)
        done = run(helper, f"{address}?secret=1", tmp_path / "m", "-v")
        assert run(UPG_MOUNT, "-u", tmp_path / "m").returncode == 0
        assert done.returncode == 0 and f"{address} mounted on" in done.stdout and "secret" not in done.stdout, done
        done = run(UPG, "info", f"{address}?secret=2")
        assert done.returncode == 1 and "403" in one_line(done.stderr) and "secret" not in done.stderr
        done = run(UPG, "info", f"{address}?secret=1", "--json")
        assert json.loads(done.stdout)["file"] == address
        done = run(UPG, "convert", tiny, "-o", address)
        assert done.returncode == 1 and "secret" not in done.stderr
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("variable", ["AWS_SHARED_CREDENTIALS_FILE", "HOME"])
def test_credentials_from_the_files_of_aws(s3, lossless, tmp_path, variable):
    env = s3.environment()
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        del env[key]
    home = tmp_path / ".aws"
    home.mkdir()
    (home / "credentials").write_text(f"[default]\naws_access_key_id = other\n[mine]\naws_access_key_id = {s3.key}\naws_secret_access_key = {s3.secret}\n")
    (home / "config").write_text(f"[profile mine]\nregion = us-east-1\nendpoint_url = http://127.0.0.1:{s3.port}\n")
    env |= {"HOME": str(tmp_path), "AWS_PROFILE": "mine"}
    if variable != "HOME":
        env |= {"HOME": "/nonexistent", variable: str(home / "credentials"), "AWS_CONFIG_FILE": str(home / "config")}
    done = run(UPG, "info", lossless, env=env)
    assert done.returncode == 0, done.stderr
    done = run(UPG, "info", lossless, env=env | {"AWS_PROFILE": "yours"})
    assert done.returncode == 1 and "there is no profile" in one_line(done.stderr)
    # Keys that only AWS's own tools get.
    with open(home / "config", "a") as config:
        config.write(f"[profile ours]\nsso_session = ours\nregion = us-east-1\nendpoint_url = http://127.0.0.1:{s3.port}\n")
    env["AWS_PROFILE"] = "ours"
    done = run(UPG, "info", lossless, env=env)
    assert done.returncode == 1 and "profile \"ours\" has no keys, and sso_session is not" in one_line(done.stderr)
    done = run(UPG, "info", lossless, env=env | {"AWS_ACCESS_KEY_ID": s3.key, "AWS_SECRET_ACCESS_KEY": s3.secret})
    assert done.returncode == 0, done.stderr


def test_the_endpoint_of_s3_alone(s3, lossless):
    """Which is not encrypted here, and comes before that of all services."""
    env = s3.environment()
    env["AWS_ENDPOINT_URL_S3"], env["AWS_ENDPOINT_URL"] = env["AWS_ENDPOINT_URL"], "https://127.0.0.1:9"
    done = run(UPG, "info", lossless, env=env)
    assert done.returncode == 0, done.stderr


def test_what_is_refused_says_why_and_nothing_secret(s3, lossless, tmp_path):
    cases = [
        (lossless, s3.environment(secret="wrong-secret-9876"), "403"),
        (lossless, s3.environment(key="other-key"), "403"),
        ("s3://models/none.upg", s3.environment(), "404"),
        ("s3://nowhere/none.upg", s3.environment(), "404"),
        ("s3://models", s3.environment(), "no object is named"),
        ("https://user:hidden-password@127.0.0.1/x.upg", s3.environment(), "credentials do not belong"),
    ]
    for place, env, expected in cases:
        for command in ([UPG, "info", place], [UPG_MOUNT, place, tmp_path]):
            done = run(*command, env=env)
            line = one_line(done.stderr)
            assert done.returncode == 1 and expected in line, (place, line)
            for secret in ("wrong-secret", "other-key", s3.secret, s3.key, "hidden-password"):
                assert secret not in line


def test_without_a_server_it_fails_in_time(s3, lossless, tmp_path):
    env = s3.environment(port=9)
    done = run(UPG_MOUNT, lossless, tmp_path, "--deadline", "2", env=env, timeout=20)
    assert done.returncode == 1 and "nothing came within 2 s" in one_line(done.stderr)
    assert not os.path.ismount(tmp_path)


def test_a_server_that_nobody_vouches_for_is_not_asked(tmp_path):
    """TLS works, as far as it can without a certificate of a known authority."""
    made = run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key", "-out", tmp_path / "certificate",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"https://127.0.0.1:{server.server_address[1]}/tiny.upg"
        done = run(UPG_MOUNT, address, tmp_path, "--deadline", "2")
        assert done.returncode == 1 and "certificate" in one_line(done.stderr)
    finally:
        server.shutdown()
        server.server_close()
