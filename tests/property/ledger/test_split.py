from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidegate.ledger import apportion

WEIGHTS = st.lists(st.integers(0, 2**40), min_size=1, max_size=64)


@given(st.integers(0, 2**40), WEIGHTS)
def test_shares_add_up_and_stay_within_a_bit_of_their_quota(bits: int, weights: list[int]) -> None:
    shares = apportion(bits, weights)
    assert sum(shares) == bits
    whole = sum(weights)
    for share, weight in zip(shares, weights, strict=True):
        if whole:
            assert abs(share * whole - bits * weight) < whole
        else:
            assert share in (bits // len(weights), bits // len(weights) + 1)


@given(st.integers(0, 2**20), WEIGHTS, st.integers(1, 1_000))
def test_the_unit_of_the_weights_does_not_matter(
    bits: int, weights: list[int], factor: int
) -> None:
    assert apportion(bits, weights) == apportion(bits, [factor * weight for weight in weights])


@given(st.integers(0, 2**20), WEIGHTS)
def test_who_coded_nothing_pays_nothing_unless_nobody_did(bits: int, weights: list[int]) -> None:
    if any(weights):
        shares = apportion(bits, weights)
        assert all(weight or not share for share, weight in zip(shares, weights, strict=True))
