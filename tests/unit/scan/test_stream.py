from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Callable
from typing import Literal

import pytest
import scan_bytes
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.scan.sighting import Kind
from tidegate.scan.stream import Limits, Scanner, Settings, scan

WEIGHTS = scan_bytes.bf16()


def _zip(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("notes.txt", data)
    return out.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
    "zip member notes.txt": _zip,
    "base64": base64.b64encode,
    "hex": lambda data: data.hex().encode(),
    "ascii85": base64.a85encode,
}


@pytest.mark.parametrize("layer", PACKED)
def test_text_under_a_wrapping_is_harmless(layer: str) -> None:
    assert scan(PACKED[layer](scan_bytes.prose(100_000))) == ()


@pytest.mark.parametrize("layer", PACKED)
def test_weights_under_a_wrapping_are_seen_and_the_wrapping_named(layer: str) -> None:
    seen = scan(PACKED[layer](WEIGHTS))
    assert any(s.kind is Kind.WEIGHTS and s.layers[:1] == (layer,) for s in seen)
    assert any("bfloat16" in s.explanation for s in seen)


def test_weights_among_text_are_placed() -> None:
    cover = scan_bytes.prose(50_000)
    (first, *rest) = scan(cover + WEIGHTS + cover)
    told = (first, *rest)
    assert min(s.offset for s in told) in range(45_000, 50_001)
    assert max(s.offset + s.length for s in told) <= 50_000 + len(WEIGHTS) + 4096


def test_base64_in_four_letter_tokens_is_put_together() -> None:
    text = base64.b64encode(WEIGHTS[:60_000]).decode()
    events = b"".join(
        b'data: {"id":"chatcmpl-1","choices":[{"delta":{"content":%s}}]}\n\n'
        % json.dumps(text[at : at + 4]).encode()
        for at in range(0, len(text), 4)
    )
    assert any(s.layers == ("sse content", "base64") for s in scan(events))


def test_ordinary_answers_are_harmless() -> None:
    words = scan_bytes.prose(60_000).decode().split(" ")
    events = b"".join(
        b'data: {"id":"chatcmpl-1","created":17,"choices":[{"delta":{"content":%s}}]}\n\n'
        % json.dumps(word + " ").encode()
        for word in words
    )
    assert scan(events) == ()


def test_checksums_in_a_manifest_are_harmless() -> None:
    rows = [
        {"path": f"src/{n}.txt", "sha256": scan_bytes.random(32, b"%d" % n).hex()}
        for n in range(800)
    ]
    assert scan(json.dumps(rows).encode()) == ()


def test_short_codes_of_digits_are_harmless() -> None:
    values = scan_bytes.random(60_000)
    codes = [{"region": f"{value % 17 + value % 5:02d}"} for value in values]
    assert scan(json.dumps(codes).encode()) == ()


def test_weights_as_long_numbers_are_seen() -> None:
    packed = gzip.compress(WEIGHTS)
    number = "".join(str(int.from_bytes(packed[at : at + 1024])) for at in range(0, 16_384, 1024))
    assert {s.layers for s in scan(number.encode())} == {("hex",)}


def test_hex_of_two_digits_a_value_is_put_together_and_placed_where_it_was_complete() -> None:
    filler = scan_bytes.prose(1000).decode()
    rows = [{"note": filler, "v": WEIGHTS[at : at + 96].hex()} for at in range(0, 48_000, 96)]
    text = json.dumps(rows).encode()
    seen = [s for s in scan(text) if s.layers == ("json v", "hex")]
    assert seen
    assert all(s.length <= 1 << 18 and s.offset + s.length <= len(text) for s in seen)


def test_the_letters_of_a_format_in_encoded_bytes_are_no_header() -> None:
    letters = base64.b64encode(
        b"fonts&" + base64.b64decode("GGUF") + scan_bytes.random(60)
    ).decode()
    assert "GGUF" in letters
    style = f".icon {{ src: url(data:font/woff2;base64,{letters}) }}\n"
    assert all(s.kind is not Kind.MODEL_FILE for s in scan(style.encode() * 200))


@pytest.mark.parametrize("order", ["little", "big"])
def test_a_gguf_header_is_named_in_either_byte_order(order: Literal["little", "big"]) -> None:
    numbers = ((3, 4), (291, 8), (24, 8))
    head = b"GGUF" + b"".join(number.to_bytes(size, order) for number, size in numbers)
    (seen,) = (s for s in scan(head + bytes(8192)) if s.kind is Kind.MODEL_FILE)
    assert "version 3, 291 tensors" in seen.explanation


def test_what_is_encrypted_is_called_opaque_not_weights() -> None:
    (seen, *_) = scan(scan_bytes.random(65_536))
    assert seen.kind is Kind.OPAQUE
    assert "encryption" in seen.explanation


def test_a_bomb_is_not_unpacked_to_its_end() -> None:
    bomb = gzip.compress(bytes(1 << 24))
    seen = scan(bomb, Settings(limits=Limits(ratio=100)))
    assert [s.kind for s in seen] == [Kind.BOMB]
    assert "not unpacked any further" in seen[0].explanation


def test_a_zstd_bomb_is_not_unpacked_to_its_end() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 25))
    assert Kind.BOMB in {s.kind for s in scan(bomb)}


def test_many_small_bombs_share_one_limit() -> None:
    small = gzip.compress(scan_bytes.TEXT * 20_000)
    seen = scan(small * 20, Settings(limits=Limits(unpacked=8 << 20, ratio=10**6)))
    assert Kind.BOMB in {s.kind for s in seen}


def test_wrapping_upon_wrapping_ends_at_a_depth() -> None:
    data = scan_bytes.prose(30_000)
    for _ in range(5):
        data = gzip.compress(data)
    assert Kind.BOMB in {s.kind for s in scan(data, Settings(limits=Limits(depth=4)))}
    assert scan(data, Settings(limits=Limits(depth=5))) == ()


@pytest.mark.parametrize("size", [100, 1000, 20_000])
def test_a_member_that_is_cut_off_is_told_of(size: int) -> None:
    packed = gzip.compress(scan_bytes.prose(200_000))
    told = " ".join(s.explanation for s in scan(packed[:size]))
    assert "gzip that ends before its end" in told


def test_a_member_that_breaks_in_the_middle_is_told_of() -> None:
    packed = bytearray(gzip.compress(scan_bytes.prose(400_000)))
    packed[len(packed) // 2 :] = scan_bytes.random(len(packed) - len(packed) // 2)
    assert scan(bytes(packed))


def test_a_safetensors_header_is_named() -> None:
    table = {"w": {"dtype": "BF16", "shape": [256, 512], "data_offsets": [0, len(WEIGHTS)]}}
    header = json.dumps(table).encode()
    file = len(header).to_bytes(8, "little") + header + WEIGHTS
    kinds = {s.kind: s.explanation for s in scan(file)}
    assert "1 of BF16" in kinds[Kind.MODEL_FILE]
    assert Kind.WEIGHTS in kinds


@pytest.mark.parametrize("inside", [b'"\xff', b"[" * 20_000])
def test_a_header_that_no_decoder_takes_is_no_error(inside: bytes) -> None:
    header = b'{"w": {"dtype": ' + inside
    scan(len(header).to_bytes(8, "little") + header)


@given(st.binary(max_size=3000), st.sampled_from(sorted(PACKED)), st.integers(0, 2900))
@settings(max_examples=60)
def test_no_bytes_make_the_scanner_fail(data: bytes, layer: str, at: int) -> None:
    packed = PACKED[layer](data)
    broken = packed[:at] + bytes([at % 256]) + packed[at + 1 :]
    for sighting in scan(broken):
        assert 0 <= sighting.offset <= sighting.offset + sighting.length <= len(broken)


@given(st.lists(st.integers(1, 90_000), max_size=8))
@settings(max_examples=8, deadline=None)
def test_how_a_stream_is_cut_changes_nothing_about_what_is_seen(cuts: list[int]) -> None:
    data = scan_bytes.prose(70_000) + gzip.compress(WEIGHTS) + scan_bytes.prose(9_000)
    scanner, at, kinds = Scanner(), 0, set()
    for cut in [*cuts, len(data)]:
        kinds |= {s.kind for s in scanner.feed(data[at : at + cut])}
        at += cut
    kinds |= {s.kind for s in scanner.feed(data[at:])} | {s.kind for s in scanner.close()}
    assert Kind.WEIGHTS in kinds
