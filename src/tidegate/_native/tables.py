"""Integer tables the kernels and their references share.

Two machines whose tables differ in one entry draw different noise or decode other tokens. Binary
logarithms of a C library may differ in the last bit; `decimal` is correctly rounded everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from itertools import pairwise

LOG_BITS = 12
"""The logarithm table has 2**LOG_BITS intervals, interpolated linearly (error below 1.1e-8)."""

LN2_Q32 = 0xB17217F8
"""ln 2 in units of 2**-32, rounded."""

ODDS_LIMIT = 2840
"""Largest log-odds of the symbol model, in 2**-8 nat: a probability of 1 - 2**-16."""

LEAST = 2
"""Smallest probability of an answer, in 2**-16; an answer costs at most 15 bits."""


def _table(values: range, function: Callable[[Decimal], Decimal]) -> list[int]:
    with localcontext(Context(prec=40)):
        return [int(function(Decimal(i)).to_integral_value()) for i in values]


def log2_table() -> list[int]:
    """log2(1 + i / 2**LOG_BITS) in 2**-32, for i = 0 … 2**LOG_BITS."""
    size, ln2 = 1 << LOG_BITS, Decimal(2).ln(Context(prec=40))
    return _table(range(size + 1), lambda i: (1 + i / size).ln() / ln2 * 2**32)


def exp2_table() -> list[int]:
    """2**(-i / 256) in 2**-40, for i = 0 … 255."""
    return _table(range(256), lambda i: Decimal(2) ** (40 - i / 256))


def stretch_table() -> list[int]:
    """ln(p / (1 - p)) in 2**-8, for p = (i + 1/2) / 4096."""
    return _table(
        range(4096), lambda i: ((i + Decimal("0.5")) / (4096 - i - Decimal("0.5"))).ln() * 256
    )


def squash_table() -> list[int]:
    """1 / (1 + exp(-x / 256)) in 2**-16, for x = -ODDS_LIMIT … ODDS_LIMIT."""
    exact = _table(range(-ODDS_LIMIT, ODDS_LIMIT + 1), lambda x: 2**16 / (1 + (-x / 256).exp()))
    return [min(max(p, LEAST), 2**16 - LEAST) for p in exact]


def rate_table() -> list[int]:
    """How far a counter moves towards the answer it sees for the i-th time, in 2**-16."""
    return _table(range(256), lambda i: 2**16 / (i + Decimal("1.6")))


def c_header() -> str:
    """All tables as C, for the kernels' build."""
    log2 = log2_table()
    if any(high <= low for low, high in pairwise(log2)):
        raise ArithmeticError("the logarithm table is not increasing")
    tables = {
        "uint64_t TG_LOG2": log2,
        "uint64_t TG_EXP2": exp2_table(),
        "int16_t TG_STRETCH": stretch_table(),
        "uint16_t TG_SQUASH": squash_table(),
        "int32_t TG_RATE": rate_table(),
    }
    lines = [f"#define TG_LOG_BITS {LOG_BITS}", f"#define TG_ODDS_LIMIT {ODDS_LIMIT}"]
    lines += [
        f"static const {name}[{len(values)}] = {{{', '.join(map(str, values))}}};"
        for name, values in tables.items()
    ]
    return "\n".join(lines) + "\n"
