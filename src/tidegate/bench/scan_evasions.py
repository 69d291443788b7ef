"""What a thief may do about the scanner: what helps him stands beside what does not.

Each trick is undone by a receiver who knows it, so all of them carry weights out; those that the
scanner does not see are left to the quota, to re-execution and to the list of allowed routes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from tidegate.bench.figures import Figure, report
from tidegate.bench.scan_data import Model
from tidegate.bench.scan_formats import FORMATS, encrypted
from tidegate.models.cache import Progress
from tidegate.scan.stream import scan

_PIECE: Final = 1 << 16
_PIECES: Final = 8
_COVER: Final = (
    b"The quick answer is that it depends on what you are after. If the list is short, sort it in "
    b"place; if it is long, build an index first and look things up as they are needed. "
)
_WORDS: Final = [
    first + last
    for first in (
        "ba",
        "co",
        "di",
        "fu",
        "ga",
        "he",
        "ji",
        "ko",
        "lu",
        "me",
        "no",
        "pa",
        "ri",
        "so",
        "tu",
        "ve",
    )
    for last in (
        "n",
        "ck",
        "rd",
        "st",
        "ll",
        "mp",
        "nt",
        "sh",
        "re",
        "ve",
        "ly",
        "ng",
        "ss",
        "th",
        "rk",
        "ld",
    )
]


def _word_list(data: bytes) -> bytes:
    return " ".join(_WORDS[value] for value in data).encode()


def _diluted(every: int) -> Callable[[bytes], bytes]:
    def write(data: bytes) -> bytes:
        cover = (_COVER * (len(data) * every // len(_COVER) + 1))[: len(data) * every]
        mixed = np.frombuffer(cover, np.uint8).reshape(-1, every).copy()
        mixed[:, 0] = np.frombuffer(data, np.uint8)
        return mixed.tobytes()

    return write


def _hex_dump(data: bytes) -> bytes:
    lines = (f"{at:08x}  {data[at : at + 16].hex(' ')}" for at in range(0, len(data), 16))
    return "\n".join(lines).encode()


def _decimal(data: bytes) -> bytes:
    values = np.frombuffer(data[: len(data) & ~1], "<f2").astype(float)
    return json.dumps({"embedding": [round(v, 5) for v in values if np.isfinite(v)]}).encode()


def _checksums(data: bytes) -> bytes:
    rows = [
        {"path": f"src/{at}.txt", "sha256": data[at : at + 32].hex()}
        for at in range(0, len(data), 32)
    ]
    return json.dumps(rows).encode()


def _twice(data: bytes) -> bytes:
    return b"".join(data[at : at + 1024] * 2 for at in range(0, len(data), 1024))


def _padded(data: bytes) -> bytes:
    return b"".join(data[at : at + 64] + bytes(448) for at in range(0, len(data), 64))


def _tokens(data: bytes) -> bytes:
    text = base64.b64encode(data).decode()
    events = (
        b'data: {"choices":[{"delta":{"content":'
        + json.dumps(text[at : at + 4]).encode()
        + b"}}]}\n\n"
        for at in range(0, len(text), 4)
    )
    return b"".join(events)


def _png(data: bytes) -> bytes:
    side = 128
    rows = b"".join(b"\0" + data[at : at + 3 * side] for at in range(0, len(data), 3 * side))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", side, len(data) // (3 * side) or 1, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


def _xored(data: bytes) -> bytes:
    pad = hashlib.shake_256(b"pad").digest(len(data))
    return (np.frombuffer(data, np.uint8) ^ np.frombuffer(pad, np.uint8)).tobytes()


def _planes(data: bytes) -> bytes:
    return data[::2] + data[1::2]


EVASIONS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "encrypted": encrypted,
    "xor_with_a_pad": _xored,
    "byte_planes": _planes,
    "in_a_png": _png,
    "base64_by_tokens": _tokens,
    "each_kib_twice": _twice,
    "seven_eighths_padding": _padded,
    "hex_dump": _hex_dump,
    "decimal_numbers": _decimal,
    "as_checksums": _checksums,
    "word_list": _word_list,
    "one_byte_of_16": _diluted(16),
    "one_byte_of_64": _diluted(64),
}


def measure(models: tuple[Model, ...], progress: Progress) -> dict[str, Figure]:
    """The share of pieces of 64 KiB of weights, in fp16, that are sighted under each trick."""
    figures: dict[str, Figure] = {}
    pieces = [
        data[at : at + _PIECE]
        for model in models
        for data in (FORMATS["fp16"](model.rows_RC),)
        for at in range(0, min(len(data), _PIECES // 2 * _PIECE), _PIECE)
    ]
    for done, (name, trick) in enumerate(EVASIONS.items()):
        progress("evasions", done, len(EVASIONS))
        hidden = [trick(piece) for piece in pieces]
        size = sum(map(len, hidden)) / sum(map(len, pieces))
        figures[f"evasion.{name}"] = report(
            sum(bool(scan(data)) for data in hidden) / len(pieces),
            unit="share",
            n=len(pieces),
            how=f"sighted; 0: the evasion works. It sends {size:.1f} bytes a byte of weights",
        )
    progress("evasions", len(EVASIONS), len(EVASIONS))
    return figures
