"""A rank other than the first: runs its stage for whoever leads, one leader at a time."""

from __future__ import annotations

import asyncio
import hmac

import numpy as np
import structlog

from tidegate.errors import ModelError, ProtocolViolationError
from tidegate.models.exact import rank_wire as wire
from tidegate.models.exact.stage import Stage

_log = structlog.get_logger(__name__)

GREETING_S = 10.0


class RankServer:
    """`handle` is the callback for asyncio's `start_server` functions.

    A leader that connects takes over from the one before, whose sequences are forgotten: it may be
    here before anybody noticed that the other one is gone.
    """

    def __init__(self, stage: Stage, secret: bytes, root: str) -> None:
        self._stage = stage
        self._secret = secret
        self._root = root
        self._serving: asyncio.Task[None] | None = None
        self._stage_free = asyncio.Lock()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one leader until it hangs up or another takes over."""
        try:
            async with asyncio.timeout(GREETING_S):
                self._check(await _call(reader))
            before, self._serving = self._serving, asyncio.current_task()
            if before is not None:
                before.cancel()
            async with self._stage_free:
                self._stage.forget()
                await _tell(writer, wire.Answer())
                _log.info("rank_joined", rank=self._stage.span.rank)
                while True:
                    call = await _call(reader)
                    await _tell(writer, await self._run(call))
        except ModelError as error:
            await _tell(writer, wire.Answer(error=error.message))
            _log.warning("rank_refused", **error.diagnostics())
        except ProtocolViolationError as error:
            _log.warning("rank_closed", **error.diagnostics())
        except (OSError, EOFError, TimeoutError) as error:
            _log.info("rank_left", error=type(error).__name__)
        finally:
            writer.close()

    def _check(self, call: wire.Call) -> None:
        if not isinstance(call, wire.Greet) or not hmac.compare_digest(call.secret, self._secret):
            raise ProtocolViolationError("The greeting is not ours.")
        span = self._stage.span
        ours = (wire.VERSION, self._root, span.rank, span.ranks)
        theirs = (call.version, call.root, call.rank, call.ranks)
        for what, own, other in zip(
            ("version", "model", "rank", "ranks"), ours, theirs, strict=True
        ):
            if own != other:
                raise ModelError(f"the ranks differ in their {what}: {own} here, {other} there")

    async def _run(self, call: wire.Call) -> wire.Answer:
        work = asyncio.create_task(asyncio.to_thread(self._answer, call))
        try:
            return await asyncio.shield(work)
        finally:
            # Also when another leader takes over: the stage is not thread-safe.
            await asyncio.wait({work})

    def _answer(self, call: wire.Call) -> wire.Answer:
        try:
            match call:
                case wire.Start(parts):
                    return wire.Answer(known=self._stage.start(parts))
                case wire.Run(parts, last, hidden):
                    h_ND = wire.rows_of(hidden, self._stage.width)
                    made = self._stage.run(parts, last, np.array(h_ND))
                    return wire.Answer(array=wire.bytes_of(made))
                case wire.Cut(lengths):
                    self._stage.cut(lengths)
                case wire.Fork(source, new):
                    self._stage.fork(source, new)
                case wire.Drop(sequence):
                    self._stage.drop(sequence)
                case wire.Greet():
                    return wire.Answer(error="this leader has greeted already")
        except (ModelError, LookupError, ValueError) as error:
            return wire.Answer(error=f"{type(error).__name__}: {error}")
        return wire.Answer()


async def _call(reader: asyncio.StreamReader) -> wire.Call:
    size = wire.length_of(await reader.readexactly(wire.PREFIX))
    return wire.decode_call(await reader.readexactly(size))


async def _tell(writer: asyncio.StreamWriter, answer: wire.Answer) -> None:
    writer.write(wire.encode(answer))
    await writer.drain()
