"""Many positions of a sequence as rows: their scores, their noise, and who could have won.

The same arithmetic as `sampling.filters.shift_logits` and `sampling.gumbel.Noise`, a block of rows
at a time; tests hold them equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidegate._native._kernels import ffi, lib
from tidegate.errors import EngineError
from tidegate.sampling.filters import MIN_TEMPERATURE, PenaltyState, needs_penalties
from tidegate.sampling.gumbel import MAX_VOCAB, SEED_BYTES
from tidegate.sampling.params import SamplingParams

F32Array = NDArray[np.float32]
F64Array = NDArray[np.float64]
I32Array = NDArray[np.int32]
I64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Ids = Sequence[int] | NDArray[np.integer]

UNIT = 2.0**20
"""Sums of score and noise are integers in units of 2**-20 nat (spec/noise.md)."""

NEVER = np.iinfo(np.int64).max
"""The gap of a token whose score is -inf."""

EVERYTHING = 1 << 60
"""A reach, in units, that no gap exceeds."""

FIRST_CAPACITY = 64
"""Contenders a row to make room for at first; a larger answer is asked for again."""


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Which noise each row was drawn with. seeds_TS: uint8 [T, 16]. positions_T: uint32 [T]."""

    seeds_TS: NDArray[np.uint8]
    positions_T: NDArray[np.uint32]

    @staticmethod
    def of(seeds: Sequence[bytes], positions: Sequence[int]) -> Draws:
        """One seed and position a row.

        Raises ValueError for a seed shorter than 16 bytes, a position outside 32 bits, or when
        there are not as many of one as of the other.
        """
        if any(len(seed) < SEED_BYTES for seed in seeds):
            raise ValueError(f"a seed has at least {SEED_BYTES} bytes")
        if len(seeds) != len(positions):
            raise ValueError(f"{len(seeds)} seeds for {len(positions)} positions")
        if any(not 0 <= position < 1 << 32 for position in positions):
            raise ValueError("a position is outside 32 bits")
        joined = b"".join(seed[:SEED_BYTES] for seed in seeds)
        seeds_TS = np.frombuffer(joined, np.uint8).reshape(-1, SEED_BYTES)
        return Draws(seeds_TS, np.array(positions, np.uint32))

    @staticmethod
    def along(seed: bytes, length: int, start: int = 0) -> Draws:
        """Rows `start` to `start + length` of one answer, drawn with one seed. Raises as `of`."""
        return Draws.of([seed] * length, range(start, start + length))

    def rows(self, part: slice) -> Draws:
        """Some of the rows."""
        return Draws(self.seeds_TS[part], self.positions_T[part])


@dataclass(frozen=True, slots=True, eq=False)
class Contenders:
    """Tokens of each row, row after row: row t's are `start_R[t]` to `start_R[t + 1]`.

    gap_N: int64, how far score + noise lies below the row's best, in 2**-20 nat.
    claimed_gap_T: the same for the claimed token, negative where only a mask kept it from winning,
    NEVER where its score is -inf.
    """

    start_R: I64Array
    id_N: I32Array
    gap_N: I64Array
    claimed_gap_T: I64Array


def row_of(start_R: I64Array) -> I64Array:
    """The row of each element, where row t's lie in start_R[t] to start_R[t + 1]."""
    sizes_T = np.diff(start_R)
    return np.repeat(np.arange(sizes_T.size), sizes_T)


def scale(params: SamplingParams) -> float:
    """Nats of logit to one nat of score: the temperature sampling divides by, 1 when greedy."""
    return max(params.temperature, MIN_TEMPERATURE) if params.temperature else 1.0


def shift_rows(
    logits_TV: F32Array,
    params: SamplingParams,
    prompt_ids: Ids = (),
    output_ids: Ids = (),
    start: int = 0,
) -> F32Array:
    """Steps 1 to 5 of `sampling.filters` for the tokens that follow output_ids[:start + t].

    logits_TV: float32. `output_ids` is the whole answer and has at least start + T tokens where
    penalties are on. Returns float32 [T, V], the logits themselves where nothing is asked for.
    Raises EngineError for a token id outside the vocabulary.
    """
    rows, vocab_size = logits_TV.shape
    scores_TV = logits_TV
    if params.logit_bias:
        ids, biases = zip(*params.logit_bias, strict=True)
        ids_K = _checked(np.array(ids, np.int64), vocab_size)
        scores_TV = logits_TV.copy()
        scores_TV[:, ids_K] += np.array(biases, np.float32)
    if needs_penalties(params):
        if len(output_ids) < start + rows:
            raise ValueError(f"{start + rows} output tokens are needed, not {len(output_ids)}")
        scores_TV = scores_TV.copy() if scores_TV is logits_TV else scores_TV
        _penalise(scores_TV, params, prompt_ids, output_ids, start)
    if params.temperature not in (0.0, 1.0):
        scores_TV = scores_TV / np.float32(scale(params))
    return scores_TV


def contenders(
    scores_TV: F32Array,
    draws: Draws | None,
    claimed_T: I32Array,
    claimed_scores_T: F32Array,
    reach: int,
) -> Contenders:
    """Who comes within `reach` units of the best score + noise, and where the claimed token lies.

    scores_TV: float32 [T, V] contiguous, -inf where masked. claimed_scores_T: the claimed tokens'
    scores, without a mask. `draws` None is greedy. Noise is drawn only for what can come so near.
    Raises EngineError where a row has a NaN or no finite score.
    """
    rows, vocab_size = scores_TV.shape
    if not 1 <= vocab_size <= MAX_VOCAB:
        raise ValueError(f"a vocabulary of {vocab_size} tokens is outside 1 to {MAX_VOCAB}")
    noise = ffi.gc(lib.tg_noise_new(vocab_size), lib.tg_noise_free)
    if noise == ffi.NULL:
        raise MemoryError
    start_R = np.empty(rows + 1, np.int64)
    claimed_gap_T = np.empty(rows, np.int64)
    if draws is None:
        seeds, positions = b"", np.empty(0, np.uint32)
    else:
        seeds = draws.seeds_TS.tobytes()
        positions = np.ascontiguousarray(draws.positions_T)
    found = FIRST_CAPACITY * rows
    capacity = -1
    while found > capacity:
        capacity = found
        id_N, gap_N = np.empty(capacity, np.int32), np.empty(capacity, np.int64)
        found = lib.tg_contenders(
            noise,
            rows,
            vocab_size,
            ffi.from_buffer("uint8_t[]", seeds),
            ffi.from_buffer("uint32_t[]", positions),
            ffi.from_buffer("float[]", np.ascontiguousarray(scores_TV)),
            int(draws is None),
            min(reach, EVERYTHING),
            ffi.from_buffer("int32_t[]", np.ascontiguousarray(claimed_T, np.int32)),
            ffi.from_buffer("float[]", np.ascontiguousarray(claimed_scores_T, np.float32)),
            capacity,
            ffi.from_buffer("int64_t[]", start_R),
            ffi.from_buffer("int32_t[]", id_N),
            ffi.from_buffer("int64_t[]", gap_N),
            ffi.from_buffer("int64_t[]", claimed_gap_T),
        )
    if found < 0:
        raise EngineError("the logits hold a NaN or an infinity, or all are masked", row=-1 - found)
    return Contenders(start_R, id_N[:found], gap_N[:found], claimed_gap_T)


def sums(
    start_R: I64Array, id_N: I32Array, score_N: F32Array, best_T: F32Array, draws: Draws
) -> I64Array:
    """score + noise of listed tokens, row after row, in units. best_T: each row's best score."""
    sum_N = np.empty(id_N.size, np.int64)
    lib.tg_sums(
        best_T.size,
        ffi.from_buffer("uint8_t[]", draws.seeds_TS.tobytes()),
        ffi.from_buffer("uint32_t[]", np.ascontiguousarray(draws.positions_T)),
        ffi.from_buffer("float[]", np.ascontiguousarray(best_T, np.float32)),
        ffi.from_buffer("int64_t[]", np.ascontiguousarray(start_R, np.int64)),
        ffi.from_buffer("int32_t[]", np.ascontiguousarray(id_N, np.int32)),
        ffi.from_buffer("float[]", np.ascontiguousarray(score_N, np.float32)),
        ffi.from_buffer("int64_t[]", sum_N),
    )
    return sum_N


def _checked(ids_D: I64Array, vocab_size: int) -> I64Array:
    if ids_D.size and (ids_D.min() < 0 or ids_D.max() >= vocab_size):
        raise EngineError("a token id lies outside the vocabulary", vocab_size=vocab_size)
    return ids_D


def _penalise(
    scores_TV: F32Array,
    params: SamplingParams,
    prompt_ids: Ids,
    output_ids: Ids,
    start: int,
) -> None:
    """Penalties in place: those of `sampling.filters`, with each row's own counts."""
    rows, vocab_size = scores_TV.shape
    before = PenaltyState.of(prompt_ids, output_ids[:start])
    output_T = np.array(output_ids[start : start + rows], np.int64)
    ids_D = _checked(np.union1d(before.ids_D, output_T), vocab_size)
    came_TD = output_T[:, None] == ids_D
    counts_TD = np.cumsum(came_TD, axis=0) - came_TD
    counts_TD[:, np.searchsorted(ids_D, before.ids_D)] += before.counts_D
    in_prompt_D = np.isin(ids_D, np.array(prompt_ids, np.int64))
    logits_TD = scores_TV[:, ids_D]
    repetition = np.float32(params.repetition_penalty)
    factor_TD = np.where(logits_TD > 0, np.float32(1) / repetition, repetition)
    logits_TD *= np.where((counts_TD > 0) | in_prompt_D, factor_TD, np.float32(1))
    logits_TD -= np.float32(params.frequency_penalty) * counts_TD.astype(np.float32)
    logits_TD -= np.float32(params.presence_penalty) * (counts_TD > 0).astype(np.float32)
    scores_TV[:, ids_D] = logits_TD
