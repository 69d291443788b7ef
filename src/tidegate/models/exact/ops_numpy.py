"""The exact engine in numpy: slow, and meant to be read beside spec/exact.md.

Each line is one correctly rounded operation on float32 or float64, or exact on integers. Products
of integers go through a float BLAS where every partial sum is below 2**24 or 2**53, hence exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.models.exact.ops import (
    EXP2,
    LOG2E,
    LOUDEST,
    PAGE,
    QUIET,
    Channels,
    Pool,
    Quantised,
    Queries,
    Rows,
    too_loud,
)
from tidegate.models.exact.parameters import Parameters, Tensors, weight_name
from tidegate.models.exact.shape import Shape

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

SPLIT = 1_024
"""127² · SPLIT < 2**24: float32 sums of so many int8 products are exact in any order."""


class NumpyLinear:
    """Products by the weights, through numpy's float32 BLAS."""

    def __init__(self, shape: Shape, tensors: Tensors) -> None:
        self._shape = shape
        self._tensors = tensors

    def begin(self, rows: Rows) -> None:
        """Nothing to prepare."""

    def multiply(self, layer: int, op: str, q_NK: NDArray[np.int8]) -> I32:
        """See `ops.Linear.multiply`."""
        return product(q_NK, self._tensors[weight_name(self._shape, layer, op)])


def product(q_NK: NDArray[np.int8], w_OK: NDArray[np.int8]) -> I32:
    """acc_NO = Σ_k q_nk · w_ok."""
    acc_NO = np.zeros((q_NK.shape[0], w_OK.shape[0]), np.int32)
    for start in range(0, q_NK.shape[1], SPLIT):
        part = slice(start, start + SPLIT)
        sums_NO = q_NK[:, part].astype(np.float32) @ w_OK[:, part].T.astype(np.float32)
        acc_NO += sums_NO.astype(np.int32)
    return acc_NO


class NumpyOps:
    """`ops.Ops` in numpy."""

    def __init__(self, parameters: Parameters) -> None:
        self._shape = parameters.shape
        self._cos_TR = np.asarray(parameters.cos_TR)
        self._sin_TR = np.asarray(parameters.sin_TR)

    def place(self, array: NDArray[Any]) -> NDArray[Any]:
        """See `ops.Ops.place`."""
        return array

    def fetch(self, array: NDArray[Any]) -> NDArray[Any]:
        """See `ops.Ops.fetch`."""
        return array

    def pool(self, pages: int) -> Pool:
        """See `ops.Ops.pool`."""
        shape = self._shape
        places = (shape.layers, pages, shape.kv_heads, PAGE)
        return Pool(
            keys=np.zeros((*places, shape.head_size), np.int16),
            key_scales=np.zeros(places, np.float32),
            values=np.zeros((*places, shape.head_size), np.int16),
            value_scales=np.zeros(places, np.float32),
        )

    def grow(self, pool: Pool, pages: int) -> None:
        """See `ops.Ops.grow`."""
        more, have = self.pool(pages), pool.pages
        for name in ("keys", "key_scales", "values", "value_scales"):
            getattr(more, name)[:, :have] = getattr(pool, name)
            setattr(pool, name, getattr(more, name))

    def copy_page(self, pool: Pool, source: int, target: int) -> None:
        """See `ops.Ops.copy_page`."""
        for block in (pool.keys, pool.key_scales, pool.values, pool.value_scales):
            block[:, target] = block[:, source]

    def embed(self, q_ND: NDArray[Any], scale_N: F32) -> F32:
        """See `ops.Ops.embed`."""
        return q_ND.astype(np.float32) * scale_N[:, None]

    def normalise(self, h_ND: F32, gain_D: F32) -> Quantised:
        """See `ops.Ops.normalise`."""
        return quantise(self.rms_norm(h_ND, gain_D))

    def rms_norm(self, h_ND: F32, gain_D: F32) -> F32:
        """RMSNorm alone, for who calibrates."""
        largest_N = _loudness(h_ND)
        exponent_N = np.where(largest_N < QUIET, 0, np.frexp(largest_N)[1] - 1)
        q_ND = np.rint(np.ldexp(h_ND, (22 - exponent_N)[:, None])).astype(np.int64)
        q_ND[largest_N < QUIET] = 0
        sum_N = (q_ND * q_ND).sum(axis=1)
        mean_N = sum_N.astype(np.float64) / np.float64(self._shape.width)
        square_N = np.ldexp(mean_N, 2 * (exponent_N - 22)) + np.float64(self._shape.eps)
        inverse_N = (np.float64(1) / np.sqrt(square_N)).astype(np.float32)
        x_ND: F32 = h_ND * inverse_N[:, None] * gain_D
        return x_ND

    def append(
        self, acc_NO: I32, scale_N: F32, qkv: Channels, rows: Rows, pool: Pool, layer: int
    ) -> Queries:
        """See `ops.Ops.append`."""
        shape = self._shape
        y_NO = _dequantise(acc_NO, scale_N, qkv)
        y_NHD = y_NO.reshape(-1, shape.heads + 2 * shape.kv_heads, shape.head_size)
        rotated = slice(0, shape.heads + shape.kv_heads)
        with np.errstate(invalid="ignore"):  # the next step refuses what is no number
            y_NHD[:, rotated] = self._rotate(y_NHD[:, rotated], rows.position_N)
        q_NHD, scale_NH = _quantise(y_NHD, 4095, np.int16)
        page_N = rows.tables_SP[rows.sequence_N, rows.position_N // PAGE]
        slot_N = rows.position_N % PAGE
        keys = slice(shape.heads, shape.heads + shape.kv_heads)
        values = slice(shape.heads + shape.kv_heads, None)
        pool.keys[layer, page_N, :, slot_N] = q_NHD[:, keys]
        pool.key_scales[layer, page_N, :, slot_N] = scale_NH[:, keys]
        pool.values[layer, page_N, :, slot_N] = q_NHD[:, values]
        pool.value_scales[layer, page_N, :, slot_N] = scale_NH[:, values]
        return Queries(q_NHD[:, : shape.heads], scale_NH[:, : shape.heads])

    def _rotate(self, x_NHD: F32, position_N: I32) -> F32:
        half = self._shape.head_size // 2
        cos_N1R = self._cos_TR[position_N][:, None]
        sin_N1R = self._sin_TR[position_N][:, None]
        one, two = x_NHD[..., :half], x_NHD[..., half:]
        return np.concatenate(
            [one * cos_N1R - two * sin_N1R, two * cos_N1R + one * sin_N1R], axis=-1
        )

    def attend(self, queries: Queries, rows: Rows, pool: Pool, layer: int) -> Quantised:
        """See `ops.Ops.attend`."""
        return quantise(self.attention(queries, rows, pool, layer))

    def attention(self, queries: Queries, rows: Rows, pool: Pool, layer: int) -> F32:
        """Attention alone, for who calibrates."""
        out_NHD = np.empty(queries.q.shape, np.float32)
        blocks = (pool.keys, pool.key_scales, pool.values, pool.value_scales)
        for sequence, pages_P in enumerate(rows.tables_SP):
            own = np.flatnonzero(rows.sequence_N == sequence)
            for start in range(0, len(own), PAGE):
                some = own[start : start + PAGE]
                out_NHD[some] = self._attend_some(
                    queries.q[some],
                    queries.scale[some],
                    rows.position_N[some],
                    *(self._history(block[layer], pages_P) for block in blocks),
                )
        return out_NHD.reshape(out_NHD.shape[0], -1)

    def _history(self, block_PGTx: NDArray[Any], pages_P: I32) -> NDArray[Any]:
        """Of one sequence: key heads, positions, and the head's numbers if there are any."""
        chosen = block_PGTx[pages_P].swapaxes(0, 1)
        return chosen.reshape(self._shape.kv_heads, -1, *chosen.shape[3:])

    def _attend_some(
        self,
        q_NHD: NDArray[np.int16],
        scale_NH: F32,
        position_N: I32,
        keys_GTD: NDArray[np.int16],
        key_scales_GT: F32,
        values_GTD: NDArray[np.int16],
        value_scales_GT: F32,
    ) -> F32:
        """Some tokens of one sequence. G key heads serve R = H/G queries each."""
        longest = int(position_N.max()) + 1
        keys_GTD, key_scales_GT = keys_GTD[:, :longest], key_scales_GT[:, :longest]
        values_GTD, value_scales_GT = values_GTD[:, :longest], value_scales_GT[:, :longest]
        seen_N1T = (np.arange(longest) <= position_N[:, None])[:, None]
        groups = (len(q_NHD), self._shape.kv_heads, -1)
        unit_NGR = (scale_NH * attention_unit(self._shape)).reshape(groups)
        unit_GNR = unit_NGR.swapaxes(0, 1)
        q_GNRD = q_NHD.reshape(*groups, self._shape.head_size).swapaxes(0, 1).astype(np.float64)
        acc_GNRT = q_GNRD @ keys_GTD.swapaxes(1, 2)[:, None].astype(np.float64)
        z_GNRT = acc_GNRT.astype(np.float32) * unit_GNR[..., None] * key_scales_GT[:, None, None]
        top_GNR1 = z_GNRT.max(axis=-1, keepdims=True, where=seen_N1T, initial=-np.inf)
        e_GNRT = np.where(seen_N1T, exp2(np.minimum(z_GNRT - top_GNR1, 0)), np.float32(0))
        total_GNR = np.rint(e_GNRT * np.float32(2**24)).astype(np.int64).sum(axis=-1)
        a_GNRT = e_GNRT * value_scales_GT[:, None, None]
        largest_GNR = a_GNRT.max(axis=-1)
        quiet_GNR = largest_GNR < QUIET
        safe_GNR = np.where(quiet_GNR, np.float32(1), largest_GNR)
        b_GNRT = np.rint(a_GNRT * (np.float32(32767) / safe_GNR)[..., None])
        sum_GNRD = (b_GNRT.astype(np.float64) @ values_GTD[:, None].astype(np.float64)).astype(
            np.float32
        )
        back_GNR = (safe_GNR / np.float32(32767)) * (
            np.float32(2**24) / total_GNR.astype(np.float32)
        )
        out_GNRD = np.where(quiet_GNR[..., None], np.float32(0), sum_GNRD * back_GNR[..., None])
        return out_GNRD.swapaxes(0, 1).reshape(q_NHD.shape)

    def add(self, h_ND: F32, acc_ND: I32, scale_N: F32, channels: Channels) -> F32:
        """See `ops.Ops.add`."""
        return h_ND + _dequantise(acc_ND, scale_N, channels)

    def gate(self, acc_NO: I32, scale_N: F32, gate_up: Channels) -> Quantised:
        """See `ops.Ops.gate`."""
        return quantise(self.swiglu(acc_NO, scale_N, gate_up))

    def swiglu(self, acc_NO: I32, scale_N: F32, gate_up: Channels) -> F32:
        """SiLU(gate) · up alone, for who calibrates."""
        y_NO = _dequantise(acc_NO, scale_N, gate_up)
        gate_NF, up_NF = np.split(y_NO, 2, axis=1)
        with np.errstate(over="ignore", invalid="ignore"):  # the next step refuses what comes of it
            m_NF: F32 = silu(gate_NF) * up_NF
        return m_NF

    def take(self, h_ND: F32, last_L: I32) -> F32:
        """See `ops.Ops.take`."""
        return h_ND[last_L]

    def logits(self, acc_LV: I32, scale_L: F32, head: Channels) -> F32:
        """See `ops.Ops.logits`."""
        logits_LV = _dequantise(acc_LV, scale_L, head)
        _loudness(logits_LV)
        return logits_LV


def attention_unit(shape: Shape) -> np.float32:
    """log2(e) / √(head size), computed in float64 and then rounded."""
    return np.float32(np.float64(1.4426950408889634) / np.sqrt(np.float64(shape.head_size)))


def exp2(t: F32) -> F32:
    """2**t for t ≤ 0, with t below -100 taken for -100."""
    t = np.maximum(t, np.float32(-100))
    n = np.rint(t)
    f = t - n
    p = np.full_like(f, EXP2[-1])
    for coefficient in EXP2[-2::-1]:
        p = p * f + coefficient
    result: F32 = np.ldexp(p, n.astype(np.int32))
    return result


def silu(g: F32) -> F32:
    """g / (1 + exp(-g))."""
    e = exp2(-(np.abs(g) * LOG2E))
    result: F32 = g * (np.where(g >= 0, np.float32(1), e) / (np.float32(1) + e))
    return result


def quantise(x_NK: F32) -> Quantised:
    """q8. Raises ModelError if a row is out of range."""
    return Quantised(*_quantise(x_NK, 127, np.int8))


def _loudness(x: F32) -> F32:
    """The largest magnitude of each row (last axis). Raises ModelError if it is out of range."""
    largest: F32 = np.abs(x).max(axis=-1)
    # Written so that NaN fails too.
    if not (largest <= LOUDEST).all():
        raise too_loud()
    return largest


def _quantise(x: F32, steps: int, dtype: Any) -> tuple[NDArray[Any], F32]:
    """Rows (last axis) as integers within ±steps, and the scale of each."""
    largest = _loudness(x)
    quiet = largest < QUIET
    reciprocal = np.float32(steps) / np.where(quiet, np.float32(1), largest)
    q = np.clip(np.rint(x * reciprocal[..., None]), -steps, steps).astype(dtype)
    q[quiet] = 0
    return q, np.where(quiet, np.float32(0), largest / np.float32(steps))


def _dequantise(acc_NO: I32, scale_N: F32, channels: Channels) -> F32:
    y_NO: F32 = acc_NO.astype(np.float32) * scale_N[:, None] * channels.scale
    return y_NO if channels.bias is None else y_NO + channels.bias
