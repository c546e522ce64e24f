"""A real S3 server, and what stands in front of it: a network and servers that fail in every way."""

import contextlib
import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

from .mounting import wait_until
from .programs import needed

BUCKET = "models"
ALLOWED = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class S3:
    """moto's server, which keeps objects in memory and checks signatures, and a client of it."""

    def __init__(self, root):
        boto3, _ = needed("boto3"), needed("moto")
        self.port = free_port()
        self.log = open(root / "s3.log", "wb")
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        # The first three requests make a user; from then on each must be signed by somebody who may.
        env = os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": "3"}
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=env)
        wait_until(self.answers, "the S3 server answers")
        more = {"region_name": "us-east-1", "endpoint_url": f"http://127.0.0.1:{self.port}"}
        iam = boto3.client("iam", aws_access_key_id="none", aws_secret_access_key="none", **more)
        iam.create_user(UserName="tests")
        iam.put_user_policy(UserName="tests", PolicyName="all", PolicyDocument=ALLOWED)
        made = iam.create_access_key(UserName="tests")["AccessKey"]
        self.key, self.secret = made["AccessKeyId"], made["SecretAccessKey"]
        self.client = boto3.client("s3", aws_access_key_id=self.key, aws_secret_access_key=self.secret, **more)
        self.client.create_bucket(Bucket=BUCKET)

    def answers(self):
        assert self.process.poll() is None, "the S3 server ended"
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", self.port)).close() is None
        return False

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def environment(self, port=None, key=None, secret=None):
        """For programs that read from it, or from what stands in front of it."""
        without = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        return without | {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
            "AWS_ACCESS_KEY_ID": key or self.key,
            "AWS_SECRET_ACCESS_KEY": secret or self.secret,
            "AWS_REGION": "us-east-1",
        }

    def put(self, path, name=None):
        self.client.upload_file(str(path), BUCKET, name or path.name)
        return f"s3://{BUCKET}/{name or path.name}"

    def get(self, name):
        return self.client.get_object(Bucket=BUCKET, Key=name)["Body"].read()

    def names(self):
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


class Fault:
    """What befalls a request; by default nothing."""

    def __init__(
        self, status=None, latency=0.0, rate=None, cut=None, reset=False, stall=False, flip=(), shift=0, headers=(), lost=False
    ):
        self.status, self.latency, self.rate, self.cut = status, latency, rate, cut
        self.reset, self.stall, self.flip, self.shift, self.headers = reset, stall, flip, shift, dict(headers)
        self.lost = lost  # reset before there is any answer


NOTHING = Fault()


class Network:
    """Hands requests on to a server. `decide(number, request)` says what befalls each."""

    def __init__(self, port, decide=lambda number, request: NOTHING):
        self.port_behind, self.decide = port, decide
        self.requests = []
        # Of each: when it came, what it asked for, under what condition, and what befell it.
        self.log = []
        self.lock = threading.Lock()
        self.ended = threading.Event()
        network = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handle_one(self):
                network.answer(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_):
                pass  # clients that went away are what this is for

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler):
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        with self.lock:
            number = len(self.requests)
            self.requests.append((handler.command, handler.path, handler.headers.get("Range")))
        fault = self.decide(number, handler)
        asked, condition = handler.headers.get("Range"), handler.headers.get("If-Match")
        self.log.append(SimpleNamespace(when=time.monotonic(), asked=asked, condition=condition, fault=fault))
        self.ended.wait(fault.latency)
        if fault.lost:
            self.reset(handler)
            return
        if fault.status:
            handler.send_response(fault.status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        headers = {k: v for k, v in handler.headers.items() if k.lower() not in ("connection",)}
        behind = http.client.HTTPConnection("127.0.0.1", self.port_behind, timeout=60)
        behind.request(handler.command, handler.path, body=body or None, headers=headers)
        response = behind.getresponse()
        content = response.read()
        behind.close()
        handler.send_response(response.status)
        length = len(content)
        for key, value in response.getheaders():
            if key.lower() in ("transfer-encoding", "connection", "date", "server") or key.lower() in fault.headers:
                continue
            if key.lower() == "content-length":
                length = int(value)
                continue
            handler.send_header(key, value)
        for key, value in fault.headers.items():
            if value is not None:
                handler.send_header(key, value)
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        content = bytearray(content)
        for place in fault.flip:
            if place < len(content):
                content[place] ^= 1
        self.send(handler, content, fault)

    @staticmethod
    def reset(handler):
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True
        handler.connection.close()

    def send(self, handler, content, fault):
        if fault.stall:
            handler.wfile.write(content[: len(content) // 2])
            self.ended.wait()
        if fault.reset or fault.cut is not None:
            handler.wfile.write(content[: fault.cut or len(content) // 2])
            handler.wfile.flush()
            if fault.reset:
                self.reset(handler)
                return
            handler.close_connection = True
            handler.connection.close()
            return
        if fault.rate is None:
            handler.wfile.write(content)
            return
        step = min(16 << 10, fault.rate // 10)
        for start in range(0, len(content), step):
            part = content[start : start + step]
            handler.wfile.write(part)
            self.ended.wait(len(part) / fault.rate)


@contextlib.contextmanager
def network(s3, decide=lambda number, request: NOTHING):
    between = Network(s3.port, decide)
    try:
        yield between
    finally:
        between.close()


def seconds(call):
    start = time.monotonic()
    result = call()
    return result, time.monotonic() - start
