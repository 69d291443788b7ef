"""Bytes written as text: base64 (RFC 4648, both alphabets), hex, ASCII85, decimal numbers.

A stretch counts as encoded when nearly all of it is of one alphabet. Text is of the base64 alphabet
by nine tenths, so only stretches that look like weights already are asked.
"""

from __future__ import annotations

import base64
import binascii
import re
import string
from typing import Final, NamedTuple

import numpy as np

BASE64, HEX, ASCII85, DECIMAL = "base64", "hex", "ascii85", "decimal"
_LINE_ENDS = b"\r\n"
_SAME = bytes.maketrans(b"-_", b"+/")
_LETTERS = string.ascii_letters.encode() + string.digits.encode()
ALPHABETS: Final = {
    HEX: string.hexdigits.encode(),
    DECIMAL: string.digits.encode() + b"+-.eE,; []\t",
    BASE64: _LETTERS + b"+/-_=",
    ASCII85: bytes(range(33, 118)) + b"z~",
}
_GROUP: Final = {HEX: 2, BASE64: 4, ASCII85: 5}
_LONGEST_OTHER: Final = 0.02
"""Share of a stretch that may be of another alphabet: quotes, headers, a data URI's beginning."""
_GLANCE: Final = 1 << 12
_RUNS: Final = {
    HEX: re.compile(rb"[0-9a-fA-F]{64,}"),
    BASE64: re.compile(rb"[A-Za-z0-9+/_-]{64,}={0,2}"),
    ASCII85: re.compile(rb"[!-uz]{64,}"),
}
_NUMBER: Final = re.compile(rb"[-+]?\d+\.\d+(?:[eE][-+]?\d+)?")
_LEAST_NUMBERS: Final = 64


class Decoded(NamedTuple):
    """What a stretch stands for. `left` is the cut group at its end, to be put before what follows
    when that goes on where this ended."""

    layer: str
    data: bytes
    left: bytes = b""


def alphabet_of(stretch: bytes) -> str | None:
    """The smallest alphabet that nearly all of the stretch is of."""
    first = _mostly_of(stretch[:_GLANCE])
    if len(stretch) <= _GLANCE or first is None:
        return first
    return _mostly_of(stretch)


def _mostly_of(stretch: bytes) -> str | None:
    plain = stretch.translate(None, _LINE_ENDS)
    most = _LONGEST_OTHER * len(plain)
    for layer, alphabet in ALPHABETS.items():
        if plain and len(plain.translate(None, alphabet)) <= most:
            return layer
    return None


def decode(stretch: bytes) -> Decoded | None:
    """What the stretch encodes; None where it is no encoding, or holds no run of it."""
    layer = alphabet_of(stretch)
    if layer is None:
        return None
    if layer == DECIMAL:
        return _numbers(stretch)
    runs = list(_RUNS[layer].finditer(stretch.translate(None, _LINE_ENDS)))
    if not runs:
        return None
    joined = runs[0].group() if len(runs) == 1 else b"".join(_whole(layer, r) for r in runs)
    whole = len(joined.rstrip(b"=")) // _GROUP[layer] * _GROUP[layer]
    if layer == BASE64 and joined.endswith(b"="):
        whole = len(joined) // 4 * 4
    try:
        return Decoded(layer, _decoded(layer, joined[:whole]), joined[whole:])
    except (binascii.Error, ValueError):
        return None


def _whole(layer: str, run: re.Match[bytes]) -> bytes:
    """A run cut to whole groups, so that the next one's are not shifted."""
    group = run.group().rstrip(b"=")
    return group[: len(group) // _GROUP[layer] * _GROUP[layer]]


def _decoded(layer: str, joined: bytes) -> bytes:
    if layer == HEX:
        return binascii.unhexlify(joined)
    if layer == BASE64:
        return binascii.a2b_base64(joined.translate(_SAME))
    return base64.a85decode(joined)


def _numbers(stretch: bytes) -> Decoded | None:
    """Fractions as little-endian single precision; whole numbers are no weights."""
    values = _NUMBER.findall(stretch)
    if len(values) < _LEAST_NUMBERS:
        return None
    with np.errstate(over="ignore"):
        return Decoded(DECIMAL, np.array(values).astype(np.float32).astype("<f4").tobytes())
