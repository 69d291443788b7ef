from __future__ import annotations

from tidegate.ledger.window import BUCKETS, Window

HOUR = 3_600_000
WIDTH = HOUR // BUCKETS


def test_bits_count_for_a_window_and_at_most_a_bucket_longer() -> None:
    window = Window(HOUR).add(1_000, 10)
    assert window.used(1_000 + HOUR) == 10
    assert window.used(1_000 + HOUR + WIDTH) == 0


def test_credit_never_outlives_a_window() -> None:
    window = Window(HOUR).credit(1_000, 10)
    assert window.used(1_000 + HOUR - WIDTH - 1_000) == -10
    assert window.used(1_000 + HOUR) == 0


def test_memory_is_bounded_whatever_is_added() -> None:
    window = Window(HOUR)
    for now in range(0, 3 * HOUR, WIDTH // 2):
        window = window.add(now, 1).credit(now, 1)
    assert len(window.buckets) <= BUCKETS + 3


def test_the_wait_is_until_enough_has_left() -> None:
    window = Window(HOUR).add(0, 10).add(HOUR // 2, 10)
    now = HOUR // 2
    assert window.frees_in(now, 10) == HOUR + WIDTH - now
    assert window.frees_in(now, 11) == HOUR // 2 + HOUR + WIDTH - now
    assert window.frees_in(now, 21) is None
