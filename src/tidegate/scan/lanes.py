"""JSON taken apart into what its keys carry, so that an answer in a thousand events is one text.

A stream of events repeats ids and field names around every token; what leaves is the values of
one key, joined. `Lanes` does that for JSON, JSON lines and server-sent events, cut anywhere and
well formed or not, in one pass in C (`_native/scan_lanes.c`; `split_slowly` is its reference).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from tidegate._native._scan import ffi, lib

REST, NUMBERS, OTHERS = "(rest)", "(numbers)", "(others)"
MOST_LANES: Final[int] = lib.TG_LANES
_NAME: Final[int] = lib.TG_LANE_NAME
_FIRST_KEY: Final = 2
_ROOM: Final[int] = lib.TG_LANE_ROOM
_LONGEST_KEY: Final = 1024
_QUOTED_KEY = b'":'
_SPARSEST: Final = 2048
"""JSON whose keys lie further apart than this gains nothing from being taken apart: its values are
longer than the scanner's windows."""


_SAMPLE: Final = 1 << 15


class Lane(NamedTuple):
    """Bytes that belong together: `name` is the key before them, `values` how many there are."""

    name: str
    data: bytes
    values: int


def looks_like_json(data: bytes) -> bool:
    """Whether keys are dense enough for lanes to matter."""
    if len(data) <= 2 * _SAMPLE:
        return _keys(data) * _SPARSEST > len(data)
    return (_keys(data[:_SAMPLE]) + _keys(data[-_SAMPLE:])) * _SPARSEST > 2 * _SAMPLE


def _keys(data: bytes) -> int:
    return int(lib.tg_scan_pairs(ffi.from_buffer("uint8_t[]", data), len(data), *_QUOTED_KEY))


def cut(data: bytes) -> int:
    """How much to feed of a text that goes on, so that no key is cut in two; values may be."""
    near = len(data) - _LONGEST_KEY
    found = max(data.rfind(end, max(0, near)) for end in (b'",', b'"}', b'"]', b"\n"))
    return found + 1 if found >= 0 else len(data)


class Lanes:
    """Takes a stream apart, a piece at a time; remembers where it was cut, and its keys."""

    def __init__(self) -> None:
        self._state = ffi.new("tg_lanes *")
        self._names: list[str] = [REST, NUMBERS]

    def feed(self, data: bytes) -> tuple[Lane, ...]:
        """The lanes that this piece adds to; lanes without bytes are left out."""
        size, state = len(data), self._state
        scratch_B, out_B = (np.empty(size + _ROOM, np.uint8) for _ in range(2))
        segment_S, start_L, values_L = (
            np.empty(n, np.int32) for n in (size + _ROOM, MOST_LANES + 1, MOST_LANES)
        )
        count = lib.tg_lanes_feed(
            state,
            ffi.from_buffer("uint8_t[]", data),
            size,
            ffi.from_buffer("uint8_t[]", scratch_B, require_writable=True),
            ffi.from_buffer("int32_t[]", segment_S, require_writable=True),
            ffi.from_buffer("uint8_t[]", out_B, require_writable=True),
            ffi.from_buffer("int32_t[]", start_L, require_writable=True),
            ffi.from_buffer("int32_t[]", values_L, require_writable=True),
        )
        names = self._known(count)
        bounds = start_L[: count + 1].tolist()
        return tuple(
            Lane(name, out_B[start:stop].tobytes(), values)
            for name, start, stop, values in zip(
                names, bounds[:-1], bounds[1:], values_L[:count].tolist(), strict=True
            )
            if stop > start
        )

    def _known(self, count: int) -> list[str]:
        raw = ffi.buffer(self._state.name_LC)
        for lane in range(len(self._names), min(count, MOST_LANES - 1)):
            key = bytes(raw[lane * _NAME : (lane + 1) * _NAME]).rstrip(b"\0")
            self._names.append(key.decode("utf-8", "replace"))
        return self._names[:count] if count < MOST_LANES else [*self._names, OTHERS]


_ESCAPES = {ord(a): ord(b) for a, b in zip("bfnrt", "\b\f\n\r\t", strict=True)}
_SPACE = b" \n\r\t"
_BEGINS_NUMBER = b"0123456789-"
_NUMBER = _BEGINS_NUMBER + b".+eE,"


def split_slowly(text: bytes) -> dict[str, bytes]:
    """The definition, for a text that is not cut: lane → bytes."""
    lanes: dict[str, bytearray] = {REST: bytearray(), NUMBERS: bytearray()}
    lane, at = REST, 0
    while at < len(text):
        if text[at] in _BEGINS_NUMBER:
            while at < len(text) and text[at] in _NUMBER:
                lanes[NUMBERS].append(text[at])
                at += 1
            continue
        if text[at] != ord('"'):
            lanes[REST].append(text[at])
            at += 1
            continue
        value, at = _string(text, at + 1)
        after = at
        while after < len(text) and text[after] in _SPACE:
            after += 1
        if after < len(text) and text[after] == ord(":"):
            lanes[REST] += value
            lane = _lane_of(lanes, value)
        else:
            lanes[lane] += value
    return {name: bytes(data) for name, data in lanes.items() if data}


def _lane_of(lanes: dict[str, bytearray], key: bytes) -> str:
    name = key.hex()
    if name not in lanes:
        if len(lanes) - (OTHERS in lanes) == MOST_LANES - 1:
            name = OTHERS
        lanes.setdefault(name, bytearray())
    return name


def _string(text: bytes, at: int) -> tuple[bytes, int]:
    """A string's value and where it ends, from just behind its opening quote."""
    out = bytearray()
    while at < len(text) and text[at] != ord('"'):
        if text[at] != ord("\\"):
            out.append(text[at])
            at += 1
            continue
        letter = text[at + 1 : at + 2]
        at += 2
        if letter != b"u":
            out += bytes(_ESCAPES.get(c, c) for c in letter)
            continue
        digits = 0
        while digits < 4 and text[at + digits : at + digits + 1] in _HEX:
            digits += 1
        if digits == 4:
            out += chr(int(text[at : at + 4], 16)).encode("utf-8", "surrogatepass")
        at += digits
    return bytes(out), at + 1


_HEX = {bytes([c]) for c in b"0123456789abcdefABCDEF"}
