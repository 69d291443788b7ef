"""A rolling window in bounded memory that errs only towards counting a bit for too long."""

from __future__ import annotations

from dataclasses import dataclass, replace

BUCKETS = 64
"""Buckets a window: a bit is counted for at most 1/64 longer than the window (56 s in an hour)."""


@dataclass(frozen=True, slots=True)
class Window:
    """Bits dated within the last `length` milliseconds of ledger time.

    `buckets` holds (index, bits), ascending; bucket i takes times in [i*width, (i+1)*width) and
    leaves as a whole once its youngest possible bit is `length` old. At most `BUCKETS` + 3 exist.
    """

    length: int
    buckets: tuple[tuple[int, int], ...] = ()

    @property
    def width(self) -> int:
        """Milliseconds a bucket."""
        return -(-self.length // BUCKETS)

    def _leaves_at(self, index: int) -> int:
        return (index + 1) * self.width + self.length

    def _live(self, now: int) -> tuple[tuple[int, int], ...]:
        buckets = self.buckets
        if buckets and self._leaves_at(buckets[0][0]) <= now:
            return tuple(bucket for bucket in buckets if self._leaves_at(bucket[0]) > now)
        return buckets

    def used(self, now: int) -> int:
        """Bits that still count at `now`; negative where credit outweighs them."""
        return sum(bits for _, bits in self._live(now))

    def add(self, now: int, bits: int) -> Window:
        """Count `bits` from `now` for `length` to `length + width`."""
        return self._put(now, now // self.width, bits)

    def credit(self, now: int, bits: int) -> Window:
        """Allow `bits` more from `now` for `length - width` to `length`, never longer."""
        return self._put(now, now // self.width - 1, -bits)

    def _put(self, now: int, index: int, bits: int) -> Window:
        live = self._live(now)
        if not live or live[-1][0] < index:
            return replace(self, buckets=(*live, (index, bits)))
        if live[-1][0] == index:
            return replace(self, buckets=(*live[:-1], (index, live[-1][1] + bits)))
        merged = dict(live)
        merged[index] = merged.get(index, 0) + bits
        return replace(self, buckets=tuple(sorted(merged.items())))

    def frees_in(self, now: int, excess: int) -> int | None:
        """Milliseconds until `excess` bits left, if nothing is added; None if they never do."""
        for index, bits in self._live(now):
            excess -= bits
            if excess <= 0:
                return self._leaves_at(index) - now
        return None
