"""Looks at answers for weights before they leave.

Weights told as text, such as base64, are found by `scan` like anywhere else. Each answer has a
scanner of its own, and each principal another for all that his answers said, so that a payload cut
over many short answers adds up. Words, numbers spelled out and hidden codes are not found here:
the ledger's budget and re-execution are their answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Final, Literal, cast

import structlog

from tidegate.scan.sighting import Kind, Sighting
from tidegate.scan.stream import Scanner, Settings
from tidegate.serve.jobs import Delta, Engine, Event, Failed, Job
from tidegate.serve.telemetry import Metrics

_log = structlog.get_logger(__name__)

CODE: Final = "weights_in_answer"
BLOCK: Final = 1 << 13
"""Bytes of text that are judged together; an answer of 2,000 tokens has about as many."""
_PRINCIPALS: Final = 1024
_OPEN: Final = frozenset({Kind.OPAQUE, Kind.BOMB})
"""Kinds that honest answers may have, as when a user asks for a key: told, never stopped."""

OnSight = Literal["alarm", "stop"]


class ScannedEngine:
    """`serve.jobs.Engine` around another.

    Args:
        engine: whose answers are looked at.
        on_sight: `alarm` counts an incident and logs it; `stop` also ends the answer in an error.
            What is found only once the answer has left cannot be stopped; then the principal's
            next answer is.
        metrics: where incidents are counted.
        settings: of the scanners; the owner's fingerprints are the part that names weights.
    """

    def __init__(
        self, engine: Engine, on_sight: OnSight, metrics: Metrics, settings: Settings | None = None
    ) -> None:
        self._engine = engine
        self._stops = on_sight == "stop"
        self._metrics = metrics
        self._settings = settings or Settings(block=BLOCK)
        self._principals: OrderedDict[str, Scanner] = OrderedDict()
        self._barred: set[str] = set()

    def healthy(self) -> bool:
        """Whether the engine behind is."""
        return self._engine.healthy()

    async def stream(self, job: Job) -> AsyncIterator[Event]:
        """See `Engine.stream`. A delta leaves only after it was looked at."""
        if job.principal in self._barred:
            self._barred.discard(job.principal)
            yield _refusal()
            return
        scanner, said = Scanner(self._settings), bytearray()
        stream = cast("AsyncGenerator[Event, None]", self._engine.stream(job))
        async with aclosing(stream) as events:
            async for event in events:
                if isinstance(event, Delta):
                    text = event.text.encode()
                    said += text
                    found = scanner.feed(text)
                else:
                    # Before the end is told, so that an answer's last words are looked at, too.
                    found = scanner.close() + self._add_up(job.principal, bytes(said))
                if self._tell(job, found) and self._stops:
                    if not isinstance(event, Delta):
                        self._barred.add(job.principal)
                    yield _refusal()
                    return
                yield event

    def _add_up(self, principal: str, said: bytes) -> tuple[Sighting, ...]:
        scanner = self._principals.pop(principal, None) or Scanner(self._settings)
        self._principals[principal] = scanner
        if len(self._principals) > _PRINCIPALS:
            self._principals.popitem(last=False)
        return scanner.feed(said)

    def _tell(self, job: Job, found: Sequence[Sighting]) -> bool:
        """Count and log what was found; whether any of it is weights."""
        for sighting in found:
            self._metrics.incident(CODE)
            _log.warning(
                CODE,
                request=job.request_id,
                principal=job.principal,
                seen=sighting.kind.value,
                detector=sighting.detector,
                offset=sighting.offset,
                length=sighting.length,
            )
        return any(sighting.kind not in _OPEN for sighting in found)


def _refusal() -> Failed:
    return Failed(CODE, "The answer looks like a model's weights, so it does not leave.")
