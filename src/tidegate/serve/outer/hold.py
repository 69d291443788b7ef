"""Holds every answer back until a verifier has re-executed it and found nothing.

The verifier follows the record by himself, on another machine or beside this half, and says one
word an answer; he sees nothing here that the record does not hold. No verdict, or none in time, is
a refusal: an answer that nobody checked does not leave. Users get whole answers at once, later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Annotated, Final, Protocol, cast

import msgspec
import structlog
from msgspec import Meta

from tidegate.serve.jobs import Delta, Engine, Event, Failed, Finished, Job
from tidegate.units import Seconds

_log = structlog.get_logger(__name__)

CODE: Final = "not_verified"
MAX_LINE: Final = 4_096
"""Bytes of a question or a verdict."""


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which answer; request and choice name it in the record."""

    request: Annotated[str, Meta(max_length=256)]
    choice: Annotated[int, Meta(ge=0)]


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether it may leave; `reason` is for this half's log."""

    passed: bool
    reason: Annotated[str, Meta(max_length=1024)] = ""


class Examiner(Protocol):
    """Somebody who verifies recorded answers."""

    async def examine(self, question: Question) -> Verdict:
        """His verdict, once he has one. Never raises: what goes wrong is a refusal."""
        ...


class HeldEngine:
    """`serve.jobs.Engine` around a recorded one, whose answers leave only after a pass."""

    def __init__(self, engine: Engine, examiner: Examiner) -> None:
        self._engine = engine
        self._examiner = examiner

    def healthy(self) -> bool:
        """Whether the engine behind is."""
        return self._engine.healthy()

    async def stream(self, job: Job) -> AsyncIterator[Event]:
        """See `Engine.stream`; an answer that fails midway leaves nothing of itself."""
        held: list[Delta] = []
        stream = cast("AsyncGenerator[Event, None]", self._engine.stream(job))
        async with aclosing(stream) as events:
            async for event in events:
                if isinstance(event, Delta):
                    held.append(event)
                elif isinstance(event, Finished):
                    verdict = await self._examiner.examine(Question(job.request_id, job.choice))
                    if verdict.passed:
                        for delta in held:
                            yield delta
                        yield event
                        return
                    _log.warning("answer_held", request=job.request_id, reason=verdict.reason)
                    yield Failed(CODE, "The answer was not verified, so it does not leave.")
                    return
                else:
                    yield event
                    return


@dataclass(frozen=True, slots=True)
class SocketExaminer:
    """A verifier behind a Unix socket: one connection, one line each way, an answer."""

    path: str
    patience: Seconds

    async def examine(self, question: Question) -> Verdict:
        """See `Examiner.examine`."""
        try:
            async with asyncio.timeout(self.patience):
                return await self._ask(question)
        except TimeoutError:
            return Verdict(passed=False, reason="the verifier did not answer in time")
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            reason = f"the verifier cannot be asked: {type(error).__name__}"
            return Verdict(passed=False, reason=reason)

    async def _ask(self, question: Question) -> Verdict:
        reader, writer = await asyncio.open_unix_connection(self.path, limit=MAX_LINE)
        try:
            writer.write(msgspec.json.encode(question) + b"\n")
            await writer.drain()
            return msgspec.json.decode(await reader.readline(), type=Verdict)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
