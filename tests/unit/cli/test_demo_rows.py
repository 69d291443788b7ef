from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.cli.demo_rows import COMPRESSION, Row, exfiltration, raw_bits, total, worse

AMOUNT = st.integers(0, 10**6)
ROWS = st.lists(
    st.builds(
        Row,
        prompt_id=st.text(max_size=5),
        category=st.just("chat"),
        temperature=st.sampled_from((0.0, 0.7, 1.0)),
        tokens=AMOUNT,
        text_bytes=AMOUNT,
        zstd=AMOUNT,
        link=AMOUNT,
        plain=AMOUNT.map(float),
        kl=AMOUNT.map(float),
        exact=st.booleans(),
        seconds=st.just(1.0),
        first_token_seconds=st.just(0.5),
    ),
    max_size=8,
)


@given(rows=ROWS, cut=st.integers(0, 8))
def test_sums_of_parts_are_the_sum(rows: list[Row], cut: int):
    whole, first, rest = (total(part, 49_152) for part in (rows, rows[:cut], rows[cut:]))
    for name in ("requests", "tokens", "text_bytes", "link", "exact"):
        assert getattr(whole, name) == getattr(first, name) + getattr(rest, name)
    for way, bits in whole.per_token.items():
        parts = sum(part.per_token[way] * max(1, part.tokens) for part in (first, rest))
        assert bits * max(1, whole.tokens) == pytest.approx(parts)


@pytest.mark.parametrize(("vocabulary", "bits"), [(2, 1), (49_152, 16), (65_536, 16), (65_537, 17)])
def test_a_raw_id_has_as_many_bits_as_the_vocabulary_needs(vocabulary: int, bits: int):
    assert raw_bits(3, vocabulary) == 3 * bits


@given(rows=ROWS)
def test_days_are_weights_over_rate_and_never_end_where_nothing_leaves(rows: list[Row]):
    leak = exfiltration(rows, 10.0, 10**9, None)
    bits = sum(row.link for row in rows)
    if bits:
        days = 8 * 10**9 / COMPRESSION / (bits / 10.0) / 86_400
        assert leak.with_link == pytest.approx(days)
    else:
        assert leak.with_link == math.inf
    assert leak.at_cap is None
    assert (leak.without_link == math.inf) == (not any(row.text_bytes for row in rows))


def test_days_at_the_cap_do_not_depend_on_the_run():
    leak = exfiltration([], 10.0, 16 * 10**9, 10**6)
    assert leak.at_cap == pytest.approx(8 * 16 * 10**9 / COMPRESSION / 10**6)


def test_how_much_worse_the_weak_model_is_comes_from_drawn_answers_alone():
    found = worse([row(0.0, 10, 90.0), row(0.7, 10, 25.0), row(0.7, 10, 35.0), row(1.0, 4, 4.0)])
    assert found == {0.7: 8.0, 1.0: 2.0}


def row(temperature: float, tokens: int, kl: float) -> Row:
    return Row(
        prompt_id="p",
        category="chat",
        temperature=temperature,
        tokens=tokens,
        text_bytes=0,
        zstd=0,
        link=0,
        plain=0.0,
        kl=kl,
        exact=True,
        seconds=1.0,
        first_token_seconds=1.0,
    )
