"""The operations compute what they are named for, and refuse what the specification excludes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from exact_models import shape_of, tensors

from tidegate.errors import ModelError
from tidegate.models.exact.backends import build, names
from tidegate.models.exact.ops import PAGE, Ops, Rows
from tidegate.models.exact.ops_numpy import NumpyOps, exp2, quantise, silu
from tidegate.models.exact.parameters import parameters_of

SHAPE = shape_of(width=64, ffn_size=96)
WEIGHTS = tensors(SHAPE)
PARAMETERS = parameters_of(SHAPE, WEIGHTS)
LAYER = PARAMETERS.layers[0]

F32 = np.float32


def rows(count: int) -> Rows:
    place = np.arange(count, dtype=np.int32)
    return Rows(
        token_N=place,
        sequence_N=np.zeros(count, np.int32),
        position_N=place,
        tables_SP=np.arange(-(-count // PAGE), dtype=np.int32)[None],
        last_L=place,
        ids=(0,),
    )


def noise(*sizes: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=sizes).astype(F32)


def test_powers_of_two_are_within_the_stated_error():
    # Every float32 of [-1/2, 1/2] has been tried; this takes each 211th of them.
    bits = np.arange(0, 0x3F000001, 211, dtype=np.uint32)
    f = -np.concatenate([bits.view(F32), [F32(0.5)]])
    for t in (f, f - F32(7), np.linspace(-100, 0, 99_991, dtype=F32)):
        error = np.abs(exp2(t).astype(np.float64) / np.exp2(t.astype(np.float64)) - 1)
        assert error.max() <= 1.079e-7
    assert exp2(np.array([0, -0.0, -1, -100, -1000], F32)).tolist() == [1, 1, 0.5, 2**-100, 2**-100]


def test_silu_is_within_the_stated_error():
    g = np.concatenate([np.linspace(-100, 100, 400_001), [-700, -1e-30, 1e-30, 1e4]]).astype(F32)
    true = g.astype(np.float64) / (1 + np.exp(-g.astype(np.float64)))
    assert (np.abs(silu(g) - true) <= 2e-7 * np.abs(g)).all()


def test_normalising_is_rms_norm():
    ops = NumpyOps(PARAMETERS)
    h_ND = noise(5, 64) * F32([[1e-6], [0.1], [1], [30], [1e9]])
    h_ND[1, 3] = 40  # an outlier must not cost the others their share of the sum
    found_ND = ops.rms_norm(h_ND, LAYER.attn_norm)
    wide_ND = h_ND.astype(np.float64)
    root_N1 = np.sqrt((wide_ND**2).mean(axis=1, keepdims=True) + SHAPE.eps)
    np.testing.assert_allclose(found_ND, wide_ND / root_N1 * LAYER.attn_norm, rtol=3e-7)


def test_attention_is_softmax_over_the_past_of_its_own_sequence():
    ops, count = NumpyOps(PARAMETERS), PAGE + 20
    pool, where = ops.pool(2), rows(count)
    heads, size = SHAPE.heads, SHAPE.head_size
    outputs = SHAPE.linear("qkv")[0]
    acc_NO = (noise(count, outputs) * 4000).astype(np.int32)
    queries = ops.append(acc_NO, np.ones(count, F32), LAYER.qkv, where, pool, 1)
    mixed_NO = ops.attention(queries, where, pool, 1)

    def history(block: np.ndarray, scale: np.ndarray) -> np.ndarray:
        pages = block[1].astype(np.float64) * scale[1][..., None]
        return pages.swapaxes(0, 1).reshape(SHAPE.kv_heads, -1, size)[:, :count]

    keys_GTD = history(pool.keys, pool.key_scales)
    values_GTD = history(pool.values, pool.value_scales)
    q_NHD = queries.q.astype(np.float64) * queries.scale[..., None]
    for head in range(heads):
        group = head // (heads // SHAPE.kv_heads)
        logits_NT = q_NHD[:, head] @ keys_GTD[group].T / np.sqrt(size)
        logits_NT[np.triu_indices(count, 1)] = -np.inf
        weights_NT = np.exp(logits_NT - logits_NT.max(axis=1, keepdims=True))
        weights_NT /= weights_NT.sum(axis=1, keepdims=True)
        want_ND = weights_NT @ values_GTD[group]
        found_ND = mixed_NO[:, head * size : (head + 1) * size]
        assert np.abs(found_ND - want_ND).max() <= 3e-5 * np.abs(values_GTD).max()


def test_rotation_turns_pairs_by_the_positions_angle():
    ops, count = NumpyOps(PARAMETERS), 9
    acc_NO = (noise(count, SHAPE.linear("qkv")[0]) * 4000).astype(np.int32)
    queries = ops.append(acc_NO, np.ones(count, F32), LAYER.qkv, rows(count), ops.pool(1), 0)
    x_NHD = (acc_NO * LAYER.qkv.scale).reshape(count, -1, SHAPE.head_size)[:, : SHAPE.heads]
    half = SHAPE.head_size // 2
    turn_NR = PARAMETERS.cos_TR[:count] + 1j * PARAMETERS.sin_TR[:count]
    want_NHR = (x_NHD[..., :half] + 1j * x_NHD[..., half:]) * turn_NR[:, None]
    found_NHD = queries.q * queries.scale[..., None]
    largest = np.abs(found_NHD).max()
    np.testing.assert_allclose(found_NHD[..., :half], want_NHR.real, atol=largest / 8000)
    np.testing.assert_allclose(found_NHD[..., half:], want_NHR.imag, atol=largest / 8000)


def test_quantising_keeps_a_row_within_half_a_step():
    x_NK = noise(7, 130)
    q_NK, scale_N = quantise(x_NK)
    assert np.abs(q_NK).max(axis=1).tolist() == [127] * 7
    assert (np.abs(q_NK * scale_N[:, None] - x_NK) <= 0.5001 * scale_N[:, None]).all()


def test_quiet_rows_become_zeros():
    x_NK = np.full((2, 6), 2.0**-100, F32)
    x_NK[1] = np.nextafter(F32(2.0**-100), F32(0))
    q_NK, scale_N = quantise(x_NK)
    assert q_NK.tolist() == [[127] * 6, [0] * 6]
    assert scale_N[1] == 0
    with np.errstate(all="raise"):
        quantise(np.zeros((1, 6), F32))


BACKENDS = names()
BAD = [np.nan, np.inf, -np.inf, 2.0**41]


def _normalise(ops: Ops, bad: float) -> None:
    h_ND = noise(3, 64)
    h_ND[1, 7] = bad
    ops.normalise(ops.place(h_ND), LAYER.attn_norm)


def _append(ops: Ops, bad: float) -> None:
    acc_NO = ops.place(np.full((3, SHAPE.linear("qkv")[0]), 1000, np.int32))
    scale_N = ops.place(np.array([1, bad, 1], F32))
    ops.append(acc_NO, scale_N, LAYER.qkv, rows(3), ops.pool(1), 0)


def _gate(ops: Ops, bad: float) -> None:
    acc_NO = ops.place(np.full((3, 2 * SHAPE.ffn_size), 1000, np.int32))
    ops.gate(acc_NO, ops.place(np.array([1, 1, bad], F32)), LAYER.gate_up)


def _logits(ops: Ops, bad: float) -> None:
    acc_NO = ops.place(np.full((3, SHAPE.vocab_size), 1000, np.int32))
    ops.logits(acc_NO, ops.place(np.array([bad, 1, 1], F32)), PARAMETERS.head)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("operation", [_normalise, _append, _gate, _logits])
def test_rows_out_of_range_are_refused(
    backend: str, operation: Callable[[Ops, float], None], bad: float
):
    ops: Any = build(backend, PARAMETERS, WEIGHTS).ops

    def whole_pass(value: float) -> None:
        operation(ops, value)
        _logits(ops, 1.0)  # torch looks only here, to spare a GPU the waiting

    with pytest.raises(ModelError, match="larger than"):
        whole_pass(bad)
    whole_pass(1.0)
