"""What every adapter behind `replay_port.Replay` must keep: the logits that decoding gave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import pytest

from tidegate.errors import ModelError
from tidegate.models.port import F32Array, Model
from tidegate.models.replay_port import PIECE_ROWS, Replay


class Twins(Protocol):
    """The fixture of conftest."""

    open: Callable[[], tuple[Model, Replay]]
    tolerance: float


def ids(length: int, salt: int = 0) -> list[int]:
    return [(17 * index * index + 31 * salt + 5) % 200 + 3 for index in range(length)]


def decoded(model: Model, prompt: Sequence[int], outputs: Sequence[int]) -> F32Array:
    """The rows that decoding `outputs` a token at a time sees."""
    rows = [model.forward([(0, prompt)])[0]]
    rows += [model.forward([(0, [token])])[0] for token in outputs[:-1]]
    model.drop(0)
    return np.stack(rows)


def test_replay_gives_the_logits_each_token_was_drawn_from(twins: Twins):
    model, replay = twins.open()
    answers = [(ids(9), ids(23, 1)), (ids(70, 2), ids(1, 3)), (ids(1, 4), ids(130, 5))]
    for (prompt, outputs), logits_TV in zip(answers, replay.logits(answers), strict=True):
        expected_TV = decoded(model, prompt, outputs)
        assert logits_TV.shape == expected_TV.shape
        assert logits_TV.dtype == np.float32
        assert np.abs(logits_TV - expected_TV).max() <= twins.tolerance


def test_a_long_answer_comes_in_pieces_of_the_same_rows(twins: Twins):
    model, replay = twins.open()
    prompt, outputs = ids(40), ids(PIECE_ROWS + 60, 1)
    pieces = list(replay.pieces(prompt, outputs))
    assert max(map(len, pieces)) <= PIECE_ROWS
    expected_TV = decoded(model, prompt, outputs)
    assert np.abs(np.concatenate(pieces) - expected_TV).max() <= twins.tolerance


def test_an_answer_scores_the_same_whatever_was_scored_before(twins: Twins):
    _, replay = twins.open()
    answer = (ids(66), ids(20, 1))
    first, _, again = replay.logits([answer, (ids(66), ids(9, 2)), answer])
    assert np.abs(first - again).max() <= twins.tolerance


def test_a_replay_that_is_given_up_leaves_nothing_behind(twins: Twins):
    _, replay = twins.open()
    half = replay.pieces(ids(300), ids(290, 1))
    next(half)
    half.close()  # type: ignore[attr-defined]
    model, _ = twins.open()
    (logits_TV,) = replay.logits([(ids(8), ids(5, 1))])
    assert np.abs(logits_TV - decoded(model, ids(8), ids(5, 1))).max() <= twins.tolerance


@pytest.mark.parametrize(
    ("prompt", "outputs"),
    [([], [5]), ([5], []), ([5], [-1]), ([10**6], [5]), (ids(590), ids(12)), ([5], ids(601))],
    ids=["no prompt", "no answer", "negative", "unknown word", "too long", "answer too long"],
)
def test_what_cannot_be_replayed_is_refused(twins: Twins, prompt: list[int], outputs: list[int]):
    _, replay = twins.open()
    with pytest.raises(ModelError):
        next(replay.logits([(ids(3), ids(3)), (prompt, outputs)]))
    with pytest.raises(ModelError):
        next(replay.pieces(prompt, outputs))


def test_a_whole_context_can_be_replayed(twins: Twins):
    _, replay = twins.open()
    (logits_TV,) = replay.logits([(ids(580), ids(21))])
    assert len(logits_TV) == 21


def test_a_replay_says_which_model_it_is(twins: Twins):
    model, replay = twins.open()
    assert (replay.fingerprint, replay.vocab_size) == (model.fingerprint, model.vocab_size)
    assert (replay.exact, replay.eos_ids) == (model.exact, model.eos_ids)
    # What runs the replay may be another program than what decoded.
    theirs, ours = replay.describe(), model.describe()
    assert (theirs.name, theirs.licence, theirs.provenance) == (
        ours.name,
        ours.licence,
        ours.provenance,
    )
