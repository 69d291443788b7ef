"""Asking the same again is another attempt; asking anything else is a first one."""

from __future__ import annotations

from tidegate.sampling.params import SamplingParams
from tidegate.serve.outer.attempts import Attempts

PARAMS = SamplingParams(temperature=0.7)


def test_the_same_request_again_is_the_next_attempt() -> None:
    attempts = Attempts()
    asked = [attempts.count("alice", [(1, 2)], PARAMS, 7) for _ in range(3)]
    assert asked == [0, 1, 2]


def test_another_principal_prompt_parameter_or_seed_is_a_first_attempt() -> None:
    attempts = Attempts()
    attempts.count("alice", [(1, 2)], PARAMS, 7)
    assert attempts.count("bob", [(1, 2)], PARAMS, 7) == 0
    assert attempts.count("alice", [(1,), (2,)], PARAMS, 7) == 0
    assert attempts.count("alice", [(1, 2)], SamplingParams(temperature=0.8), 7) == 0
    assert attempts.count("alice", [(1, 2)], PARAMS, None) == 0


def test_memory_is_bounded_and_keeps_what_was_asked_last() -> None:
    attempts = Attempts(remembered=2)
    for prompt in (1, 2, 3):
        attempts.count("alice", [(prompt,)], PARAMS, None)
    assert attempts.count("alice", [(3,)], PARAMS, None) == 1
    assert attempts.count("alice", [(1,)], PARAMS, None) == 0
