"""Draws that anybody can repeat, with the laws they claim."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from plan_scenarios import between

from tidegate.plan import draws

COUNT = 20_000


def test_a_lifetime_draws_the_same_wherever_the_block_begins() -> None:
    whole = draws.uniform(7, "model.parameters", 0, 64)
    later = draws.uniform(7, "model.parameters", 40, 24)
    assert (whole[40:] == later).all()


def test_streams_of_other_names_and_seeds_differ() -> None:
    rows = [draws.uniform(seed, name, 0, 8) for seed in (0, 1) for name in ("a", "b")]
    assert len({tuple(row.tolist()) for row in rows}) == 4


def _philox(counter: int, key: int) -> list[int]:
    """Philox4x64-10, written out from the paper."""
    mask = (1 << 64) - 1
    c, k = [counter, 0, 0, 0], [key & mask, key >> 64]
    for _ in range(10):
        p0, p1 = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(p1 >> 64) ^ c[1] ^ k[0], p1 & mask, (p0 >> 64) ^ c[3] ^ k[1], p0 & mask]
        k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
    return c


def test_any_implementation_of_philox_draws_the_same() -> None:
    key = int.from_bytes(hashlib.blake2b(b"5/link.cap", digest_size=16).digest(), "little")
    words = _philox(1, key) + _philox(2, key)
    expected = [((word >> 11) + 0.5) * 2.0**-53 for word in words]
    assert draws.uniform(5, "link.cap", 0, 8).tolist() == expected


def test_a_block_begins_at_a_multiple_of_four() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        draws.uniform(0, "a", 2, 4)


def test_half_the_draws_lie_on_either_side_and_none_beyond() -> None:
    u_N = draws.uniform(0, "a", 0, COUNT)
    for low, mid, high in ((1, 10, 1000), (0, 0.2, 1), (0.5, 0.5, 4)):
        drawn_N = draws.quantile(between(low, mid, high), u_N)
        assert drawn_N.min() >= low
        assert drawn_N.max() <= high
        assert (drawn_N > mid).mean() == pytest.approx(0.5, abs=0.02)


def test_every_factor_is_equally_likely_within_a_half() -> None:
    drawn_N = draws.quantile(between(1, 10, 1000), draws.uniform(0, "a", 0, COUNT))
    assert ((drawn_N > 10) & (drawn_N < 100)).mean() == pytest.approx(0.25, abs=0.02)


def test_a_larger_share_never_draws_less() -> None:
    u_N = np.linspace(0.0001, 0.9999, 999)
    assert (np.diff(draws.quantile(between(0.1, 3, 4), u_N)) >= 0).all()


@pytest.mark.parametrize("mean", [0.0, 0.3, 4.0, 55.0, 400.0])
def test_counts_have_the_mean_and_the_spread_of_poissons(mean: float) -> None:
    drawn_N = draws.counts(np.full(COUNT, mean), draws.uniform(3, "n", 0, COUNT))
    error = math.sqrt(max(mean, 1e-9) / COUNT)
    assert drawn_N.mean() == pytest.approx(mean, abs=5 * error + 1e-9)
    assert drawn_N.var() == pytest.approx(mean, rel=0.08)


def test_a_count_is_the_least_that_the_law_puts_its_share_below() -> None:
    # Mean 1: 0.368 at 0, 0.736 up to 1, 0.920 up to 2.
    drawn = draws.counts(np.ones(4), np.array([0.3, 0.5, 0.9, 0.93]))
    assert drawn.tolist() == [0, 1, 2, 3]
