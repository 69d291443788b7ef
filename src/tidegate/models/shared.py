"""One model behind several callers, each of which believes that it has a model of its own.

Calls wait for each other, so the model itself need not be thread-safe. With `gather`, calls that
come while another one runs are run together afterwards, as one batch: several links then cost the
model what one with as many streams does. Without, every call runs as it was made, which a model
whose floats depend on the batch needs where two halves have to agree on them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tidegate.errors import EngineError, ModelError
from tidegate.models.batch import Batch
from tidegate.models.port import MODEL_FAILURES, F32Array, Model, ModelInfo, Recovering

STRIDE: Final = 1 << 24
"""Sequence ids of one caller; theirs have to lie below it."""


@dataclass(slots=True)
class _Call:
    batch: Batch
    logits_NV: F32Array | None = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.logits_NV is not None or self.error is not None


class SharedModel:
    """Hands out views of one model. Safe to use from several threads, one a view."""

    def __init__(self, model: Model, *, gather: bool) -> None:
        self._model = model
        self._gather = gather
        self._running = threading.Lock()
        self._queueing = threading.Lock()
        self._queue: list[_Call] = []
        self._views = 0

    @property
    def model(self) -> Model:
        """What is shared."""
        return self._model

    def view(self) -> SharedView:
        """Another caller's own model."""
        self._views += 1
        return SharedView(self, (self._views - 1) * STRIDE)

    def forward(self, batch: Batch) -> F32Array:
        """See `port.Model.forward`; sequence ids are the shared model's."""
        if not self._gather:
            with self._running:
                return self._model.forward(batch)
        call = _Call(batch)
        with self._queueing:
            self._queue.append(call)
        with self._running:
            if not call.done:
                # Whoever is first takes along all who queued while the last batch ran.
                with self._queueing:
                    calls, self._queue = self._queue, []
                self._run(calls)
        if call.error is not None:
            raise call.error
        if call.logits_NV is None:
            raise EngineError("A shared model left a call unanswered.")
        return call.logits_NV

    def fork(self, sequence_id: int, new_id: int) -> None:
        """See `port.Model.fork`."""
        with self._running:
            self._model.fork(sequence_id, new_id)

    def drop(self, sequence_id: int) -> None:
        """See `port.Model.drop`."""
        with self._running:
            self._model.drop(sequence_id)

    def recover(self) -> None:
        """See `port.Recovering.recover`; a model that cannot be lost has nothing to do."""
        with self._running:
            if isinstance(self._model, Recovering):
                self._model.recover()

    def _run(self, calls: Sequence[_Call]) -> None:
        owners = [
            (sequence_id, tokens, call) for call in calls for sequence_id, tokens in call.batch
        ]
        owners.sort(key=lambda one: one[0])
        try:
            logits_NV = self._model.forward([(number, tokens) for number, tokens, _ in owners])
        except ModelError as error:
            # No sequence changed, and one caller's mistake is not the others'.
            for call in calls:
                if len(calls) == 1:
                    call.error = error
                else:
                    self._run([call])
            return
        except MODEL_FAILURES as error:
            for call in calls:
                call.error = error
            return
        for call in calls:
            rows = [place for place, (_, _, owner) in enumerate(owners) if owner is call]
            call.logits_NV = logits_NV[rows]


class SharedView:
    """`port.Model` over a part of a shared model's sequence ids; ids from 0 to `STRIDE` - 1."""

    def __init__(self, shared: SharedModel, first: int) -> None:
        model = shared.model
        self._shared = shared
        self._first = first
        self.vocab_size = model.vocab_size
        self.eos_ids = model.eos_ids
        self.context_length = model.context_length
        self.fingerprint = model.fingerprint
        self.exact = model.exact

    def describe(self) -> ModelInfo:
        """Of the shared model."""
        return self._shared.model.describe()

    def forward(self, batch: Sequence[tuple[int, Sequence[int]]]) -> F32Array:
        """See `port.Model.forward`."""
        return self._shared.forward([(self._id(number), tokens) for number, tokens in batch])

    def fork(self, sequence_id: int, new_id: int) -> None:
        """See `port.Model.fork`."""
        self._shared.fork(self._id(sequence_id), self._id(new_id))

    def drop(self, sequence_id: int) -> None:
        """See `port.Model.drop`."""
        self._shared.drop(self._id(sequence_id))

    def _id(self, number: int) -> int:
        if not 0 <= number < STRIDE:
            raise ModelError("a sequence id is out of range", sequence_id=number)
        return self._first + number
