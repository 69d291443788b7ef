from __future__ import annotations

import pytest

from tidegate.ledger import apportion


def test_the_bit_left_over_goes_to_the_largest_remainder() -> None:
    assert apportion(10, [1, 1, 4]) == (2, 2, 6)  # quotas 1.67, 1.67, 6.67: ties to the lower index


def test_a_frame_of_padding_is_shared_evenly() -> None:
    assert apportion(8, [0, 0, 0]) == (3, 3, 2)


def test_bits_that_nobody_can_be_charged_for_are_refused() -> None:
    with pytest.raises(ValueError, match="no stream"):
        apportion(8, [])
    assert apportion(0, []) == ()


@pytest.mark.parametrize(("bits", "weights"), [(-1, [1]), (8, [2, -1])])
def test_negative_numbers_are_refused(bits: int, weights: list[int]) -> None:
    with pytest.raises(ValueError, match="negative"):
        apportion(bits, weights)
