"""Does this machine compute the right bits? Asked at every start, before anything is served.

1. Arithmetic: rounding to nearest even, denormals kept, in the thread that asks.
2. Products at the edge of int32, where a saturating instruction would show.
3. Every other operation against its definition in numpy, on rows of all magnitudes.
4. Logits of small models against known hashes, token by token and all at once.

A back end that differs in one bit anywhere is not used; if none is left, nothing is served.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import ModelError
from tidegate.models.exact.backends import Engine, build, names
from tidegate.models.exact.cases import CASES, Case, hash_of, step_by_step
from tidegate.models.exact.model import ExactModel
from tidegate.models.exact.ops import PAGE, Ops, Rows
from tidegate.models.exact.ops_numpy import NumpyOps
from tidegate.models.exact.parameters import Parameters, Tensors, parameters_of
from tidegate.models.exact.seeded import tensors_of
from tidegate.models.exact.shape import MAX_INPUTS, Shape
from tidegate.models.port import ModelInfo

_NOBODY = ModelInfo(name="known answers", parameters=0, licence="", provenance="", numerics="")


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one back end. `differs` names the first check it failed, "" if none."""

    backend: str
    differs: str
    seconds: float


def examine(backend: str, *, threads: int = 1, rounds: int = 2) -> Finding:
    """Put a back end through all checks; `rounds` of random rows of every operation.

    Raises ModelError if the processor's arithmetic itself is off.
    """
    start = time.perf_counter()
    require_arithmetic()
    differs = _edge(backend, threads)
    for number in range(0 if differs else rounds):
        differs = differs or _operations(backend, threads, number)
    for case in () if differs else CASES:
        differs = differs or _answers(backend, threads, case)
    return Finding(backend, differs, time.perf_counter() - start)


def choose(
    parameters: Parameters,
    tensors: Tensors,
    *,
    threads: int,
    device: str = "cpu",
    backend: str | None = None,
) -> Engine:
    """The fastest back end that passes every check, or `backend` if it does, over a model.

    Torch takes part on a GPU, where it is asked for, where no kernel passes, and where the
    processor has a matrix unit that only torch uses. Raises ModelError, naming what differs, where
    nothing passes at all.
    """
    first = [backend] if backend else _likely(device)
    findings = [examine(name, threads=threads) for name in first]
    if not backend and all(finding.differs for finding in findings):
        findings += [examine(name, threads=threads) for name in names(device) if name not in first]
    equal = [finding.backend for finding in findings if not finding.differs]
    if not equal:
        told = "; ".join(f"{found.backend} differs in {found.differs}" for found in findings)
        raise ModelError(
            f"this machine does not compute the specified bits, so nothing is served: {told}"
        )
    if len(equal) > 1:
        seconds = {name: _seconds(name, parameters.shape, threads) for name in equal}
        equal.sort(key=lambda name: seconds[name])
    return build(equal[0], parameters, tensors, threads=threads)


def require_arithmetic() -> None:
    """Raise ModelError unless float arithmetic in this thread is IEEE 754's, denormals included."""
    one, least = np.ones(9, np.float32), np.full(9, 2.0**-126, np.float32)
    third, ulp = one / np.float32(3), np.float32(2.0**-24)
    checks = {
        # As bits: a processor that flushes denormals also takes them for zeros when comparing.
        "denormals": bool(((least * np.float32(0.5)).view(np.int32) == 1 << 22).all()),
        "rounding up": bool((one + ulp * np.float32(3) == np.float32(1 + 2.0**-22)).all()),
        "rounding to even": bool((one + ulp == one).all()),
        "division": bool((third.view(np.int32) == 0x3EAAAAAB).all()),
        "root": bool((np.sqrt(np.full(9, 2.0)).view(np.int64) == 0x3FF6A09E667F3BCD).all()),
        "integers": bool((np.full(9, 2**24 + 1).astype(np.float32) == np.float32(2**24)).all()),
        "halves": bool((np.rint(np.full(9, 2.5, np.float32)) == 2).all()),
    }
    if wrong := [name for name, fine in checks.items() if not fine]:
        raise ModelError(
            f"this thread's float arithmetic is not IEEE 754's ({', '.join(wrong)}); something set "
            "the processor to flush denormals or to round differently"
        )


def _likely(device: str) -> list[str]:
    """What is worth trying at a start; importing torch takes seconds and hundreds of megabytes."""
    known = names(device)
    if device == "cuda":
        return known
    return [
        known[0],
        *(["native-int_mm"] if _has_matrix_unit() and "native-int_mm" in known else []),
    ]


def _has_matrix_unit() -> bool:
    try:
        return "amx_int8" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def _seconds(backend: str, shape: Shape, threads: int) -> float:
    """How long many rows of a layer of this shape take, at best of three."""
    slab = replace(shape, layers=1, vocab_size=8, context_length=8)
    tensors = tensors_of(slab, "speed")
    engine = build(backend, parameters_of(slab, tensors), tensors, threads=threads)
    q_NK = engine.ops.place(np.ones((256, slab.width), np.int8))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        engine.ops.fetch(engine.linear.multiply(0, "gate_up", q_NK))
        times.append(time.perf_counter() - start)
    return min(times)


def _edge(backend: str, threads: int) -> str:
    """Step 2: rows as long as int32 can take, all of the largest size, in all patterns of signs."""
    shape = replace(
        CASES[0].shape,
        layers=1,
        vocab_size=8,
        width=8,
        heads=1,
        kv_heads=1,
        head_size=2,
        ffn_size=MAX_INPUTS,
        context_length=8,
    )
    tensors = tensors_of(shape, "edge")
    w_OK = np.full((8, MAX_INPUTS), 127, np.int8)
    for row in range(1, 8):
        w_OK[row, row - 1 :: row] = -127
    tensors["layers.0.down.weight"] = w_OK
    engine = build(backend, parameters_of(shape, tensors), tensors, threads=threads)
    q_NK = np.concatenate([w_OK[:5], -w_OK[:2]])
    want_NO = q_NK.astype(np.float64) @ w_OK.T.astype(np.float64)
    found_NO = engine.ops.fetch(engine.linear.multiply(0, "down", engine.ops.place(q_NK)))
    return "" if np.array_equal(found_NO, want_NO) else "the largest products"


def _answers(backend: str, threads: int, case: Case) -> str:
    """Step 4: a case's logits token by token, and those of its last tokens in one pass."""
    tensors = case.tensors()
    parameters = parameters_of(case.shape, tensors)
    engine = build(backend, parameters, tensors, threads=threads)

    def fresh() -> ExactModel:
        return ExactModel(
            parameters,
            engine.linear,
            engine.ops,
            info=_NOBODY,
            fingerprint=case.sha256,
            eos_ids=frozenset(),
        )

    logits = step_by_step(fresh(), case.sequences())
    if hash_of(logits) != case.sha256:
        return f"the logits of {case.note!r}"
    at_once_NV = fresh().forward(list(enumerate(case.sequences())))
    if hash_of(list(at_once_NV)) != hash_of([logits_TV[-1] for logits_TV in logits]):
        return f"the logits of {case.note!r}, run in one pass"
    return ""


def _operations(backend: str, threads: int, number: int) -> str:
    """Step 3: the first operation that differs from numpy's, or ""."""
    case = CASES[number % len(CASES)]
    tensors = case.tensors()
    parameters = parameters_of(case.shape, tensors)
    ops = build(backend, parameters, tensors, threads=threads).ops
    want = _results(NumpyOps(parameters), parameters, f"rows {number}")
    found = _results(ops, parameters, f"rows {number}")
    for name, arrays in want.items():
        for one, other in zip(arrays, found[name], strict=True):
            if one.dtype != other.dtype or one.tobytes() != other.tobytes():
                return f"the operation {name!r}"
    return ""


def _results(ops: Ops, parameters: Parameters, seed: str) -> dict[str, list[NDArray[Any]]]:
    """What every operation makes of the same random rows."""
    shape, layer, count = parameters.shape, parameters.layers[0], PAGE + 7

    def rows_of(name: str, columns: int, exponents: Sequence[int]) -> NDArray[np.float32]:
        return _floats(f"{seed}/{name}", count, columns, exponents)

    def sums_of(name: str, columns: int) -> Any:
        drawn = np.frombuffer(_bytes(f"{seed}/{name}", 4 * count * columns), "<i4")
        return ops.place((drawn // 64).reshape(count, columns).astype(np.int32))

    def fetched(*arrays: Any) -> list[NDArray[Any]]:
        return [np.array(ops.fetch(array)) for array in arrays]

    place = np.arange(count, dtype=np.int32)
    rows = Rows(
        token_N=place,
        sequence_N=np.zeros(count, np.int32),
        position_N=place,
        tables_SP=np.array([[1, 0]], np.int32),
        last_L=place[::-3].copy(),
        ids=(0,),
    )
    scale_N = ops.place(np.abs(rows_of("scales", 1, range(-20, 4))[:, 0]))
    h_ND = ops.place(rows_of("residual", shape.width, range(-105, 40)))
    pool = ops.pool(2)
    results = {"normalise": fetched(*ops.normalise(h_ND, layer.attn_norm))}
    sums = sums_of("qkv", shape.linear("qkv")[0])
    queries = ops.append(sums, scale_N, layer.qkv, rows, pool, 0)
    blocks = (pool.keys, pool.key_scales, pool.values, pool.value_scales)
    results["append"] = fetched(*queries, *(block[0] for block in blocks))
    results["attend"] = fetched(*ops.attend(queries, rows, pool, 0))
    sums = sums_of("gate_up", shape.linear("gate_up")[0])
    results["gate"] = fetched(*ops.gate(sums, scale_N, layer.gate_up))
    results["take"] = fetched(ops.take(h_ND, rows.last_L))
    sums = sums_of("down", shape.width)
    results["add"] = fetched(ops.add(h_ND, sums, scale_N, layer.down))
    sums = sums_of("head", shape.vocab_size)
    results["logits"] = [ops.logits(sums, scale_N, parameters.head)]
    return results


def _bytes(text: str, count: int) -> bytes:
    return hashlib.shake_128(text.encode()).digest(count)


def _floats(text: str, rows: int, columns: int, exponents: Sequence[int]) -> NDArray[np.float32]:
    """Floats of all magnitudes below 2**(exponent + 1), an exponent a row; one row of zeros."""
    drawn = np.frombuffer(_bytes(text, 8 * rows * columns), "<u4").reshape(2, rows, columns)
    parts = np.float32(1) + (drawn[0] >> 9).astype(np.float32) * np.float32(2.0**-23)
    signs = np.where(drawn[0] & 1, np.float32(-1), np.float32(1))
    top = np.resize(np.array(exponents, np.int32), rows)[:, None]
    below = np.minimum(drawn[1] & 31, drawn[1] >> 27).astype(np.int32)
    floats: NDArray[np.float32] = np.ldexp(parts * signs, top - below).astype(np.float32)
    floats[rows // 2] = 0
    return floats
