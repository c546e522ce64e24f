"""A real S3 server behind a link of known speed: another network namespace, with a token bucket."""

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

from . import Trouble
from .programs import run

# They open nothing but a server that is there for as long as a measurement.
KEY, SECRET = f"GK{'7' * 24}", "7" * 64
BUCKET, REGION = "models", "us-east-1"
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
            [*inside, "ip", "link", "set", "lo", "up"],
            [*inside, "ip", "addr", "add", f"{THERE}/30", "dev", "upg1"],
            [*inside, "ip", "link", "set", "upg1", "up"],
            [*inside, "tc", "qdisc", "add", "dev", "upg1", "root", "tbf", "rate", f"{8 * bytes_per_second}bit"]
            + ["burst", "512k", "latency", "50ms"],
        ):
            run(*command)
        yield inside
    finally:
        run("ip", "netns", "delete", NAMESPACE)


CONFIG = """\
metadata_dir = "{root}/meta"
data_dir = "{root}/data"
db_engine = "lmdb"
replication_factor = 1
compression_level = "none"
rpc_bind_addr = "127.0.0.1:3901"
rpc_secret = "{secret}"

[s3_api]
api_bind_addr = "{address}:{port}"
s3_region = "{region}"
"""


@contextmanager
def server(program, root, inside):
    """Garage, alone; what clients need to know of it."""
    program = shutil.which(program)
    if not program:
        raise Trouble("no garage (cargo install garage --locked, or --server PATH)")
    root.mkdir()
    config = root / "garage.toml"
    config.write_text(CONFIG.format(root=root, secret=SECRET, address=THERE, port=PORT, region=REGION))
    command = [*inside, program, "-c", config, "server", "--single-node", "--default-bucket"]
    defaults = {
        "GARAGE_DEFAULT_ACCESS_KEY": KEY,
        "GARAGE_DEFAULT_SECRET_KEY": SECRET,
        "GARAGE_DEFAULT_BUCKET": BUCKET,
    }
    with open(root / "log", "wb") as log:
        process = subprocess.Popen([str(c) for c in command], env=os.environ | defaults, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                socket.create_connection((THERE, PORT), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise Trouble(f"the S3 server does not answer: {(root / 'log').read_text()}") from None
                time.sleep(0.05)
        yield {
            "AWS_ENDPOINT_URL": f"http://{THERE}:{PORT}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
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
