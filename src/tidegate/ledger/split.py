"""Apportion whole bits by largest remainder, so that shares of a frame add up to the frame."""

from __future__ import annotations

from collections.abc import Sequence


def apportion(total_bits: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Split `total_bits` in proportion to `weights`; shares sum to `total_bits` exactly.

    Each share is its exact quota rounded down or up (Hamilton's method). The bits left after
    rounding down go to the largest remainders, ties to the lower index, so that every computation
    of a split agrees. Where every weight is zero (a frame of nothing but padding) it is even.

    Args:
        total_bits: whole bits of one frame, >= 0.
        weights: one a stream, >= 0; ideal code lengths in any common unit, usually 2**-16 bit.

    Raises:
        ValueError: a negative number, or bits to split and nobody to charge.
    """
    if total_bits < 0 or any(weight < 0 for weight in weights):
        raise ValueError("bits and weights are never negative")
    if not weights:
        if total_bits:
            raise ValueError("bits crossed and no stream can be charged for them")
        return ()
    whole = sum(weights)
    if whole == 0:
        weights, whole = [1] * len(weights), len(weights)
    shares, remainders = [], []
    for weight in weights:
        share, remainder = divmod(total_bits * weight, whole)
        shares.append(share)
        remainders.append(remainder)
    by_remainder = sorted(range(len(shares)), key=lambda index: -remainders[index])
    for index in by_remainder[: total_bits - sum(shares)]:
        shares[index] += 1
    return tuple(shares)
