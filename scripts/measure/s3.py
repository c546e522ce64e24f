"""A real S3 server behind a link of known speed: another network namespace, with a token bucket."""

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

from .files import Trouble
from .programs import run

KEY, SECRET, BUCKET = "S3RVER", "S3RVER", "models"
NAMESPACE, HERE, THERE, PORT = "upg-bench", "10.213.7.1", "10.213.7.2", 9000


@contextmanager
def link(bytes_per_second):
    """A namespace that answers at THERE, no faster than this; needs root and iproute2."""
    if os.geteuid() != 0 or not shutil.which("tc"):
        raise Trouble("a link of known speed needs root and tc (apt install iproute2)")
    run("ip", "netns", "add", NAMESPACE)
    inside = ["ip", "netns", "exec", NAMESPACE]
    try:
        run("ip", "link", "add", "upg0", "type", "veth", "peer", "name", "upg1", "netns", NAMESPACE)
        for command in (
            ["ip", "addr", "add", f"{HERE}/30", "dev", "upg0"],
            ["ip", "link", "set", "upg0", "up"],
            [*inside, "ip", "addr", "add", f"{THERE}/30", "dev", "upg1"],
            [*inside, "ip", "link", "set", "upg1", "up"],
            [*inside, "tc", "qdisc", "add", "dev", "upg1", "root", "tbf", "rate", f"{8 * bytes_per_second}bit"]
            + ["burst", "512k", "latency", "50ms"],
        ):
            run(*command)
        yield inside
    finally:
        run("ip", "netns", "delete", NAMESPACE)


@contextmanager
def server(program, root, inside):
    """s3rver, which keeps objects as files; what clients need to know of it."""
    program = shutil.which(program)
    if not program:
        raise Trouble("no s3rver (npm install -g s3rver, or --server PATH)")
    command = [*inside, program, "-d", root, "-a", THERE, "-p", PORT, "--silent", "--configure-bucket", BUCKET]
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((THERE, PORT), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise Trouble("the S3 server does not answer") from None
                time.sleep(0.05)
        endpoint = f"http://{THERE}:{PORT}"
        yield {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }
    finally:
        process.kill()
        process.wait()


def client(environment):
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name=environment["AWS_REGION"],
    )


def put(environment, paths):
    for path in paths:
        client(environment).upload_file(str(path), BUCKET, path.name)


def fetch_all(environment, names):
    """Reads objects to their ends, eight ranges at a time, and keeps nothing: the link is what counts."""
    from boto3.s3.transfer import TransferConfig

    several = TransferConfig(max_concurrency=8, multipart_chunksize=8 << 20)

    class Nowhere:
        def write(self, data):
            return len(data)

        def seek(self, *_):
            return 0

    for name in names:
        client(environment).download_fileobj(BUCKET, name, Nowhere(), Config=several)
