from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tidegate.transparency.http_client import UnreachableError, request


@contextmanager
def answering(raw: bytes) -> Iterator[str]:
    """A server that says `raw` to whoever connects first, and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(raw)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    thread.join()
    listener.close()


def test_an_answer_comes_with_its_status() -> None:
    with answering(b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n7\n") as url:
        assert request("POST", url, body=b"x", most=10) == (409, b"7\n")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\ncut",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + b"x" * 99,
    ],
)
def test_an_answer_that_is_cut_too_long_or_none_is_no_answer(raw: bytes) -> None:
    with answering(raw) as url, pytest.raises(UnreachableError):
        request("GET", url, most=50)


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "http://", "http://127.0.0.1:99999/"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UnreachableError):
        request("GET", url, most=10)
