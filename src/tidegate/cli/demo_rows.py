"""What the demo measured, and the sums its table and its report show. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

DAY = 86_400.0
COMPRESSION = 16
"""What a thief is assumed to shrink the weights by (arXiv 2601.01296 gives 1 to 100)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One answered request; sizes in bits unless named otherwise."""

    prompt_id: str
    category: str
    temperature: float
    tokens: int
    text_bytes: int
    zstd: int
    link: int
    plain: float
    kl: float
    exact: bool
    seconds: float
    first_token_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is guarded and what is given away."""

    strong: str
    weak: str
    vocab_size: int
    weight_bytes: int
    weak_card: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The ledger after the run, in bits; None where no cap holds. `a_day` is the daily cap."""

    profile: str
    spent: int
    left: int | None
    a_day: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Sums over rows; bits a token where named `per_token`."""

    requests: int
    tokens: int
    text_bytes: int
    link: int
    exact: int
    per_token: dict[str, float]


def raw_bits(tokens: int, vocab_size: int) -> int:
    """Bits of bare token ids."""
    return tokens * math.ceil(math.log2(vocab_size))


def total(rows: Sequence[Row], vocab_size: int) -> Total:
    """Sums, and each alternative's bits a token."""
    tokens = sum(row.tokens for row in rows)
    link = sum(row.link for row in rows)
    ways = {
        "link": link,
        "raw ids": raw_bits(tokens, vocab_size),
        "zstd": sum(row.zstd for row in rows),
        "plain coding": sum(row.plain for row in rows),
        "KL floor": sum(row.kl for row in rows),
    }
    return Total(
        requests=len(rows),
        tokens=tokens,
        text_bytes=sum(row.text_bytes for row in rows),
        link=link,
        exact=sum(row.exact for row in rows),
        per_token={name: bits / max(1, tokens) for name, bits in ways.items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Exfiltration:
    """Days until the weights are gone if every bit that leaves is the thief's."""

    with_link: float
    without_link: float
    at_cap: float | None
    bits_per_second: float
    text_bits_per_second: float


def worse(rows: Sequence[Row]) -> dict[float, float]:
    """Perplexity of the weak model over the strong one's by temperature: 2 ** KL a token.

    Greedy answers are left out: one token has no perplexity.
    """
    return {
        t: 2 ** total([row for row in rows if row.temperature == t], 2).per_token["KL floor"]
        for t in sorted({row.temperature for row in rows if row.temperature > 0})
    }


def exfiltration(
    rows: Sequence[Row], elapsed_seconds: float, weight_bytes: int, a_day: int | None
) -> Exfiltration:
    """Extrapolates the run's own rate, day and night; the thief shrinks weights by COMPRESSION.

    Without the link every byte of text may carry his bits; with it, only what crossed; at the cap,
    `a_day` bits every day.
    """
    wanted = 8 * weight_bytes / COMPRESSION
    link = sum(row.link for row in rows) / elapsed_seconds
    text = 8 * sum(row.text_bytes for row in rows) / elapsed_seconds
    return Exfiltration(
        with_link=wanted / link / DAY if link else math.inf,
        without_link=wanted / text / DAY if text else math.inf,
        at_cap=wanted / a_day if a_day else None,
        bits_per_second=link,
        text_bits_per_second=text,
    )
