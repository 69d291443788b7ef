"""T2: float products compared with random projections of the weights. Monitoring, not proof.

For a linear layer y = W·x + b the owner keeps V = Wᵀ·R for a secret Gaussian R. Whoever has V and
R but not W sees from ‖x·V − (y − b)·R‖ how far y lies from the product. Floats never agree exactly,
so a change below the tolerance goes unnoticed, and what happens between the products is not looked
at. The logits of the tokens in question are computed from opened rows of the head, each sum rounded
once, so that a token's choice is compared with exact numbers. Pure. Format: `spec/prove.md`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tidegate.models.exact.shape import HEAD, Shape
from tidegate.prove.answer import Answer
from tidegate.prove.merkle import OpeningError, open_rows
from tidegate.prove.receipt import Subject
from tidegate.prove.statement import Statement
from tidegate.prove.verdict import FoundError, Place

F32Array = NDArray[np.float32]
F64Array = NDArray[np.float64]
Trace = Mapping[str, F32Array]
"""`LAYER.OP.x` [rows, K] and `LAYER.OP.y` [rows, O] of every product."""

COLUMNS: Final = 16
CANDIDATES: Final = 8
"""Tokens whose logits are computed exactly at each position: the best by the claimed ones."""

TOLERANCE: Final = {"bfloat16": 2.0**-7, "float32": 2.0**-17}
"""Largest residual of an honest row, over the norm of its y. Rounding to bfloat16 moves a number by
up to 2**-9 of itself, and a projection of one large number may come out up to four times as far."""

ALARM: Final = 4.0
"""A change of so many tolerances is what the stated bound is about."""


def name_of(layer: int, op: str) -> str:
    """A product's name in traces and keys."""
    return f"{layer}.{op}"


def draw(secret: bytes, name: str, outputs: int) -> F64Array:
    """The secret Gaussian columns R_OR of a product, from SHAKE256 by Box and Muller's method."""
    raw = hashlib.shake_256(b"tidegate.project.v1" + secret + name.encode()).digest(
        8 * outputs * COLUMNS
    )
    halves_2N = np.frombuffer(raw, "<u4").reshape(2, -1)
    radius_N = np.sqrt(-2.0 * np.log((halves_2N[0] + 1.0) / 2.0**32))
    angle_N = halves_2N[1] * (2 * math.pi / 2.0**32)
    columns: F64Array = (radius_N * np.cos(angle_N)).reshape(outputs, COLUMNS)
    return columns


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """What is secret about one product: R_OR, V_KR = Wᵀ·R, and the bias, zeros if there is none."""

    r_OR: F64Array
    v_KR: F64Array
    bias_O: F32Array

    def residuals(self, x_NK: F32Array, y_NO: F32Array) -> F64Array:
        """Of each row the root mean square of x·V − (y − b)·R, over the norm of y."""
        x_NK, y_NO = x_NK.astype(np.float64), y_NO.astype(np.float64)
        apart_NR = x_NK @ self.v_KR - (y_NO - self.bias_O) @ self.r_OR
        norm_N = np.sqrt((y_NO * y_NO).sum(axis=1))
        rms_N = np.sqrt((apart_NR * apart_NR).mean(axis=1))
        found: F64Array = rms_N / np.where(norm_N > 0, norm_N, 1.0)
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MonitorKey:
    """What the monitor holds. `head_root` is over the head's rows as little-endian float32."""

    generation: int
    subject: Subject
    shape: Shape
    dtype: str
    projections: Mapping[str, Projection]
    head_root: bytes
    eos_ids: frozenset[int]
    tokenizer_json: bytes

    def __repr__(self) -> str:
        return f"MonitorKey(generation={self.generation}, dtype={self.dtype})"

    @property
    def projected_bytes(self) -> int:
        """Bytes of the projections Wᵀ·R."""
        return sum(projection.v_KR.nbytes for projection in self.projections.values())

    @property
    def tolerance(self) -> float:
        """Largest residual that passes."""
        return TOLERANCE[self.dtype]


def miss_log2() -> float:
    """log₂ of the chance that a row changed by ALARM tolerances, in any direction, passes.

    The residual of a change is its norm times √(χ²/COLUMNS) of COLUMNS degrees of freedom.
    """
    half = COLUMNS / ALARM**2 / 2
    below = 1.0 - math.exp(-half) * sum(half**k / math.factorial(k) for k in range(COLUMNS // 2))
    return math.log2(below)


def check_products(trace: Trace, key: MonitorKey, positions: int, answer: int) -> float:
    """The largest residual over the tolerance; at most 1.

    Raises FoundError for the first row beyond it, or a product that is missing or misshapen.
    """
    worst = 0.0
    for layer, op in key.shape.products():
        name = name_of(layer, op)
        count = answer if op == HEAD else positions
        outputs, inputs = key.shape.linear(op)
        x_NK, y_NO = trace.get(f"{name}.x"), trace.get(f"{name}.y")
        first = positions - count
        if (
            x_NK is None
            or y_NO is None
            or x_NK.shape != (count, inputs)
            or y_NO.shape != (count, outputs)
        ):
            place = Place(part="trace", token=first, layer=layer, op=op)
            raise FoundError(place, "this product is missing, or not of the answer's length")
        residual_N = key.projections[name].residuals(x_NK, y_NO) / key.tolerance
        # Written so that NaN fails too.
        if (wrong_N := np.flatnonzero(~(residual_N <= 1.0))).size:
            place = Place(part="product", token=first + int(wrong_N[0]), layer=layer, op=op)
            raise FoundError(
                place, f"the residual is {residual_N[wrong_N[0]]:.3g} times what rounding leaves"
            )
        worst = max(worst, float(residual_N.max()))
    return worst


def candidates(trace: Trace, shape: Shape, statement: Statement, answer: Answer) -> list[list[int]]:
    """Of each answer token the ids in question: the best under the claimed logits, and itself."""
    chosen = []
    for token, logits_V in zip(statement.tokens, _claimed(trace, shape), strict=True):
        best = answer.best(logits_V, CANDIDATES)
        chosen.append(sorted({token, *best}))
        answer.take(token)
    return chosen


def check_choices(
    trace: Trace,
    key: MonitorKey,
    statement: Statement,
    opened: bytes,
    answers: tuple[Answer, Answer],
) -> int:
    """How many tokens are not what the exact logits give, but within rounding of it.

    `answers` are two fresh ones to the statement's request. Raises FoundError for a token that
    rounding does not explain, and for rows of the head that are not the owner's.
    """
    shape = key.shape
    asked = candidates(trace, shape, statement, answers[0])
    try:
        rows = open_rows(
            opened,
            {t for ids in asked for t in ids},
            shape.vocab_size,
            4 * shape.width,
            key.head_root,
        )
    except OpeningError as error:
        raise FoundError(Place(part="head"), error.reason) from error
    weights = {token: np.frombuffer(row, "<f4") for token, row in rows.items()}
    x_NK, near = trace[f"{name_of(shape.layers, HEAD)}.x"], 0
    prompt = len(statement.request.prompt_ids)
    for number, logits_V in enumerate(_claimed(trace, shape)):
        token = statement.tokens[number]
        exact_V = logits_V.copy()
        for one in asked[number]:
            exact_V[one] = exact_logit(x_NK[number], weights[one])
        if answers[1].choose(exact_V) != token:
            # Each of two logits may be off by a rounding of its own size.
            slack = 2 * key.tolerance * float(np.abs(exact_V[asked[number]]).max())
            if not answers[1].shortfall(exact_V, token) <= slack:
                place = Place(part="choice", token=prompt + number)
                raise FoundError(
                    place, "exact logits give another token, and by more than rounding"
                )
            near += 1
        answers[1].take(token)
    return near


def exact_logit(x_K: F32Array, weight_K: F32Array) -> np.float32:
    """Their product: every term exact in binary64, the sum rounded once, then to binary32."""
    terms_K = x_K.astype(np.float64) * weight_K.astype(np.float64)
    return np.float32(math.fsum(terms_K.tolist()))


def _claimed(trace: Trace, shape: Shape) -> F32Array:
    return trace[f"{name_of(shape.layers, HEAD)}.y"]
