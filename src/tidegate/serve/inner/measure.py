"""What every token cost and what it would have cost otherwise, written down inside.

For demonstrations and measurements: the figures need the strong model's distribution, so they can
only be made here, and the file stays here. The models are wrapped to remember their last logits;
the engine reports each symbol.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import msgspec
import numpy as np

from tidegate.models.port import F32Array, Model, ModelInfo
from tidegate.sampling.filters import mask_scores, shift_logits
from tidegate.sampling.seed import commitment
from tidegate.serve.inner.draw import TRACKS
from tidegate.serve.lockstep import Voice

SHARPNESS = (0.6, 0.8, 1.0, 1.25, 1.6)
"""Inverse temperatures that plain coding may choose from, on top of the sampling temperature."""


class Row(msgspec.Struct, frozen=True):
    """One finished stream; bits. `seed` commits to its seed, `plain` has a sum a SHARPNESS."""

    seed: str
    tokens: tuple[int, ...]
    coupled: float
    plain: tuple[float, ...]
    kl: float


LN2 = math.log(2)


@dataclass(slots=True)
class _Sums:
    tokens: list[int] = field(default_factory=list)
    coupled: float = 0.0
    plain: list[float] = field(default_factory=lambda: [0.0] * len(SHARPNESS))
    kl: float = 0.0


class Measurer:
    """Collects per stream; a row is written when its stream ends.

    A stream is known by its seed: places in the schedule come again with every session. What a
    resumed session sends again is counted once, as it was priced the first time.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = path.open("a", encoding="utf-8")
        path.chmod(0o600)  # it holds answers
        self._sums: dict[bytes, _Sums] = {}
        self._written: set[bytes] = set()
        self._strong: dict[int, F32Array] = {}
        self._weak: dict[int, F32Array] = {}

    def strong(self, model: Model) -> Model:
        """The strong model, remembered."""
        return _Remembering(model, self._strong)

    def weak(self, model: Model) -> Model:
        """The weak model, remembered."""
        return _Remembering(model, self._weak)

    def said(self, voice: Voice, token: int, micro_bits: int) -> None:
        """`token` was put into the coder for `voice`; called before the voice takes it.

        The winner of several candidates is said when its logits are long gone, so such streams are
        not measured.
        """
        if token < 0 or voice.join.candidates > 1 or voice.join.seed in self._written:
            return
        sums = self._sums.setdefault(voice.join.seed, _Sums())
        if len(voice.tokens) != len(sums.tokens):
            return
        sums.tokens.append(token)
        sums.coupled += micro_bits / 65536
        strong_V = self._strong[voice.key.slot * TRACKS]
        # Where the coder went without the weak model, so do the alternatives.
        weak_V = self._weak.pop(voice.key.slot, np.zeros_like(strong_V))
        scores_V = mask_scores(shift_logits(strong_V, voice.params, voice.penalties), voice.params)
        weak_V = shift_logits(weak_V, voice.params, voice.penalties)
        for index, sharpness in enumerate(SHARPNESS):
            log_q = _log_softmax(weak_V * np.float32(sharpness))
            sums.plain[index] -= float(log_q[token]) / LN2
        log_q_V = _log_softmax(weak_V)
        if voice.params.temperature == 0:
            sums.kl -= float(log_q_V[token]) / LN2
            return
        log_p_V = _log_softmax(scores_V)
        alive_V = np.isfinite(log_p_V)
        log_p_A = log_p_V[alive_V]
        sums.kl += float(np.exp(log_p_A) @ (log_p_A - log_q_V[alive_V])) / LN2

    def ended(self, voice: Voice) -> None:
        """The stream is over; its row is on disk when this returns."""
        sums = self._sums.pop(voice.join.seed, None)
        if sums is None:
            return
        self._written.add(voice.join.seed)
        seed = commitment(voice.join.seed).hex()
        row = Row(seed, tuple(sums.tokens), sums.coupled, tuple(sums.plain), sums.kl)
        self._file.write(msgspec.json.encode(row).decode() + "\n")
        self._file.flush()


def read(path: Path) -> dict[str, Row]:
    """The rows of a file by seed commitment. Raises OSError or msgspec.DecodeError."""
    rows = [msgspec.json.decode(line, type=Row) for line in path.read_bytes().splitlines()]
    return {row.seed: row for row in rows}


class _Remembering:
    """A model whose last logits of each sequence can be looked up."""

    def __init__(self, model: Model, last: dict[int, F32Array]) -> None:
        self._model = model
        self._last = last
        self.vocab_size = model.vocab_size
        self.eos_ids = model.eos_ids
        self.context_length = model.context_length
        self.fingerprint = model.fingerprint
        self.exact = model.exact

    def describe(self) -> ModelInfo:
        return self._model.describe()

    def forward(self, batch: Sequence[tuple[int, Sequence[int]]]) -> F32Array:
        logits_NV = self._model.forward(batch)
        self._last.update(
            (number, logits_V) for (number, _), logits_V in zip(batch, logits_NV, strict=True)
        )
        return logits_NV

    def fork(self, sequence_id: int, new_id: int) -> None:
        self._model.fork(sequence_id, new_id)

    def drop(self, sequence_id: int) -> None:
        self._last.pop(sequence_id, None)
        self._model.drop(sequence_id)


def _log_softmax(scores_V: F32Array) -> F32Array:
    shifted_V = scores_V - scores_V.max()
    total = np.exp(shifted_V).sum(dtype=np.float64)
    result_V: F32Array = shifted_V - np.float32(np.log(total))
    return result_V
