"""What every adapter behind `port.Model` must keep."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.errors import ModelError
from tidegate.models.port import F32Array, Model


class Open(Protocol):
    """The fixture of conftest: opens one adapter, and states how far batching moves a logit."""

    tolerance: float

    def __call__(self) -> Model: ...


def prompt(length: int, salt: int = 0) -> list[int]:
    return [(17 * index * index + 31 * salt + 5) % 200 + 3 for index in range(length)]


def greedy(model: Model, ids: list[int], steps: int) -> list[list[int]]:
    """Greedy tokens of several sequences that start and step together."""
    logits = model.forward([(number, prompt(4 + 3 * number, number)) for number in ids])
    tokens = [[int(row.argmax())] for row in logits]
    for _ in range(steps):
        logits = model.forward(
            [(number, row[-1:]) for number, row in zip(ids, tokens, strict=True)]
        )
        for row, scores in zip(tokens, logits, strict=True):
            row.append(int(scores.argmax()))
    return tokens


def test_logits_are_float32_one_row_a_sequence_and_finite(open_model: Open):
    model = open_model()
    logits = model.forward([(0, prompt(5)), (4, prompt(9))])
    assert logits.dtype == np.float32
    assert logits.shape == (2, model.vocab_size)
    assert np.isfinite(logits).all()


def test_batching_changes_no_token_beyond_the_tolerance(open_model: Open):
    together = greedy(open_model(), list(range(6)), 12)
    for number, tokens in enumerate(together):
        alone = open_model()
        feed = prompt(4 + 3 * number, number)
        for token in tokens:
            logits_V = alone.forward([(0, feed)])[0]
            assert logits_V.max() - logits_V[token] <= 2 * open_model.tolerance
            feed = [token]


def test_batching_moves_logits_less_than_the_tolerance(open_model: Open):
    alone, crowd = open_model(), open_model()
    crowd.forward([(n, prompt(3 + 11 * n, n)) for n in range(5)])
    alone.forward([(2, prompt(25, 2))])
    expected = alone.forward([(2, [9])])[0]
    actual = crowd.forward([(n, [9]) for n in range(5)])[2]
    assert np.abs(expected - actual).max() <= open_model.tolerance


def test_tokens_one_by_one_equal_the_same_tokens_at_once(open_model: Open):
    model = open_model()
    tokens = prompt(40)
    at_once = model.forward([(0, tokens)])[0]
    for token in tokens:
        one_by_one = model.forward([(1, [token])])[0]
    model.forward([(2, tokens[:13])])
    in_two = model.forward([(2, tokens[13:])])[0]
    assert np.abs(at_once - one_by_one).max() <= open_model.tolerance
    assert np.abs(at_once - in_two).max() <= open_model.tolerance


def test_joining_dropping_and_idling_leave_other_sequences_alone(open_model: Open):
    model, alone = open_model(), open_model()
    model.forward([(0, prompt(6)), (1, prompt(30, 1)), (5, prompt(12, 5))])
    model.forward([(0, [7]), (5, [8])])
    model.drop(0)
    model.forward([(3, prompt(300, 3)), (5, [9])])
    model.forward([(1, [4]), (3, [4])])
    model.drop(3)
    actual = model.forward([(1, [11]), (5, [12])])
    one = alone.forward([(1, [*prompt(30, 1), 4, 11])])[0]
    five = alone.forward([(5, [*prompt(12, 5), 8, 9, 12])])[0]
    assert np.abs(actual[0] - one).max() <= open_model.tolerance
    assert np.abs(actual[1] - five).max() <= open_model.tolerance


def test_a_dropped_id_starts_afresh(open_model: Open):
    model = open_model()
    first = model.forward([(0, prompt(8))])
    model.forward([(0, [3])])
    model.drop(0)
    np.testing.assert_array_equal(model.forward([(0, prompt(8))]), first)


def test_a_fork_goes_its_own_way_from_the_same_past(open_model: Open):
    model = open_model()
    model.forward([(0, prompt(20)), (1, prompt(7, 1))])
    model.fork(0, 8)
    left, right = model.forward([(0, [5]), (8, [5])])
    assert np.abs(left - right).max() <= open_model.tolerance
    model.forward([(8, [50, 51])])
    left_next = model.forward([(0, [6])])[0]
    expected = model.forward([(9, [*prompt(20), 5, 6])])[0]
    assert np.abs(left_next - expected).max() <= open_model.tolerance


calls = st.lists(
    st.one_of(
        st.tuples(
            st.just("forward"),
            st.dictionaries(
                st.integers(0, 5), st.lists(st.integers(3, 200), min_size=1, max_size=4), min_size=1
            ),
        ),
        st.tuples(st.just("drop"), st.integers(0, 5)),
    ),
    max_size=14,
)


def replay(model: Model, script: list[tuple[str, object]]) -> list[F32Array]:
    results = []
    alive: set[int] = set()
    for kind, value in script:
        if kind == "forward":
            assert isinstance(value, dict)
            results.append(model.forward(sorted(value.items())))
            alive.update(value)
        elif value in alive:
            assert isinstance(value, int)
            model.drop(value)
            alive.remove(value)
    return results


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(script=calls)
def test_the_same_calls_give_bit_identical_logits(
    open_model: Open, script: list[tuple[str, object]]
):
    for first, second in zip(
        replay(open_model(), script), replay(open_model(), script), strict=True
    ):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "batch",
    [
        [],
        [(0, [])],
        [(1, [5]), (0, [5])],
        [(0, [5]), (0, [6])],
        [(0, [-1])],
        [(0, [10**9])],
    ],
)
def test_a_malformed_batch_is_refused_and_changes_nothing(
    open_model: Open, batch: list[tuple[int, list[int]]]
):
    model, untouched = open_model(), open_model()
    for each in (model, untouched):
        each.forward([(0, prompt(9)), (1, prompt(4))])
    with pytest.raises(ModelError):
        model.forward(batch)
    np.testing.assert_array_equal(
        model.forward([(0, [5]), (1, [6])]), untouched.forward([(0, [5]), (1, [6])])
    )


def test_a_context_overflow_is_refused_before_any_sequence_grows(open_model: Open):
    model, untouched = open_model(), open_model()
    full = [3 + index % 100 for index in range(model.context_length)]
    for each in (model, untouched):
        each.forward([(0, prompt(9)), (1, full)])
    with pytest.raises(ModelError, match="context"):
        model.forward([(0, [5]), (1, [5])])
    np.testing.assert_array_equal(model.forward([(0, [5])]), untouched.forward([(0, [5])]))


def test_unknown_and_taken_ids_are_refused(open_model: Open):
    model = open_model()
    model.forward([(0, prompt(3)), (1, prompt(3))])
    with pytest.raises(ModelError):
        model.drop(7)
    with pytest.raises(ModelError):
        model.fork(7, 8)
    with pytest.raises(ModelError):
        model.fork(0, 1)


def test_the_caller_may_write_into_what_he_gets(open_model: Open):
    model = open_model()
    logits = model.forward([(0, prompt(6))])
    kept = logits.copy()
    logits[:] = 0
    model.drop(0)
    np.testing.assert_array_equal(model.forward([(0, prompt(6))]), kept)


def test_equal_models_have_equal_fingerprints_and_describe_themselves(open_model: Open):
    model = open_model()
    assert model.fingerprint == open_model().fingerprint
    info = model.describe()
    assert info.parameters > 0
    assert info.licence
    assert info.provenance
    assert all(0 <= token < model.vocab_size for token in model.eos_ids)
