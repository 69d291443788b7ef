"""Models for the lab: one small enough for a test, its changelings, and floats that disagree.

The small model is Markov: a drawn vector for the last two tokens times a drawn matrix, as a last
layer is. Its sharpness varies from place to place, as a language model's does, and a first prompt
token asks it for random characters. None of its figures says anything of a real model; the order
of who is caught, and that bounds hold, does not hang on it. Real models take its place by option.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tidegate.errors import ModelError
from tidegate.models.batch import Batch, check_batch
from tidegate.models.port import F32Array, Model, ModelInfo
from tidegate.redteam.drawing import normals

EOS = 0
RANDOM = 1
"""A prompt that begins with it asks for random characters."""

_CHARACTERS = slice(2, 66)
_WIDTH = 48
_SHARPNESS = (2.0, 8.0)
_EOS_LIFT = 3.0


class MarkovModel:
    """The small model behind `port.Model`.

    `four_bit`: its matrix rounded to 16 steps a group of 16 weights. `kept`: the share of its width
    that is used: less is a smaller model of the same family.
    """

    exact = True
    context_length = 1 << 20

    def __init__(
        self, vocab_size: int = 1024, *, four_bit: bool = False, kept: float = 1.0
    ) -> None:
        self.vocab_size = vocab_size
        self.eos_ids = frozenset({EOS})
        drawn_WV = normals(b"matrix", _WIDTH * vocab_size).reshape(_WIDTH, vocab_size)
        weights_WV = _rounded(drawn_WV) if four_bit else drawn_WV.copy()
        weights_WV[math.ceil(kept * _WIDTH) :] = 0
        self._weights_WV = weights_WV / np.float32(math.sqrt(_WIDTH))
        self.fingerprint = hashlib.sha256(self._weights_WV.tobytes()).hexdigest()
        self._held: dict[int, tuple[int, int, int, int]] = {}
        """Sequence id → its first, its last but one and its last token, and its length."""

    def describe(self) -> ModelInfo:
        return ModelInfo(
            name="markov",
            parameters=self._weights_WV.size,
            licence="Apache-2.0",
            provenance="drawn from a hash",
            numerics="float32",
        )

    def forward(self, batch: Batch) -> F32Array:
        """See `port.Model.forward`."""
        check_batch(
            batch,
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            length_of=lambda number: self._held.get(number, (0, 0, 0, 0))[3],
        )
        for number, tokens in batch:
            self._held[number] = _grown(self._held.get(number), tokens)
        return self._logits([self._held[number][:3] for number, _ in batch])

    def fork(self, sequence_id: int, new_id: int) -> None:
        """See `port.Model.fork`."""
        if sequence_id not in self._held or new_id in self._held:
            raise ModelError("no such sequence, or one too many", sequence_id=sequence_id)
        self._held[new_id] = self._held[sequence_id]

    def drop(self, sequence_id: int) -> None:
        """See `port.Model.drop`."""
        if self._held.pop(sequence_id, None) is None:
            raise ModelError("no such sequence", sequence_id=sequence_id)

    def forced(self, prompt: Sequence[int], outputs: Sequence[int]) -> F32Array:
        """logits_TV, row t what output t was drawn from."""
        held = _grown(None, prompt)
        contexts = [held[:3]]
        for token in outputs[:-1]:
            held = _grown(held, (token,))
            contexts.append(held[:3])
        return self._logits(contexts)

    def _logits(self, contexts: Sequence[tuple[int, int, int]]) -> F32Array:
        logits_NV = np.empty((len(contexts), self.vocab_size), np.float32)
        for row, (first, before, last) in enumerate(contexts):
            drawn = normals(f"context {before} {last}".encode(), _WIDTH + 1)
            low, high = _SHARPNESS
            sharpness = low + (high - low) / (1 + math.exp(-1.5 * float(drawn[-1])))
            # One row at a time: a product of many rows may round otherwise than one of few.
            logits_NV[row] = (drawn[:-1] * np.float32(sharpness)) @ self._weights_WV
            logits_NV[row, EOS] += _EOS_LIFT
            if first == RANDOM:
                logits_NV[row] *= np.float32(0.02)
                kept_C = logits_NV[row, _CHARACTERS].copy()
                logits_NV[row] -= 30
                logits_NV[row, _CHARACTERS] = kept_C
        return logits_NV


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseLaw:
    """How far two honest machines' logits differ: normal, of a width that itself varies.

    `sigma`: nats, the median width of one logit's noise. `spread`: how much ln of the width varies
    from token to token (standard deviation); 0 is plain normal noise, more is heavier tails.
    """

    name: str
    sigma: float
    spread: float = 0.5


EXACT = NoiseLaw(name="exact", sigma=0.0)
FP32 = NoiseLaw(name="fp32", sigma=5e-6)
BF16 = NoiseLaw(name="bf16", sigma=0.03)
LAWS = {law.name: law for law in (EXACT, FP32, BF16)}
"""Assumed widths: about what float32 decode differs from float32 prefill by, and bfloat16 from
float32, in a model of 135M parameters; they give 0.001% and 2% of mismatches."""


class NoisyModel:
    """A model whose logits are off by a noise law: another honest stack. As `port.Model`."""

    exact = False

    def __init__(self, model: Model, law: NoiseLaw) -> None:
        self._model = model
        self._law = law
        self._calls = 0
        self.vocab_size = model.vocab_size
        self.eos_ids = model.eos_ids
        self.context_length = model.context_length
        self.fingerprint = model.fingerprint

    def describe(self) -> ModelInfo:
        return self._model.describe()

    def forward(self, batch: Batch) -> F32Array:
        """See `port.Model.forward`."""
        logits_NV = self._model.forward(batch)
        if self._law.sigma == 0.0:
            return logits_NV
        for row in range(len(batch)):
            self._calls += 1
            drawn = normals(f"noise {self._calls}".encode(), self.vocab_size + 1)
            width = self._law.sigma * math.exp(self._law.spread * float(drawn[-1]))
            logits_NV[row] += np.float32(width) * drawn[:-1]
        return logits_NV

    def fork(self, sequence_id: int, new_id: int) -> None:
        self._model.fork(sequence_id, new_id)

    def drop(self, sequence_id: int) -> None:
        self._model.drop(sequence_id)


class MarkovReplay:
    """The small model as a verifier's replay: `logits` of `replay_port.Replay`."""

    def __init__(self, model: MarkovModel) -> None:
        self._model = model

    def logits(
        self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> Iterator[F32Array]:
        """For each (prompt, outputs) logits_TV, row t what output t was drawn from."""
        return (self._model.forced(prompt, outputs) for prompt, outputs in sequences)


def _grown(
    held: tuple[int, int, int, int] | None, tokens: Sequence[int]
) -> tuple[int, int, int, int]:
    first, _, last, length = held or (tokens[0], 0, 0, 0)
    before = tokens[-2] if len(tokens) > 1 else last
    return first, before, tokens[-1], length + len(tokens)


def _rounded(weights_WV: F32Array) -> F32Array:
    """Symmetric 4-bit rounding, a scale for each group of 16 weights of a column."""
    groups_GKV = weights_WV.reshape(-1, 16, weights_WV.shape[1])
    scale_G1V = np.abs(groups_GKV).max(axis=1, keepdims=True) / np.float32(7)
    rounded_WV: F32Array = (np.rint(groups_GKV / scale_G1V) * scale_G1V).reshape(weights_WV.shape)
    return rounded_WV
