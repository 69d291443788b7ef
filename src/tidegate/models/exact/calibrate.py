"""How strongly each input channel of a product is scaled before both sides become integers.

An outlier channel costs all others their precision; dividing activations and multiplying weights by
the same numbers moves the difficulty to the weights, which have precision to spare (SmoothQuant,
arXiv 2211.10438). How far it is moved, alpha, is chosen for each product by the error that it
leaves on calibration prompts.

Everything here is correctly rounded or a sum of integers, so that every machine chooses the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.errors import ModelError
from tidegate.models.exact.ops_numpy import product, quantise
from tidegate.models.exact.weights import integer_rows
from tidegate.models.tokenizer import FileTokenizer

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

EIGHTHS = tuple(range(9))
"""Candidates for alpha, in eighths; 0 leaves a product as it is."""

TOKENS = 2_048
"""Of calibration text; four times as many changed no choice that mattered."""

_SAMPLED_ROWS = 192
_SAMPLED_OUTPUTS = 1_024

_REFERENCE_STEPS = 1 << 14
"""As fine as integers can be whose products still sum exactly in float64."""

_FAINTEST = 2.0**-20
"""A channel fainter than this, against the loudest, counts as this loud."""


_LEAST = 2.0**-12
"""No channel is raised more than this against the loudest, so that gains stay in range."""


class _Prompt(msgspec.Struct, frozen=True):
    id: str
    prompt: str


def calibration_prompts() -> list[_Prompt]:
    """Every second packaged prompt; the others are left to measure with."""
    lines = (files("tidegate.data") / "prompts.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=_Prompt) for line in lines[::2]]


def calibration_texts(words: FileTokenizer, limit: int = TOKENS) -> list[list[int]]:
    """Token ids of chats, at most `limit` in all, from prompts of every source."""
    # The file is ordered by source; hashes mix them.
    mixed = sorted(calibration_prompts(), key=lambda p: hashlib.sha256(p.id.encode()).digest())
    texts: list[list[int]] = []
    for prompt in mixed:
        tokens = _opening(words, prompt.prompt)[:limit]
        texts.append(tokens)
        limit -= len(tokens)
        if not limit:
            break
    return texts


def _opening(words: FileTokenizer, prompt: str) -> list[int]:
    try:
        return words.chat([{"role": "user", "content": prompt}])
    except ModelError:  # without a chat template it is a model that continues text
        return words.encode(prompt)


def smoothing(
    x_NK: F32, w_OK: F32, eighths: Sequence[int], group_K: NDArray[np.int64] | None = None
) -> F32:
    """smooth_K: divide activations and multiply weights by it.

    `x_NK` are calibration inputs. `group_K` names for each channel the first of those that must
    share a number, as a key-value head's channels serve several query heads.
    """
    loud_K = np.abs(x_NK).max(axis=0).astype(np.float64)
    heavy_K = np.abs(w_OK).max(axis=0).astype(np.float64)
    if group_K is not None:
        loud_K, heavy_K = (_largest_of_each(values, group_K) for values in (loud_K, heavy_K))
    loud_K, heavy_K = (np.maximum(v, max(v.max(), 1e-30) * _FAINTEST) for v in (loud_K, heavy_K))
    candidates = [_candidate(loud_K, heavy_K, eighth) for eighth in eighths]
    if len(candidates) == 1:
        return candidates[0]
    x_NK = x_NK[:: -(-len(x_NK) // _SAMPLED_ROWS)]
    w_OK = w_OK[:: -(-len(w_OK) // _SAMPLED_OUTPUTS)]
    wanted_NO = _reference(x_NK, w_OK)
    return min(candidates, key=lambda smooth_K: _damage(x_NK, w_OK, smooth_K, wanted_NO))


def _largest_of_each(values_K: F64, group_K: NDArray[np.int64]) -> F64:
    largest_K = values_K.copy()
    np.maximum.at(largest_K, group_K, values_K)
    shared_K: F64 = largest_K[group_K]
    return shared_K


def _candidate(loud_K: F64, heavy_K: F64, eighth: int) -> F32:
    if not eighth:
        return np.ones(len(loud_K), np.float32)
    smooth_K = power(loud_K, eighth) / power(heavy_K, 8 - eighth)
    # Rows are scaled one by one afterwards, so a common factor means nothing; near 1 is tidy.
    tidy_K: F32 = np.maximum(smooth_K / smooth_K.max(), _LEAST).astype(np.float32)
    return tidy_K


def power(x_K: F64, eighths: int) -> F64:
    """x ** (eighths / 8) from square roots, which are correctly rounded where powers are not."""
    if eighths == 8:
        return x_K
    result_K, root_K = np.ones(len(x_K)), x_K
    for bit in (4, 2, 1):
        root_K = np.sqrt(root_K)
        if eighths & bit:
            result_K = result_K * root_K
    return result_K


def _reference(x_NK: F32, w_OK: F32) -> F64:
    """The product before it becomes coarse, exact but for rounding its factors to 15 bits."""
    x, w = (_fine(values) for values in (x_NK, w_OK))
    wanted_NO: F64 = (x[0] @ w[0].T) * x[1] * w[1].T
    return wanted_NO


def _fine(x_NK: F32) -> tuple[F64, F64]:
    largest_N1 = np.maximum(np.abs(x_NK).max(axis=1, keepdims=True).astype(np.float64), 1e-30)
    return np.rint(x_NK * (_REFERENCE_STEPS / largest_N1)), largest_N1 / _REFERENCE_STEPS


def _damage(x_NK: F32, w_OK: F32, smooth_K: F32, wanted_NO: F64) -> int:
    """Squared error of the integer product, in units that only compare within one product."""
    x = quantise(x_NK / smooth_K)
    q_OK, scale_O = integer_rows(w_OK * smooth_K)
    got_NO = product(x.q, q_OK) * x.scale.astype(np.float64)[:, None] * scale_O
    unit = max(float(np.abs(wanted_NO).max()), 1e-30) * 2.0**-20
    error_NO = np.clip(np.rint((got_NO - wanted_NO) / unit), -(2.0**20), 2.0**20).astype(np.int64)
    return int((error_NO * error_NO).sum())
