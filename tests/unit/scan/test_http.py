from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Callable

import pytest
import scan_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.scan import unwrap_http
from tidegate.scan.sighting import Kind
from tidegate.scan.stream import Scanner, scan

WEIGHTS = scan_bytes.bf16()[:200_000]
PROSE = scan_bytes.prose(60_000)
CHUNKED = b"HTTP/1.1 200 OK\r\nServer: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def _chunked(data: bytes, size: int, extension: bytes = b"") -> bytes:
    cuts = range(0, len(data), size)
    pieces = [data[at : at + size] for at in cuts]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(p), extension, p) for p in pieces) + b"0\r\n\r\n"


def _multipart(*parts: bytes, line_end: bytes = b"\r\n") -> bytes:
    head = b'--XyZ%sContent-Disposition: form-data; name="f"%s' % (line_end, 2 * line_end)
    return b"".join(head + part + line_end for part in parts) + b"--XyZ--" + line_end


def _layers(data: bytes) -> set[tuple[str, ...]]:
    return {s.layers for s in scan(data) if s.kind is Kind.WEIGHTS}


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, base64.b64encode])
@pytest.mark.parametrize("size", [7, 1000, 70_000])
def test_weights_that_lie_across_chunks_are_put_together(
    pack: Callable[[bytes], bytes], size: int
) -> None:
    (layers,) = _layers(CHUNKED + _chunked(pack(WEIGHTS), size))
    assert layers[0] == "chunked"
    assert layers[1:] in (("gzip",), ("zlib",), ("base64",))


def test_packed_prose_in_chunks_is_harmless() -> None:
    assert scan(CHUNKED + _chunked(gzip.compress(PROSE), 50)) == ()
    # Without the chunks undone it looks like anything that is packed.
    assert scan(b"no header\r\n\r\n" + _chunked(gzip.compress(PROSE), 50))


def test_a_later_message_of_a_connection_is_unwrapped_too() -> None:
    first = CHUNKED + _chunked(PROSE, 900)
    plain = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PROSE) + PROSE
    told = scan(first + plain + CHUNKED + _chunked(gzip.compress(WEIGHTS), 900) + first)
    assert {s.layers for s in told} == {("chunked", "gzip")}
    assert min(s.offset for s in told) >= len(first + plain)


def test_weights_in_a_part_are_found_under_what_the_part_is_packed_in() -> None:
    assert _layers(_multipart(PROSE, gzip.compress(WEIGHTS), PROSE)) == {("multipart", "gzip")}
    assert _layers(_multipart(PROSE, zlib.compress(WEIGHTS))) == {("multipart", "zlib")}
    assert _layers(_multipart(WEIGHTS, line_end=b"\n")) == {("multipart",)}
    assert scan(_multipart(PROSE, gzip.compress(PROSE), PROSE)) == ()


def test_parts_too_small_to_measure_are_measured_together() -> None:
    small = [WEIGHTS[at : at + 300] for at in range(0, len(WEIGHTS), 300)]
    assert _layers(_multipart(*small)) == {("multipart",)}


def test_multipart_in_chunks_is_unwrapped_twice() -> None:
    body = _multipart(PROSE, zlib.compress(WEIGHTS))
    assert _layers(CHUNKED + _chunked(body, 333)) == {("chunked", "multipart", "zlib")}


def test_what_the_framing_says_is_looked_at() -> None:
    hidden = base64.b64encode(WEIGHTS)
    told = b"".join(b"1;%s\r\nx\r\n" % hidden[at : at + 900] for at in range(0, len(hidden), 900))
    assert ("(around)", "base64") in _layers(CHUNKED + told + b"0\r\n\r\n")
    headers = b"".join(
        b"--XyZ\r\nContent-Type: a/b\r\nX: %s\r\n\r\nx\r\n" % hidden[at : at + 900]
        for at in range(0, len(hidden), 900)
    )
    assert scan(headers + b"--XyZ--\r\n")


def test_headers_between_packed_bodies_are_looked_at() -> None:
    hidden, message = base64.b64encode(WEIGHTS), _chunked(b"ok", 2)
    told = b"".join(
        b"HTTP/1.1 200 OK\r\nX: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % hidden[at : at + 600]
        + message
        for at in range(0, len(hidden), 600)
    )
    assert scan(told)


def test_what_follows_a_broken_chunk_is_read_as_it_lies() -> None:
    assert _layers(CHUNKED + b"5\r\nhello\r\nno size\r\n" + WEIGHTS)
    assert scan(CHUNKED + b"5\r\nhello\r\nno size\r\n" + PROSE) == ()


@given(st.binary(max_size=3000), st.integers(1, 700), st.lists(st.integers(1, 900), max_size=6))
@settings(max_examples=60)
def test_chunks_and_parts_give_back_what_was_framed(
    data: bytes, size: int, cuts: list[int]
) -> None:
    data = data.replace(b"\r\n--XyZ", b"")
    for framed in (_chunked(data, size), _multipart(data)):
        frame = unwrap_http.parts(framed) or unwrap_http.Chunks()
        given_back, at = b"", 0
        for cut in [*cuts, len(framed)]:
            given_back += b"".join(frame.steps(framed[at : at + cut]))
            at += cut
        rest = frame.rest()
        assert given_back == data
        assert rest is not None
        assert framed.endswith(rest)


@given(st.binary(max_size=2000), st.integers(0, 1900), st.lists(st.integers(1, 900), max_size=4))
@settings(max_examples=60)
def test_no_framing_makes_the_scanner_fail(data: bytes, at: int, cuts: list[int]) -> None:
    for framed in (CHUNKED + _chunked(data, 100), _multipart(data, data)):
        broken = framed[:at] + b"\0" + framed[at + 1 :]
        scanner, begin = Scanner(), 0
        for cut in [*cuts, len(broken)]:
            scanner.feed(broken[begin : begin + cut])
            begin += cut
        for sighting in scanner.close():
            assert 0 <= sighting.offset <= sighting.offset + sighting.length <= len(broken)
