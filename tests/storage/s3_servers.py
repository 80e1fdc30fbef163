"""Real S3 servers on loopback: two that know conditional writes, and one that ignores them as
some do (`rclone serve s3`, for one)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}
_PATIENCE_SECONDS = 60.0
_STARTS = {
    # one request at a time: moto looks whether an object is there, and then makes it
    "moto": "from moto import server as s; run = s.run_simple; "
    "s.run_simple = lambda *a, **k: run(*a, **dict(k, threaded=False)); "
    "s.main(['-H', '127.0.0.1', '-p', '{port}'])",
    "ministack": "from ministack.app import main; main()",
}
NAMES = tuple(_STARTS)
CARELESS = "careless"
_STARTS[CARELESS] = (
    "from ministack.services import s3; s3._check_put_preconditions = lambda *a, **k: None; "
    + _STARTS["ministack"]
)


@contextmanager
def s3_server(name: str, folder: Path) -> Iterator[str]:
    """The endpoint of a server that keeps its log in ``folder``. A process of its own: nothing
    that it holds in memory or waits for is ours."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _STARTS[name].format(port=port)],
            cwd=folder,
            env=os.environ
            | {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"no server on port {port}")


def make_bucket(endpoint: str) -> None:
    """Make the bucket called bucket."""
    import boto3

    boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
    ).create_bucket(Bucket="bucket")
