"""How many streams may be open at once, for one principal and in all, and whether any may begin."""

from __future__ import annotations

import asyncio
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
        self._shut = False
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def shut(self) -> bool:
        """Whether nothing may begin any more."""
        return self._shut

    def shut_down(self) -> None:
        """Let nothing begin from now on; what is open goes on."""
        self._shut = True

    async def emptied(self) -> None:
        """Return once nothing is open."""
        await self._empty.wait()

    @contextmanager
    def admit(self, principal: str, streams: int) -> Iterator[None]:
        """Hold room for `streams` while the context is open.

        Raises ApiError: 429 if the principal has too many open, 503 if everybody together has or
        nothing may begin any more.
        """
        if self._shut:
            raise of_failure("overloaded")
        if self._open[principal] + streams > self._per_principal:
            raise of_failure("too_many_streams")
        if self._open.total() + streams > self._in_all:
            raise of_failure("overloaded")
        self._open[principal] += streams
        self._empty.clear()
        try:
            yield
        finally:
            self._open[principal] -= streams
            if not self._open.total():
                self._empty.set()
