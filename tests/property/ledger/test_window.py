from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidegate.ledger.window import BUCKETS, Window

STEPS = st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 1_000)), max_size=60)


@given(st.integers(1, 100_000), STEPS, st.integers(0, 200_000))
def test_a_window_never_counts_less_than_the_exact_sum(
    length: int, steps: list[tuple[int, int]], rest: int
) -> None:
    window, now, dated = Window(length), 0, []
    for pause, bits in steps:
        now += pause
        window = window.add(now, bits)
        dated.append((now, bits))
    now += rest
    exact = sum(bits for time, bits in dated if now - time < length)
    longer = sum(bits for time, bits in dated if now - time < length + window.width)
    assert exact <= window.used(now) <= longer
    assert len(window.buckets) <= BUCKETS + 3


@given(st.integers(64, 100_000), STEPS, st.integers(1, 70_000))
def test_a_promised_wait_is_long_enough_and_no_shorter_one_is(
    length: int, steps: list[tuple[int, int]], excess: int
) -> None:
    window, now = Window(length), 0
    for pause, bits in steps:
        now += pause
        window = window.add(now, bits)
    used = window.used(now)
    wait = window.frees_in(now, excess)
    if wait is None:
        assert used < excess
    else:
        assert used - window.used(now + wait) >= excess
        assert used - window.used(now + wait - 1) < excess
