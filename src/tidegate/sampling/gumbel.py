"""Gumbel-max sampling: the token is argmax(score + noise), with noise both sides can draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidegate._native._kernels import ffi, lib
from tidegate.errors import EngineError

F32Array = NDArray[np.float32]
I32Array = NDArray[np.int32]

SEED_BYTES = 16
"""How much of a seed the noise uses; longer seeds are cut."""

MAX_VOCAB = 1 << 30
"""Far above any model's, and far below where an id's counter or its block would overflow."""

GRAIN = 14
"""Candidates' scores are rounded to multiples of 2**(GRAIN - 20) = 1/64 nat. The coder loses
nothing by it, and two machines whose float scores differ in the last digits mostly agree."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best tokens of score + noise, best first; ties go to the lower id.

    ids: int32 [K]. gaps: int32 [K], how far below the best sum, in 2**-20 nat. falls: int32 [K],
    how far the bare score lies below the best bare score of those listed.
    """

    ids: I32Array
    gaps: I32Array
    falls: I32Array
    greedy: bool


class Noise:
    """The noise of one position over a vocabulary; drawn once, asked by both models.

    Without a seed it is silent (greedy decoding). Not safe to share between threads.
    """

    __slots__ = ("_greedy", "_native", "vocab_size")

    def __init__(self, vocab_size: int, seed: bytes | None = None, position: int = 0) -> None:
        """Raises ValueError for no vocabulary, a short seed or a position outside 32 bits."""
        if not 1 <= vocab_size <= MAX_VOCAB:
            raise ValueError(f"a vocabulary of {vocab_size} tokens is outside 1 to {MAX_VOCAB}")
        self.vocab_size = vocab_size
        self._greedy = seed is None
        self._native = ffi.gc(lib.tg_noise_new(vocab_size), lib.tg_noise_free)
        if self._native == ffi.NULL:
            raise MemoryError
        if seed is not None:
            self.move(seed, position)

    def move(self, seed: bytes, position: int) -> None:
        """Draw another position's noise into the same memory."""
        if len(seed) < SEED_BYTES:
            raise ValueError(f"a seed has at least {SEED_BYTES} bytes, not {len(seed)}")
        if not 0 <= position < 1 << 32:
            raise ValueError(f"position {position} is outside 32 bits")
        self._greedy = False
        lib.tg_noise_draw(self._native, seed, position)

    def sample(self, scores_V: F32Array) -> int:
        """argmax(scores + noise). scores: float32 [V] in nats, after temperature; -inf is masked.

        Raises EngineError when no score is finite or one is NaN.
        """
        token = lib.tg_sample(
            self._native, self._pointer(scores_V), self.vocab_size, int(self._greedy)
        )
        if token < 0:
            raise EngineError("the model's scores hold a NaN or an infinity, or all are masked")
        return int(token)

    def rank(self, scores_V: F32Array, wanted: int) -> Ranking:
        """The `wanted` best tokens of scores + noise (fewer where masked).

        Raises as `sample`, and ValueError unless `wanted` is positive.
        """
        if wanted < 1:
            raise ValueError(f"{wanted} tokens cannot be ranked")
        ids = np.empty(wanted, np.int32)
        gaps = np.empty(wanted, np.int32)
        falls = np.empty(wanted, np.int32)
        found = lib.tg_candidates(
            self._native,
            self._pointer(scores_V),
            self.vocab_size,
            int(self._greedy),
            GRAIN,
            wanted,
            ffi.from_buffer("int32_t[]", ids),
            ffi.from_buffer("int32_t[]", gaps),
            ffi.from_buffer("int32_t[]", falls),
        )
        if found < 0:
            raise EngineError("the model's scores hold a NaN or an infinity, or all are masked")
        return Ranking(ids[:found], gaps[:found], falls[:found], self._greedy)

    def _pointer(self, scores_V: F32Array) -> object:
        if scores_V.shape != (self.vocab_size,) or scores_V.dtype != np.float32:
            raise ValueError(
                f"scores must be float32 [{self.vocab_size}], "
                f"not {scores_V.dtype} {list(scores_V.shape)}"
            )
        return ffi.from_buffer("float[]", np.ascontiguousarray(scores_V))


def sample(scores_V: F32Array, seed: bytes, position: int) -> int:
    """Gumbel-max over float32 scores [V] (logits / T after filters): the token at `position`."""
    return Noise(scores_V.shape[0], seed, position).sample(scores_V)


def greedy(scores_V: F32Array) -> int:
    """The token with the highest score; the lowest id wins a tie."""
    return Noise(scores_V.shape[0]).sample(scores_V)
