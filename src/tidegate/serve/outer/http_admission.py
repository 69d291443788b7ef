"""How many streams may be open at once, for one principal and in all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tidegate.openai_api.errors import of_failure


class Admission:
    """Counts open streams. One event loop uses it, so counting needs no lock."""

    def __init__(self, per_principal: int, in_all: int) -> None:
        self._per_principal = per_principal
        self._in_all = in_all
        self._open: Counter[str] = Counter()

    @contextmanager
    def admit(self, principal: str, streams: int) -> Iterator[None]:
        """Hold room for `streams` while the context is open.

        Raises ApiError: 429 if the principal has too many open, 503 if everybody together has.
        """
        if self._open[principal] + streams > self._per_principal:
            raise of_failure("too_many_streams")
        if self._open.total() + streams > self._in_all:
            raise of_failure("overloaded")
        self._open[principal] += streams
        try:
            yield
        finally:
            self._open[principal] -= streams
