"""Several callers of one model: what each gets is what it would get alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from link_world import TableModel

from tidegate.errors import ModelError
from tidegate.models.port import F32Array
from tidegate.models.shared import STRIDE, SharedModel, SharedView

CALLERS = 4


class Gate:
    """Holds a model's first batch until every other caller has queued behind it."""

    def __init__(self, model: TableModel) -> None:
        self.entered = threading.Event()
        self.let_go = threading.Event()
        self.batches: list[int] = []
        model.touch = self.touch

    def touch(self, _: TableModel, batch: object, logits_NV: F32Array) -> None:
        self.batches.append(len(logits_NV))
        if len(self.batches) == 1:
            self.entered.set()
            assert self.let_go.wait(10)


def queued(shared: SharedModel) -> int:
    with shared._queueing:
        return len(shared._queue)


@pytest.mark.parametrize("gather", [True, False])
def test_every_caller_has_sequences_of_its_own(gather: bool):
    shared = SharedModel(TableModel(), gather=gather)
    views = [shared.view() for _ in range(CALLERS)]
    for number, view in enumerate(views):
        view.forward([(0, [1 + number, 2])])
        view.fork(0, 1)
    for number, view in enumerate(views):
        alone = TableModel()
        alone.forward([(0, [1 + number, 2])])
        assert np.array_equal(view.forward([(1, [5])]), alone.forward([(0, [5])]))
        view.drop(0)
        with pytest.raises(ModelError):
            view.drop(0)


def waves(gather: bool, fails: int | None = None) -> tuple[Gate, dict[int, F32Array | Exception]]:
    """One caller's batch runs while the others queue; then theirs run."""
    model = TableModel()
    gate = Gate(model)
    shared = SharedModel(model, gather=gather)
    views = [shared.view() for _ in range(CALLERS)]
    found: dict[int, F32Array | Exception] = {}

    def call(number: int) -> None:
        tokens = [1 + number] * (5000 if number == fails else 2)
        try:
            found[number] = views[number].forward([(0, tokens), (3, [7])])
        except ModelError as error:
            found[number] = error

    first = threading.Thread(target=call, args=(0,))
    first.start()
    assert gate.entered.wait(10)
    others = [threading.Thread(target=call, args=(number,)) for number in range(1, CALLERS)]
    for other in others:
        other.start()
    while gather and queued(shared) < CALLERS - 1:
        pass
    gate.let_go.set()
    for work in (first, *others):
        work.join(10)
    return gate, found


def expected(number: int) -> F32Array:
    return TableModel().forward([(0, [1 + number] * 2), (3, [7])])


def test_calls_that_wait_run_as_one_batch_and_each_gets_its_own_rows():
    gate, found = waves(gather=True)
    assert gate.batches == [2, 2 * (CALLERS - 1)]
    assert all(np.array_equal(found[number], expected(number)) for number in range(CALLERS))


def test_without_gathering_every_call_runs_as_it_was_made():
    gate, found = waves(gather=False)
    assert gate.batches == [2] * CALLERS
    assert all(np.array_equal(found[number], expected(number)) for number in range(CALLERS))


def test_one_callers_bad_batch_fails_for_nobody_else():
    _, found = waves(gather=True, fails=2)
    assert isinstance(found[2], ModelError)
    for number in (0, 1, 3):
        assert np.array_equal(found[number], expected(number))


def test_an_engine_that_breaks_breaks_for_all_who_shared_the_batch():
    model = TableModel()

    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    model.touch = broken
    views = [SharedModel(model, gather=True).view() for _ in range(2)]
    for view in views:
        with pytest.raises(RuntimeError, match="out of memory"):
            view.forward([(0, [1])])


@pytest.mark.parametrize("number", [-1, STRIDE])
def test_nobody_reaches_another_callers_sequences(number: int):
    view: SharedView = SharedModel(TableModel(), gather=True).view()
    with pytest.raises(ModelError, match="out of range"):
        view.forward([(number, [1])])
