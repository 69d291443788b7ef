"""The exact engine's published vectors: what made them, and a second reading of the specification.

The second reading computes in rationals and rounds where spec/exact.md says so, with no float
arithmetic at all: it shows that numpy's single operations are the roundings that are written down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import make_exact_vectors as tool
import msgspec
import numpy as np
import pytest

from tidegate.models.exact.cases import CASES
from tidegate.models.exact.ops import EXP2

FILE = msgspec.json.decode((tool.VECTORS / "exact.json").read_bytes(), type=tool.ExactFile)

ONE = Fraction(1)
QUIET, LOUDEST = Fraction(1, 2**100), Fraction(2**40)
LOG2E = Fraction(float(np.float32(1.4426950408889634)))


def cases(group: str) -> list[Any]:
    return [pytest.param(case, id=case.note) for case in getattr(FILE, group)]


def fl(x: Fraction) -> Fraction:
    """The nearest float32, ties to even."""
    if not x:
        return x
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    exponent -= abs(x) < Fraction(2) ** exponent
    unit = Fraction(2) ** (max(exponent, -126) - 23)
    return round(x / unit) * unit


def fl64(x: Fraction) -> Fraction:
    """The nearest float64; Python divides integers with one rounding."""
    return Fraction(x.numerator / x.denominator)


def numbers(bits: Sequence[str]) -> list[Fraction]:
    return [Fraction(float(x)) for x in tool.floats(bits)]


def number(bits: str) -> Fraction:
    return numbers([bits])[0]


def exp2(t: Fraction) -> Fraction:
    t = max(t, Fraction(-100))
    n = round(t)
    f = t - n
    p = Fraction(float(EXP2[-1]))
    for coefficient in EXP2[-2::-1]:
        p = fl(fl(p * f) + Fraction(float(coefficient)))
    return p * Fraction(2) ** n


def silu(g: Fraction) -> Fraction:
    e = exp2(-fl(abs(g) * LOG2E))
    return fl(g * fl((ONE if g >= 0 else e) / fl(1 + e)))


def same(found: Sequence[Fraction], bits: Sequence[str]) -> bool:
    """Whether numbers are those published; the sign of a zero means nothing."""
    return list(found) == numbers(bits)


@pytest.mark.parametrize("name", ["exact.json", "exact.schema.json"])
def test_the_definitions_produce_the_published_files(name: str):
    assert (tool.VECTORS / name).read_bytes() == tool.build()[name]


def test_the_known_answers_of_the_self_test_are_the_published_ones():
    published = [(case.seed, case.logits_sha256) for case in FILE.models]
    assert published == [(case.seed, case.sha256) for case in CASES]


def test_rounding_in_rationals_is_rounding_to_float32():
    for text in ("0x1.000001p0", "0x1.000003p0", "0x1.fffffffp127", "-0x1.8p-149", "0x1.7p-140"):
        x = float.fromhex(text)
        if abs(x) < 2.0**127:
            assert fl(Fraction(x)) == Fraction(float(np.float32(x)))


@pytest.mark.parametrize("case", cases("exp2"))
def test_exponentials_round_where_the_specification_says(case: Any):
    assert same([exp2(t) for t in numbers(case.x)], case.y)


@pytest.mark.parametrize("case", cases("silu"))
def test_gates_round_where_the_specification_says(case: Any):
    assert same([silu(g) for g in numbers(case.x)], case.y)


@pytest.mark.parametrize("case", cases("quantise"))
def test_rows_are_quantised_where_the_specification_says(case: Any):
    floats = tool.floats(case.x)
    if not (np.abs(floats) <= 2.0**40).all():
        assert case.q is None
        return
    x = numbers(case.x)
    largest = max(map(abs, x))
    if largest < QUIET:
        assert (case.q, number(case.scale)) == ([0] * len(x), 0)
        return
    reciprocal = fl(127 / largest)
    assert case.q == [min(max(round(fl(value * reciprocal)), -127), 127) for value in x]
    assert number(case.scale) == fl(largest / 127)


@pytest.mark.parametrize("case", cases("linear"))
def test_sums_are_scaled_where_the_specification_says(case: Any):
    scale, channels = number(case.scale), numbers(case.channel_scale)
    y = [fl(fl(fl(Fraction(acc)) * scale) * c) for acc, c in zip(case.acc, channels, strict=True)]
    if case.bias is not None:
        y = [fl(value + bias) for value, bias in zip(y, numbers(case.bias), strict=True)]
    assert same(y, case.y)


@pytest.mark.parametrize("case", cases("normalise"))
def test_rows_are_normalised_where_the_specification_says(case: Any):
    h, gain = numbers(case.h), numbers(case.gain)
    largest, exponent, total = max(map(abs, h)), 0, 0
    if largest >= QUIET:
        exponent = math.floor(math.log2(float(largest)))
        assert Fraction(2) ** exponent <= largest < Fraction(2) ** (exponent + 1)
        total = sum(round(value * Fraction(2) ** (22 - exponent)) ** 2 for value in h)
    mean = fl64(fl64(Fraction(total)) / len(h))
    square = fl64(mean * Fraction(2) ** (2 * (exponent - 22)) + Fraction(case.eps))
    inverse = fl(fl64(1 / Fraction(math.sqrt(float(square)))))
    assert same([fl(fl(a * inverse) * b) for a, b in zip(h, gain, strict=True)], case.x)


@pytest.mark.parametrize("case", cases("rotate"))
def test_pairs_are_rotated_where_the_specification_says(case: Any):
    x, cos, sin = numbers(case.x), numbers(case.cos), numbers(case.sin)
    half = len(cos)
    pairs = list(zip(x[:half], x[half:], cos, sin, strict=True))
    y = [fl(fl(one * c) - fl(two * s)) for one, two, c, s in pairs]
    y += [fl(fl(two * c) + fl(one * s)) for one, two, c, s in pairs]
    assert same(y, case.y)


@pytest.mark.parametrize("case", cases("attend"))
def test_attention_rounds_where_the_specification_says(case: Any):
    unit = fl(number(case.q_scale) * number(case.unit))
    z = [
        fl(fl(fl(Fraction(sum(a * b for a, b in zip(case.q, k, strict=True)))) * unit) * scale)
        for k, scale in zip(case.k, numbers(case.k_scale), strict=True)
    ]
    e = [exp2(fl(value - max(z))) for value in z]
    total = sum(round(fl(value * 2**24)) for value in e)
    a = [fl(x * scale) for x, scale in zip(e, numbers(case.v_scale), strict=True)]
    if max(a) < QUIET:
        assert same([Fraction(0)] * len(case.q), case.out)
        return
    b = [round(fl(value * fl(32767 / max(a)))) for value in a]
    back = fl(fl(max(a) / 32767) * fl(2**24 / fl(Fraction(total))))
    sums = [
        sum(weight * v[d] for weight, v in zip(b, case.v, strict=True)) for d in range(len(case.q))
    ]
    assert same([fl(fl(Fraction(value)) * back) for value in sums], case.out)
