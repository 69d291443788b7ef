"""A model over several ranks: the bits of a single host, and what becomes of it without a rank."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from proof_world import SHAPE, UNTIED
from rank_world import ROOT, RankWorld

from tidegate.errors import EngineDownError, ModelError, ProtocolViolationError
from tidegate.models.exact import rank_wire as wire
from tidegate.models.exact.model import ExactModel
from tidegate.models.exact.ops_numpy import NumpyLinear, NumpyOps
from tidegate.models.exact.parameters import expected, parameters_of
from tidegate.models.exact.ranks import RankedModel
from tidegate.models.exact.seeded import tensors_of
from tidegate.models.exact.shape import Shape
from tidegate.models.exact.stage import layers_among, names_of, span_of
from tidegate.models.port import ModelInfo

LAYERS = 4
TIED, LOOSE = replace(SHAPE, layers=LAYERS), replace(UNTIED, layers=LAYERS)
PROMPT = [5, 6, 7, 40, 41, 42] * 25
"""Longer than two pages, so that the second sequence that begins so shares them."""


def single(shape: Shape) -> ExactModel:
    tensors = tensors_of(shape, "ranks")
    parameters = parameters_of(shape, tensors)
    info = ModelInfo(name="tiny", parameters=1, licence="", provenance="", numerics="")
    linear, ops = NumpyLinear(shape, tensors), NumpyOps(parameters)
    return ExactModel(parameters, linear, ops, info=info, fingerprint=ROOT, eos_ids=frozenset())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RankWorld]:
    with RankWorld(TIED, tensors_of(TIED, "ranks"), 3, tmp_path) as started:
        yield started


def life(model: RankedModel | ExactModel) -> list[np.ndarray]:
    """Prefill of several, decoding, a fork, a drop, and one that begins with known pages."""
    seen = [model.forward([(0, PROMPT), (3, [9]), (7, PROMPT[:70])])]
    seen += [model.forward([(0, [token]), (3, [token + 1])]) for token in range(3)]
    model.fork(0, 1)
    seen.append(model.forward([(0, [11]), (1, [12, 13])]))
    model.drop(0)
    seen.append(model.forward([(5, [*PROMPT, 2]), (7, [1])]))
    return seen


@pytest.mark.parametrize("shape", [TIED, LOOSE], ids=["tied", "untied"])
@pytest.mark.parametrize("ranks", [1, 2, LAYERS])
def test_any_number_of_ranks_gives_the_bits_of_one_host(shape: Shape, ranks: int, tmp_path: Path):
    with RankWorld(shape, tensors_of(shape, "ranks"), ranks, tmp_path) as world:
        model = world.leader(pass_rows=64)
        model.recover()
        for found, wanted in zip(life(model), life(single(shape)), strict=True):
            assert np.array_equal(found, wanted)
        model.close()


def test_every_tensor_is_somebodys_and_layers_are_nobody_elses():
    for shape in (TIED, LOOSE):
        needed = [names_of(expected(shape), span_of(LAYERS, rank, 3)) for rank in range(3)]
        assert frozenset().union(*needed) == set(expected(shape))
        assert layers_among(expected(shape)) == LAYERS
        for name in expected(shape):
            holders = sum(name in names for names in needed)
            assert holders == 1 or not name.startswith("layers.")


@pytest.mark.parametrize(("rank", "ranks"), [(0, LAYERS + 1), (3, 3), (-1, 2)])
def test_a_rank_without_layers_is_refused(rank: int, ranks: int):
    with pytest.raises(ModelError, match="has no part"):
        span_of(LAYERS, rank, ranks)


def test_a_refused_call_changes_no_rank(world: RankWorld):
    model, alone = world.leader(), single(TIED)
    model.recover()
    for one in (model, alone):
        one.forward([(0, PROMPT)])
        with pytest.raises(ModelError):
            one.forward([(0, [1]), (1, [10**6])])
        with pytest.raises(ModelError):
            one.fork(0, 0)
    assert np.array_equal(model.forward([(0, [3])]), alone.forward([(0, [3])]))
    model.close()


def test_an_activation_out_of_range_in_a_later_rank_is_cut_back_everywhere(
    world: RankWorld, monkeypatch: pytest.MonkeyPatch
):
    model = world.leader()
    model.recover()
    model.forward([(0, PROMPT)])
    with monkeypatch.context() as patch:
        patch.setattr(world.stages[2]._ops, "gate", refuse)
        with pytest.raises(ModelError, match="larger than"):
            model.forward([(0, [1, 2, 3]), (1, [4])])
    for part in (model._stage, world.stages[1], world.stages[2]):
        assert (part.length(0), part.length(1)) == (len(PROMPT), 0)
    alone = single(TIED)
    alone.forward([(0, PROMPT)])
    assert np.array_equal(model.forward([(0, [3])]), alone.forward([(0, [3])]))
    model.close()


def refuse(*_: object) -> None:
    raise ModelError("an activation is larger than 2**40")


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_rank_is_named_and_the_model_comes_back_without_its_sequences(
    world: RankWorld, lost: int
):
    model = world.leader()
    with pytest.raises(EngineDownError, match="not joined"):
        model.forward([(0, [1])])
    model.recover()
    model.forward([(0, PROMPT)])
    world.kill(lost)
    with pytest.raises(EngineDownError, match=f"rank {lost} of 3 is gone"):
        model.forward([(0, [1])])
    for _ in range(2):
        # It stays down, and says so, whatever is asked of it.
        with pytest.raises(EngineDownError, match=f"rank {lost}"):
            model.forward([(8, [1])])
        with pytest.raises(EngineDownError, match=f"rank {lost}"):
            model.recover()
    world.start(lost)
    model.recover()
    # Nobody may go on with what is lost as if it were there; to drop it is fine.
    with pytest.raises(ModelError, match="was lost"):
        model.forward([(0, [1])])
    model.drop(0)
    assert np.array_equal(model.forward([(0, PROMPT)]), single(TIED).forward([(0, PROMPT)]))
    model.close()


def test_a_rank_that_falls_silent_is_lost_too(world: RankWorld, monkeypatch: pytest.MonkeyPatch):
    world.timeout_s = 0.3
    model = world.leader()
    model.recover()
    awake = threading.Event()
    monkeypatch.setattr(world.stages[1], "start", lambda _: awake.wait(10))
    with pytest.raises(EngineDownError, match="rank 1 of 3 is gone: timed out"):
        model.forward([(0, PROMPT)])
    awake.set()


def test_a_second_leader_takes_over_and_the_first_one_hears_of_it(world: RankWorld):
    first, second = world.leader(), world.leader()
    first.recover()
    first.forward([(0, PROMPT)])
    second.recover()
    assert np.array_equal(second.forward([(0, [5])]), single(TIED).forward([(0, [5])]))
    with pytest.raises(EngineDownError):
        first.forward([(0, [1])])
    second.close()


@pytest.mark.parametrize(
    ("secret", "root", "says"),
    [(b"guessed", ROOT, "hung up"), (None, "7" * 64, "differ in their model")],
    ids=["wrong secret", "another model"],
)
def test_who_does_not_belong_is_not_served(
    tmp_path: Path, secret: bytes | None, root: str, says: str
):
    with RankWorld(TIED, tensors_of(TIED, "ranks"), 2, tmp_path, root=root) as world:
        model = world.leader() if secret is None else world.leader(secret=secret)
        with pytest.raises(EngineDownError, match=says):
            model.recover()


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x93\xa3Run\x01", wire.encode(wire.Answer())[8:]])
def test_calls_that_are_none_are_refused(raw: bytes):
    with pytest.raises(ProtocolViolationError):
        wire.decode_call(raw)


def test_lengths_and_arrays_are_bounded():
    with pytest.raises(ProtocolViolationError):
        wire.length_of((wire.MAX_MESSAGE + 1).to_bytes(8, "big"))
    with pytest.raises(ProtocolViolationError):
        wire.rows_of(b"12345678", 3)
