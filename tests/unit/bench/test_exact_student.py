from __future__ import annotations

import numpy as np
import pytest

from tidegate.bench import exact_student
from tidegate.bench.coding import SHARPNESS, Tally
from tidegate.models.port import ModelInfo


def tally(bits: float, *, tokens: int = 10) -> Tally:
    """`tokens` tokens at `bits` plain bits each at the best sharpness, more at all others."""
    plain_S = np.full(len(SHARPNESS), (bits + 1) * tokens)
    plain_S[3] = bits * tokens
    return Tally(
        tokens=tokens,
        coupled=2.0 * tokens,
        plain_S=plain_S,
        timed_tokens=tokens,
        weak_seconds=0.5,
    )


def info(parameters: int) -> ModelInfo:
    return ModelInfo(name="", parameters=parameters, licence="", provenance="", numerics="")


TALLIES = {
    ("student", 0.0): tally(4.6),
    ("student", 0.7): tally(9.0),
    ("student", 1.0): tally(7.2),
    ("ngram", 0.0): tally(20.0),
    ("ngram", 1.0): tally(20.0),
}


def test_targets_hold_only_the_student_to_its_limits():
    figures = exact_student.figures(TALLIES, info(14_000_000), 39_000_000)
    assert all(figure.holds is not False for figure in figures.values())
    held = {key for key, figure in figures.items() if figure.holds}
    assert held == {
        "student.parameters",
        "student.bytes",
        "student.t0.plain",
        "student.t1.plain",
    }


@pytest.mark.parametrize(
    ("worse", "missed"),
    [
        ({("student", 0.0): tally(4.8)}, "student.t0.plain"),
        ({("student", 1.0): tally(7.4)}, "student.t1.plain"),
    ],
)
def test_a_student_that_costs_more_misses_its_target(
    worse: dict[tuple[str, float], Tally], missed: str
):
    figures = exact_student.figures({**TALLIES, **worse}, info(1), 1)
    assert [key for key, figure in figures.items() if figure.holds is False] == [missed]


def test_a_student_that_is_too_large_misses_its_target():
    figures = exact_student.figures(TALLIES, info(15_000_000), 41_000_000)
    missed = [key for key, figure in figures.items() if figure.holds is False]
    assert missed == ["student.parameters", "student.bytes"]


def test_values_are_a_token_and_plain_is_at_its_best_sharpness():
    figures = exact_student.figures(TALLIES, info(1), 1)
    assert figures["student.t07.plain"].value == pytest.approx(9.0)
    assert figures["ngram.t1.coupled"].value == pytest.approx(2.0)
    assert figures["student.tokens_per_s"].value == pytest.approx(30 / 1.5)


def test_held_out_prompts_are_every_fifth_packaged_one():
    every = exact_student.HELD_OUT_EVERY
    assert len(exact_student.held_out()) == -(-317 // every)
