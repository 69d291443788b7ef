"""Whatever a prover changes in a committed trace, and however he commits to it, is located."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from proof_liars import recommitted
from proof_world import UNTIED, Bundle, World, ask, make_world

from tidegate.models.exact.shape import HEAD
from tidegate.prove.statement import Statement
from tidegate.prove.verdict import Fail, Pass, Place

PROMPT, ANSWER = 6, 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "model", UNTIED)


@pytest.fixture(scope="module")
def honest(world: World) -> tuple[Statement, Bundle]:
    return world.prove(ask(prompt=PROMPT, tokens=ANSWER))


places = st.one_of(
    st.tuples(
        st.integers(0, PROMPT + ANSWER - 2),
        st.integers(0, UNTIED.layers - 1),
        st.sampled_from(["qkv", "o", "gate_up", "down"]),
    ),
    st.tuples(st.integers(PROMPT - 1, PROMPT + ANSWER - 2), st.just(UNTIED.layers), st.just(HEAD)),
)


@settings(max_examples=60, deadline=None)
@given(place=places, data=st.data())
def test_any_change_of_a_row_is_located(
    world: World, honest: tuple[Statement, Bundle], place: tuple[int, int, str], data: st.DataObject
) -> None:
    statement, bundle = honest
    outputs = UNTIED.linear(place[2])[0]
    changes = data.draw(
        st.dictionaries(
            st.integers(0, outputs - 1),
            st.integers(-(2**31), 2**31 - 1).filter(bool),
            min_size=1,
            max_size=4,
        )
    )

    def alter(rows: dict[tuple[int, int, str], NDArray[np.int32]]) -> None:
        for output, change in changes.items():
            wrapped = (int(rows[place][output]) + change + 2**31) % 2**32 - 2**31
            rows[place][output] = wrapped

    verdict = world.verify(recommitted(world, bundle, statement, alter), statement)
    assert isinstance(verdict, Fail)
    assert verdict.place == Place(part="product", token=place[0], layer=place[1], op=place[2])


@settings(max_examples=25, deadline=None)
@given(prompt=st.integers(1, 40), tokens=st.integers(1, 40), warm=st.booleans())
def test_every_honest_proof_passes(world: World, prompt: int, tokens: int, warm: bool) -> None:
    statement, bundle = world.prove(ask(prompt, tokens, 1.0 if warm else 0.0))
    assert isinstance(world.verify(bundle, statement), Pass)
