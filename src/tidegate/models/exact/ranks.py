"""`port.Model` over several ranks, of which this process is the first.

Rank 0 leads: it checks each call, runs its own layers and asks the others in turn; they never speak
to each other, so it is always known who fell silent. A rank that is lost takes its pages with it:
from then on every call raises EngineDownError, which names it, until `recover` has found all ranks
again and every sequence is forgotten. Ranks take turns, so several of them hold a larger model and
are no faster.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import EngineDownError, ModelError, ProtocolViolationError
from tidegate.models.batch import Batch, check_batch
from tidegate.models.exact import rank_wire as wire
from tidegate.models.exact.model import passes
from tidegate.models.exact.stage import Stage
from tidegate.models.port import F32Array, ModelInfo

Connect = Callable[[], socket.socket]
"""Opens a connection to a rank, with a timeout for every call. Raises OSError."""


class Rank:
    """Calls to one other rank. Every call raises EngineDownError once it is lost."""

    def __init__(self, number: int, ranks: int, connect: Connect, secret: bytes, root: str) -> None:
        self.number = number
        self._ranks = ranks
        self._connect = connect
        self._greeting = wire.Greet(wire.VERSION, secret, root, number, ranks)
        self._socket: socket.socket | None = None

    def join(self) -> None:
        """Connect anew; the rank then holds nothing. Raises EngineDownError."""
        self.close()
        try:
            self._socket = self._connect()
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            raise self._lost(str(error)) from error
        try:
            self.ask(self._greeting)
        except ModelError as error:
            raise self._lost(error.message) from error

    def ask(self, call: wire.Call) -> wire.Answer:
        """One call. Raises ModelError where the rank says that it cannot be done."""
        there = self._socket
        if there is None:
            raise self._lost("it is not connected")
        try:
            there.sendall(wire.encode(call))
            size = wire.length_of(_exactly(there, wire.PREFIX))
            answer = wire.decode_answer(_exactly(there, size))
        except (OSError, ProtocolViolationError) as error:
            self.close()
            raise self._lost(str(error)) from error
        if answer.error:
            raise ModelError(answer.error, rank=self.number)
        return answer

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
        self._socket = None

    def _lost(self, why: str) -> EngineDownError:
        return EngineDownError(
            f"rank {self.number} of {self._ranks} is gone: {why}", rank=self.number
        )


class RankedModel:
    """See the module's docstring; `port.Model` and `port.Recovering`. Not thread-safe."""

    exact = True

    def __init__(
        self,
        stage: Stage,
        ranks: Sequence[Rank],
        *,
        vocab_size: int,
        context_length: int,
        info: ModelInfo,
        fingerprint: str,
        eos_ids: frozenset[int],
        pass_rows: int = 256,
    ) -> None:
        """`stage` is rank 0's own, `ranks` the others in order. Call `recover` before the first
        call of the model."""
        self.vocab_size = vocab_size
        self.context_length = context_length
        self.fingerprint = fingerprint
        self.eos_ids = eos_ids
        self._stage = stage
        self._ranks = tuple(ranks)
        self._info = info
        self._pass_rows = pass_rows
        self._down: EngineDownError | None = EngineDownError("the ranks have not joined yet")
        self._held: set[int] = set()
        self._gone: set[int] = set()
        """Sequences that were lost with a rank and that their caller has not dropped yet."""

    def describe(self) -> ModelInfo:
        return self._info

    def recover(self) -> None:
        """See `port.Recovering.recover`."""
        for rank in self._ranks:
            rank.join()
        self._stage.forget()
        self._gone |= self._held
        self._held.clear()
        self._down = None

    def close(self) -> None:
        """Let the other ranks go."""
        for rank in self._ranks:
            rank.close()

    def forward(self, batch: Batch) -> F32Array:
        """See `port.Model.forward`. Raises EngineDownError where a rank is lost."""
        self._require_up()
        check_batch(
            batch,
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            length_of=self._stage.length,
        )
        if lost := self._gone.intersection(number for number, _ in batch):
            raise ModelError("this sequence was lost with a rank", sequence_id=min(lost))
        before = tuple((number, self._stage.length(number)) for number, _ in batch)
        try:
            logits_NV = self._run(batch)
        except ModelError:
            self._stage.cut(before)
            self._all(wire.Cut(before))
            raise
        self._held.update(number for number, _ in batch)
        return logits_NV

    def fork(self, sequence_id: int, new_id: int) -> None:
        """Start `new_id` as a copy of a sequence. Raises ModelError for an unknown or taken id."""
        self._require_up()
        self._stage.fork(sequence_id, new_id)
        self._all(wire.Fork(sequence_id, new_id))
        self._held.add(new_id)

    def drop(self, sequence_id: int) -> None:
        """Forget a sequence. Raises ModelError for an unknown id."""
        if self._down is not None or sequence_id in self._gone:
            self._gone.discard(sequence_id)
            self._held.discard(sequence_id)
            return  # forgotten already, with all the others
        self._stage.drop(sequence_id)
        self._held.discard(sequence_id)
        with suppress(EngineDownError):
            # Whoever asks for more will hear of it.
            self._all(wire.Drop(sequence_id))

    def _run(self, batch: Batch) -> F32Array:
        fresh = tuple(
            (number, tuple(tokens)) for number, tokens in batch if not self._stage.length(number)
        )
        known = dict(zip([number for number, _ in fresh], self._start(fresh), strict=True))
        work = [(number, list(tokens[known.get(number, 0) :])) for number, tokens in batch]
        found = [self._pass(parts, last) for parts, last in passes(work, self._pass_rows)]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _start(self, fresh: tuple[wire.Part, ...]) -> tuple[int, ...]:
        if not fresh:
            return ()
        known = self._stage.start(fresh)
        for rank in self._ranks:
            if self._ask(rank, wire.Start(fresh)).known != known:
                raise self._fallen(EngineDownError("the ranks know different pages"))
        return known

    def _pass(
        self, parts: Sequence[tuple[int, list[int]]], last: Sequence[int]
    ) -> NDArray[np.float32]:
        rows = sum(len(tokens) for _, tokens in parts)
        told = tuple((number, tuple(tokens)) for number, tokens in parts)
        made = self._stage.run(parts, last, None)
        for rank in self._ranks:
            raw = self._ask(rank, wire.Run(told, tuple(last), wire.bytes_of(made))).array
            ends = rank is self._ranks[-1]
            columns, wanted = (self.vocab_size, len(last)) if ends else (self._stage.width, rows)
            try:
                made = wire.rows_of(raw, columns)
            except ProtocolViolationError as error:
                raise self._fallen(EngineDownError(error.message, rank=rank.number)) from error
            if len(made) != wanted:
                raise self._fallen(EngineDownError("a rank lost rows", rank=rank.number))
        return made.copy()

    def _all(self, call: wire.Call) -> None:
        for rank in self._ranks:
            self._ask(rank, call)

    def _ask(self, rank: Rank, call: wire.Call) -> wire.Answer:
        try:
            return rank.ask(call)
        except EngineDownError as error:
            raise self._fallen(error) from error

    def _fallen(self, error: EngineDownError) -> EngineDownError:
        self._down = error
        self.close()
        return error

    def _require_up(self) -> None:
        if self._down is not None:
            raise EngineDownError(self._down.message, **self._down.details)


def _exactly(there: socket.socket, size: int) -> bytes:
    raw = bytearray()
    while len(raw) < size:
        part = there.recv(min(size - len(raw), 1 << 20))
        if not part:
            raise ConnectionError("it hung up")
        raw += part
    return bytes(raw)
