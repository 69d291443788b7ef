"""A real S3 server on this machine (moto's), and ways to make it fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

BUCKET = "tides"
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "anybody",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    # The default tries for minutes.
    "AWS_MAX_ATTEMPTS": "1",
}


@contextmanager
def s3_server() -> Iterator[str]:
    """`s3://bucket`, reachable through the environment while the context is open."""
    pytest.importorskip("s3fs", reason="object stores are tested with s3fs: make venv")
    server = pytest.importorskip(
        "moto.server", reason="the S3 server is moto's: make venv"
    ).ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    before = {name: os.environ.get(name) for name in (*_ENVIRONMENT, "AWS_ENDPOINT_URL")}
    os.environ.update(_ENVIRONMENT, AWS_ENDPOINT_URL=address)
    try:
        httpx2.put(f"{address}/{BUCKET}").raise_for_status()
        yield f"s3://{BUCKET}"
    finally:
        server.stop()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
