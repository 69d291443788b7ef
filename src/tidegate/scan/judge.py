"""What is said of a stretch that looks like weights and cannot be unwrapped."""

from __future__ import annotations

from typing import Final

from tidegate.scan import tensors
from tidegate.scan.seen import Seen, Shared
from tidegate.scan.sighting import Kind, Sighting

Span = tuple[int, int]
"""From where to where in the outermost stream."""

_HELD_AGAINST: Final = 1 << 16
"""Bytes of a stretch that are held against fingerprints: a match needs far fewer."""
_EAGER, _SELDOM = 4, 8
"""The first stretches of a stream are all looked at as numbers and held against the fingerprints,
later ones each eighth (all, while they match): looking costs far more than measuring."""


class Judge:
    """Names the stretches of one stream. `only_own`: none but the owner's own weights."""

    def __init__(self, shared: Shared, layers: tuple[str, ...], *, only_own: bool) -> None:
        self._shared = shared
        self._layers = layers
        self._only_own = only_own
        self._stretches = 0
        self._numbers = tensors.NOTHING
        self._matched = False

    def tell(self, span: Span, kind: Kind, detector: str, score: float, explanation: str) -> None:
        """Adds to what the scan has seen."""
        if self._only_own:
            return
        self._shared.told.append(
            Sighting(span[0], span[1] - span[0], kind, detector, score, explanation, self._layers)
        )

    def judge(self, seen: Seen, first: int, last: int, span: Span) -> None:
        """Says what the windows from `first` to before `last`, which lie at `span`, look like."""
        stretch = seen.data[first * seen.window : last * seen.window]
        self._stretches += 1
        if self._stretches <= _EAGER or self._stretches % _SELDOM == 0:
            self._numbers = tensors.look(stretch)
        numbers = self._numbers
        if numbers.surprise >= tensors.EVEN and self._is_own(stretch, span):
            return
        best = first + int(seen.beyond_W[first:last].argmax())
        kind = Kind.WEIGHTS if numbers.layout else Kind.OPAQUE
        detector = "tensor-statistics" if numbers.layout else "lz-gain"
        gain = max(float(seen.measures.gain_W[best]), 0)
        says = (
            f"{numbers.says}; nothing repeats: LZ saves {gain:.1%} over single bytes, where text "
            f"saves 10% and more, at {seen.measures.entropy_W[best]:.1f} bits a byte"
        )
        self.tell(span, kind, detector, float(seen.beyond_W[best]), says)

    def _is_own(self, stretch: bytes, span: Span) -> bool:
        matcher = self._shared.matcher
        due = self._matched or self._stretches <= _EAGER or self._stretches % _SELDOM == 0
        if matcher is None or not due:
            return False
        match = matcher.match(stretch[:_HELD_AGAINST])
        self._matched = match is not None
        if match is None:
            return False
        place = match.place
        says = (
            f"{match.places} places in a row of {place.model}, shard {place.shard}, tensor "
            f"{place.tensor}, from byte {place.offset:,} of the shard on, written as {match.layout}"
        )
        self._shared.told.append(
            Sighting(
                offset=span[0],
                length=span[1] - span[0],
                kind=Kind.OWN_WEIGHTS,
                detector="fingerprint",
                score=float(match.places),
                explanation=says,
                layers=self._layers,
                weight=place,
            )
        )
        return True
