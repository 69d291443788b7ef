"""The scanner: bytes in, sightings out, whatever they are wrapped in.

1. Each 256 KiB are measured in windows of 4 KiB (`windows`).
2. JSON and server-sent events are taken apart first (`lanes`), so that what a thousand events
   carry is measured as one text.
3. What looks like weights is unwrapped: compressed members (`unwrap_packed`) and encodings as text
   (`unwrap_text`) become streams of their own, which go through the same steps, to a bounded depth.
4. What cannot be unwrapped is compared with the owner's own weights (`fingerprint`), then looked at
   as numbers (`tensors`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tidegate.scan.calibration import Calibration
from tidegate.scan.fingerprint import Matcher
from tidegate.scan.node import Node
from tidegate.scan.seen import Limits, Shared
from tidegate.scan.sighting import Kind, Place, Sighting

__all__ = ["Calibration", "Kind", "Limits", "Place", "Scanner", "Settings", "Sighting"]

BLOCK: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Settings:
    """What a scanner goes by.

    Args:
        calibration: where the line is drawn; `tidegate scan calibrate` makes one for a site.
        limits: how far wrappings are followed.
        matcher: the owner's fingerprints, or None where there are none.
        block: bytes that are looked at together; smaller finds sooner and runs slower.
    """

    calibration: Calibration = field(default_factory=Calibration)
    limits: Limits = field(default_factory=Limits)
    matcher: Matcher | None = None
    block: int = BLOCK


class Scanner:
    """Scans one stream. Keeps at most a block and the tails of what is being unwrapped."""

    def __init__(self, settings: Settings | None = None) -> None:
        chosen = settings or Settings()
        self._shared = Shared(chosen.calibration, chosen.limits, chosen.matcher)
        self._root = Node(self._shared, hold=chosen.block)
        self._position = 0

    def feed(self, data: bytes) -> tuple[Sighting, ...]:
        """The stream goes on with `data`; what can be said by now."""
        start, self._position = self._position, self._position + len(data)
        self._root.feed(data, (start, self._position))
        return self._told()

    def close(self) -> tuple[Sighting, ...]:
        """The stream is over; what its last bytes say."""
        self._root.close()
        return self._told()

    def _told(self) -> tuple[Sighting, ...]:
        told = tuple(self._shared.told)
        self._shared.told.clear()
        return told


def scan(data: bytes, settings: Settings | None = None) -> tuple[Sighting, ...]:
    """All sightings of a stream that is at hand as a whole."""
    scanner = Scanner(settings)
    return scanner.feed(data) + scanner.close()
