"""The log as static resources: tiles of hashes and bundles of entries (C2SP tlog-tiles).

https://c2sp.org/tlog-tiles: a checkpoint, `tile/L/N[.p/W]` with up to 256 hashes of one level, and
`tile/entries/N[.p/W]` with up to 256 entries, each after its length in two bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tidegate.transparency.entry import MAX_ENTRY_BYTES
from tidegate.transparency.errors import LogError
from tidegate.transparency.log import Log
from tidegate.transparency.runs import Node

WIDTH: Final = 256
MAX_BUNDLE_BYTES: Final = WIDTH * (2 + MAX_ENTRY_BYTES)

_NUMBER: Final = r"(?:x[0-9]{3}/)*[0-9]{3}"
_PATH: Final = re.compile(
    rf"tile/(?P<level>entries|[0-9]|[1-5][0-9]|6[0-3])/(?P<number>{_NUMBER})"
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Tile:
    """One resource: `level` None for entries; `width` 1 to 256, 256 for a full tile."""

    level: int | None
    number: int
    width: int = WIDTH

    def path(self) -> str:
        """Its path under the log's prefix."""
        digits = f"{self.number:03d}"
        digits = digits.rjust(-(-len(digits) // 3) * 3, "0")
        parts = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        number = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
        level = "entries" if self.level is None else str(self.level)
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{number}{partial}"

    @classmethod
    def parse(cls, path: str) -> Tile | None:
        """The tile of a path; None if it is none's, or not in its one spelling."""
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        level = None if found["level"] == "entries" else int(found["level"])
        number = int(found["number"].replace("/", "").replace("x", ""))
        tile = cls(level, number, int(found["width"] or WIDTH))
        return tile if tile.width <= WIDTH and tile.path() == path else None

    def within(self, size: int) -> bool:
        """Whether a tree of `size` entries has as much of it."""
        return self.number * WIDTH + self.width <= size >> (8 * (self.level or 0))


def cover(start: int, stop: int) -> Iterable[Tile]:
    """The bundles that hold entries `start` to `stop - 1` of a tree of `stop` entries."""
    for number in range(start // WIDTH, -(-stop // WIDTH) if start < stop else 0):
        yield Tile(None, number, min(WIDTH, stop - number * WIDTH))


def read(log: Log, tile: Tile) -> bytes:
    """The bytes of `tile`. Raises LogError: the log does not reach so far."""
    start = tile.number * WIDTH
    if tile.level is None:
        return bundle([raw for _, raw in log.raw_entries(start, start + tile.width)])
    level = 8 * tile.level
    return b"".join(log.hashes([Node(level, start + i) for i in range(tile.width)]))


def bundle(entries: Sequence[bytes]) -> bytes:
    """Entries one after the other, each behind its length in two bytes."""
    return b"".join(len(raw).to_bytes(2, "big") + raw for raw in entries)


def entries_of(raw: bytes, width: int) -> tuple[bytes, ...]:
    """The `width` entries of a bundle. Raises LogError: it is none of that width."""
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 2], "big")
        found.append(raw[at + 2 : at + 2 + size])
        at += 2 + size
    if at != len(raw) or len(found) != width:
        raise LogError(f"A bundle of {width} entries is torn.")
    return tuple(found)
