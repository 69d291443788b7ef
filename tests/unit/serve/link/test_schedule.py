"""When to pull, from what is expected to be inside."""

from __future__ import annotations

from tidegate.serve.schedule import Forecast, PullPolicy
from tidegate.units import Seconds

POLICY = PullPolicy(sizes=(2, 4, 8, 16), delay=Seconds(0.2), delay_steps=4)


def busy(bits: float, streams: int, steps: int = 1) -> Forecast:
    """A forecast that has seen tokens of `bits` each and `steps` steps of `streams`."""
    forecast = Forecast(POLICY)
    for _ in range(500):
        forecast.learned(bits)
    for step in range(steps):
        forecast.granted(step, speaking=streams, first=False)
    return forecast


def test_with_many_streams_a_frame_is_pulled_once_it_is_full() -> None:
    forecast = busy(1.2, 32)
    assert forecast.next_pull(stalled=False) is None
    for step in range(1, 5):
        forecast.granted(step, speaking=32, first=False)
    assert forecast.next_pull(stalled=False) == 4


def test_a_single_streams_first_token_is_pulled_at_once() -> None:
    forecast = busy(1.2, 0, 0)
    forecast.granted(0, speaking=1, first=True)
    assert forecast.next_pull(stalled=False) == 2
    forecast.pulled(2)
    assert forecast.next_pull(stalled=False) is None


def test_among_many_streams_a_first_token_comes_with_the_flow() -> None:
    forecast = busy(1.2, 0, 0)
    forecast.granted(0, speaking=14, first=True)
    assert forecast.next_pull(stalled=False) is None


def test_a_token_waits_for_company_but_not_beyond_the_delay() -> None:
    forecast = Forecast(POLICY)
    for _ in range(100):
        forecast.learned(0.5)
        forecast.timed(Seconds(0.1))
    pulls = []
    for step in range(8):
        forecast.granted(step, speaking=1, first=False)
        size = forecast.next_pull(stalled=False)
        if size is not None:
            forecast.pulled(size)
            pulls.append(step)
    assert pulls == [3, 7]


def test_fast_steps_leave_more_of_them_time_to_fill_a_frame() -> None:
    forecast = Forecast(POLICY)
    for _ in range(200):
        forecast.learned(0.1)
        forecast.timed(Seconds(0.01))
    for step in range(15):
        forecast.granted(step, speaking=1, first=False)
        assert forecast.next_pull(stalled=False) is None


def test_streams_that_only_wait_are_asked_less_often() -> None:
    forecast = Forecast(POLICY)
    for step in range(4 * POLICY.idle_factor - 1):
        forecast.granted(step, speaking=0, first=False)
        assert forecast.next_pull(stalled=False) is None
    forecast.granted(99, speaking=0, first=False)
    assert forecast.next_pull(stalled=False) == 2


def test_when_nothing_else_will_happen_what_is_inside_is_pulled() -> None:
    forecast = busy(1.0, 1)
    assert forecast.next_pull(stalled=False) is None
    assert forecast.next_pull(stalled=True) is not None


def test_what_was_decoded_corrects_what_was_expected() -> None:
    forecast = busy(2.0, 10, 3)
    forecast.pulled(2)
    before = forecast.bits
    forecast.decoded(1, 0, 0)
    assert forecast.bits < before
    forecast.decoded(2, 1, 40)
    assert forecast.bits == 40.0


def test_a_pull_placed_since_still_counts_after_a_correction() -> None:
    forecast = busy(2.0, 10, 2)
    forecast.pulled(4)
    forecast.decoded(1, 0, 64)
    assert forecast.bits == 32.0
