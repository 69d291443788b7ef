"""When to pull, from what is expected to be inside."""

from __future__ import annotations

import pytest

from tidegate.serve.schedule import Forecast, PullPolicy, Work
from tidegate.units import Seconds

POLICY = PullPolicy(sizes=(2, 4, 8, 16), delay=Seconds(0.2), delay_steps=4)


def steps_of(seconds: float) -> Work:
    """Work whose steps were seen to take `seconds` each."""
    work = Work(POLICY)
    for step in range(2):
        work.answered(step, step, Seconds(seconds * step), goes_on=True)
    return work


def busy(bits: float, streams: int, steps: int = 1) -> Forecast:
    """A forecast that has seen tokens of `bits` each and `steps` steps of `streams`."""
    forecast = Forecast(POLICY, Work(POLICY))
    for _ in range(500):
        forecast.learned(bits)
    for step in range(steps):
        forecast.granted(step, speaking=streams, firsts=0)
    return forecast


def test_with_many_streams_no_more_is_pulled_than_is_surely_there() -> None:
    forecast = busy(1.2, 32)
    for step in range(1, 5):
        forecast.granted(step, speaking=32, firsts=0)
    pulled = 0
    while (size := forecast.next_pull(stalled=False)) is not None:
        forecast.pulled(size)
        pulled += size
    assert pulled > 4
    assert forecast.bits > 0.0


def test_where_steps_are_slow_less_is_left_for_the_next_pull() -> None:
    pulled = []
    for seconds in (0.001, 1.0):
        forecast = Forecast(POLICY, steps_of(seconds))
        for bits in (1.0, 5.0) * 100:
            forecast.learned(bits)
        for step in range(12):
            forecast.granted(step, speaking=4, firsts=0)
        pulled.append(0)
        while (size := forecast.next_pull(stalled=False)) is not None:
            forecast.pulled(size)
            pulled[-1] += size
    assert pulled[0] < pulled[1]


def test_where_the_next_step_pushes_out_what_is_left_slow_steps_cost_no_bits() -> None:
    for seconds in (0.001, 1.0):
        forecast = Forecast(POLICY, steps_of(seconds))
        for bits in (1.0, 5.0) * 100:
            forecast.learned(bits)
        forecast.granted(0, speaking=32, firsts=0)
        while (size := forecast.next_pull(stalled=False)) is not None:
            forecast.pulled(size)
        assert forecast.bits > 2 * 2.0 * 32**0.5 - 1


def test_a_single_streams_first_token_is_pulled_at_once() -> None:
    forecast = busy(1.2, 0, 0)
    forecast.granted(0, speaking=1, firsts=1)
    assert forecast.next_pull(stalled=False) == 2
    forecast.pulled(2)
    assert forecast.next_pull(stalled=False) is None


def test_first_tokens_with_little_behind_them_are_flushed() -> None:
    forecast = busy(1.2, 0, 0)
    forecast.granted(0, speaking=14, firsts=10)
    size = forecast.next_pull(stalled=False)
    assert size is not None
    assert 8 * size > forecast.bits
    forecast.pulled(size)
    assert forecast.next_pull(stalled=False) is None


def test_a_first_token_that_many_others_push_out_costs_no_flush() -> None:
    forecast = busy(4.0, 0, 0)
    forecast.granted(0, speaking=32, firsts=1)
    while (size := forecast.next_pull(stalled=False)) is not None:
        assert 8 * size < forecast.bits
        forecast.pulled(size)


def test_the_slower_the_steps_the_less_is_granted_ahead() -> None:
    assert steps_of(0.2).ahead == 0
    assert steps_of(0.001).ahead == POLICY.ahead


def test_a_step_is_held_back_until_the_one_before_is_nearly_done() -> None:
    work = steps_of(0.2)
    now = Seconds(0.2)
    assert work.wait(now) == 0.0
    work.granted(2, now, prompts=0)
    assert work.wait(now) == pytest.approx(0.2 - POLICY.lead)
    assert work.wait(Seconds(now + 0.2)) == 0.0


def test_an_answer_corrects_until_when_there_is_work() -> None:
    work = steps_of(0.2)
    for step in range(2, 5):
        work.granted(step, Seconds(0.2), prompts=0)
    held = work.wait(Seconds(0.3))
    work.answered(3, 4, Seconds(0.3), goes_on=True)
    assert work.wait(Seconds(0.3)) < held


def test_nothing_is_held_back_for_a_guess_before_a_step_was_timed() -> None:
    work = Work(POLICY)
    for step in range(5):
        work.granted(step, Seconds(1.0), prompts=0)
        assert work.wait(Seconds(1.0)) == 0.0


def test_steps_that_read_prompts_do_not_make_the_others_seem_slow() -> None:
    work = steps_of(0.1)
    work.granted(2, Seconds(0.1), prompts=50)
    work.answered(2, 2, Seconds(5.0), goes_on=True)
    assert work.step_time == pytest.approx(0.1)
    work.granted(3, Seconds(5.0), prompts=0)
    assert work.wait(Seconds(5.0)) < 0.1


def reading(step: float, token: float) -> Work:
    """Work whose steps take `step` seconds, and `token` more for each token of a prompt."""
    work = Work(POLICY)
    for number in range(9):
        prompts = 10 * (number % 2)
        work.granted(number, Seconds(number), prompts=prompts)
        now = Seconds(number + step + token * prompts)
        work.answered(number, number, now, goes_on=False)
    return work


def mean_wait(work: Work, lengths: list[int], step: float, token: float) -> float:
    """Mean time to first token if all are there at the start."""
    now, waits, left = 0.0, [], list(lengths)
    while left:
        count = work.joining(left)
        now += step + token * sum(left[:count])
        waits += [now] * count
        left = left[count:]
    return sum(waits) / len(waits)


def test_where_reading_is_slow_waiting_prompts_are_spread_over_steps() -> None:
    lengths = [40] * 24
    work = reading(0.2, 0.01)
    assert 1 < work.joining(lengths) < 12
    ours = mean_wait(work, lengths, 0.2, 0.01)
    together = 0.2 + 0.01 * sum(lengths)
    one_by_one = sum(0.6 * n for n in range(1, 25)) / 24
    assert ours < 0.9 * min(together, one_by_one)


def test_where_reading_is_quick_or_unknown_all_prompts_are_read_at_once() -> None:
    assert reading(0.02, 1e-6).joining([1000] * 8) == 8
    assert Work(POLICY).joining([1000] * 8) == 8
    assert reading(0.2, 0.01).joining([]) == 0
    assert reading(0.2, 0.01).joining([100_000, 100_000]) == 1


def test_first_tokens_that_a_pull_did_not_bring_are_pulled_again() -> None:
    work = Work(POLICY)
    forecast = Forecast(POLICY, work)
    forecast.granted(0, speaking=7, firsts=7)
    forecast.pulled(forecast.next_pull(stalled=False) or 0)
    assert not forecast.short
    work.answered(0, 0, Seconds(0.1), goes_on=True)
    assert forecast.short
    again = forecast.next_pull(stalled=True)
    assert again is not None
    forecast.decoded(0, 1, 0)
    assert not forecast.short


def test_a_token_waits_for_company_but_not_beyond_the_delay() -> None:
    forecast = Forecast(POLICY, steps_of(0.1))
    for _ in range(100):
        forecast.learned(0.5)
    pulls = []
    for step in range(8):
        forecast.granted(step, speaking=1, firsts=0)
        size = forecast.next_pull(stalled=False)
        if size is not None:
            forecast.pulled(size)
            pulls.append(step)
    assert pulls == [3, 7]


def test_fast_steps_leave_more_of_them_time_to_fill_a_frame() -> None:
    forecast = Forecast(POLICY, steps_of(0.01))
    for _ in range(200):
        forecast.learned(0.1)
    for step in range(15):
        forecast.granted(step, speaking=1, firsts=0)
        assert forecast.next_pull(stalled=False) is None


def test_streams_that_only_wait_are_asked_less_often() -> None:
    forecast = Forecast(POLICY, Work(POLICY))
    for step in range(4 * POLICY.idle_factor - 1):
        forecast.granted(step, speaking=0, firsts=0)
        assert forecast.next_pull(stalled=False) is None
    forecast.granted(99, speaking=0, firsts=0)
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
