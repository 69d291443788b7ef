"""T1: running it again is equality at positions the prover could not foresee."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proof_liars import Meddling, add
from proof_world import SIGNER, UNTIED, Bundle, World, ask, read_bytes, write_folder

from tidegate.models.exact.ops_numpy import NumpyLinear, NumpyOps
from tidegate.models.exact.parameters import parameters_of
from tidegate.models.exact.shape import HEAD
from tidegate.prove import keys
from tidegate.prove.replay import replay, selected
from tidegate.prove.statement import Statement
from tidegate.prove.verdict import CannotVerify, Fail, Pass, Place, Verdict

SECRET = b"the verifier's own secret"


def again(
    world: World,
    bundle: Bundle,
    statement: Statement,
    share: float = 1.0,
    hashes: bool = True,
) -> Verdict:
    shape, tensors = world.converted.shape, world.converted.tensors
    return replay(
        bundle.note,
        read_bytes(bundle.hashes) if hashes else None,
        statement,
        SIGNER.verifier,
        subject=keys.subject_of(world.converted),
        parameters=parameters_of(shape, tensors),
        linear=NumpyLinear(shape, tensors),
        ops_of=NumpyOps,
        eos_ids=frozenset(),
        detokenise=lambda ids: "",
        share=share,
        secret=SECRET,
    )


@pytest.mark.parametrize("hashes", [True, False])
def test_an_honest_answer_runs_again_to_the_same_bits(
    world: World, honest: tuple[Statement, Bundle], hashes: bool
) -> None:
    statement, bundle = honest
    verdict = again(world, bundle, statement, hashes=hashes)
    assert isinstance(verdict, Pass)
    assert verdict.error_log2 == -math.inf
    assert ("all their products" in verdict.coverage) == hashes


def test_a_part_that_is_looked_at_has_the_chance_to_miss_of_the_rest(
    world: World, honest: tuple[Statement, Bundle]
) -> None:
    statement, bundle = honest
    verdict = again(world, bundle, statement, share=0.25)
    assert isinstance(verdict, Pass)
    assert verdict.error_log2 == pytest.approx(math.log2(9 / 12))
    assert verdict.coverage.startswith("3 of 12")


def test_a_product_that_differs_is_located(world: World) -> None:
    liar = World(world.converted, world.key, lambda linear: Meddling(linear, 28, 1, "o", add(2, 1)))
    statement, bundle = liar.prove(ask(prompt=25, tokens=12))
    verdict = again(world, bundle, statement)
    assert isinstance(verdict, Fail)
    assert verdict.place == Place(part="product", token=28, layer=1, op="o")


def test_a_token_that_differs_is_located_without_hashes(world: World) -> None:
    liar = World(
        world.converted, world.key, lambda linear: Meddling(linear, 28, 2, HEAD, add(2, 500_000))
    )
    statement, bundle = liar.prove(ask(prompt=25, tokens=12))
    verdict = again(world, bundle, statement, hashes=False)
    assert isinstance(verdict, Fail)
    assert verdict.place == Place(part="choice", token=29)


def test_hashes_other_than_the_committed_ones_are_refused(
    world: World, honest: tuple[Statement, Bundle]
) -> None:
    statement, bundle = honest
    flipped = bytes([bundle.hashes[0] ^ 1]) + bundle.hashes[1:]
    for hashes in (flipped, bundle.hashes[:-1], bundle.hashes + b"\0"):
        verdict = again(world, replace(bundle, hashes=hashes), statement)
        assert isinstance(verdict, Fail)
        assert verdict.place.part == "trace"


def test_other_weights_cannot_verify(
    world: World, honest: tuple[Statement, Bundle], tmp_path: Path
) -> None:
    statement, bundle = honest
    other = World(write_folder(tmp_path / "model", UNTIED, seed="other"), world.key)
    assert isinstance(again(other, bundle, statement), CannotVerify)


@given(st.integers(1, 60), st.floats(0, 1))
def test_a_share_is_looked_at_and_never_nothing(count: int, share: float) -> None:
    chosen = selected(SECRET, "note", count, share)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == max(1, math.ceil(share * count))
    assert all(0 <= number < count for number in chosen)


def test_what_is_looked_at_depends_on_secret_and_commitment() -> None:
    chosen = {
        tuple(selected(secret, note, 1000, 0.01))
        for secret in (b"a" * 16, b"b" * 16)
        for note in ("one", "other")
    }
    assert len(chosen) == 4
