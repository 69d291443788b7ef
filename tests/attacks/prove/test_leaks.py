"""What a leaked trace and a leaked key cost: each attack is carried out, not just described."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lattice
import numpy as np
import pytest
from numpy.typing import NDArray
from proof_liars import recommitted
from proof_world import Bundle, World, ask, read_bytes

from tidegate.models.exact.ops import Rows
from tidegate.models.exact.ops_numpy import NumpyOps
from tidegate.models.exact.parameters import parameters_of
from tidegate.models.exact.shape import HEAD
from tidegate.prove import embedding, keys
from tidegate.prove.check import CheckedLinear
from tidegate.prove.freivalds import range_limit
from tidegate.prove.passes import Passes
from tidegate.prove.statement import Statement
from tidegate.prove.trace import Layout, split
from tidegate.prove.verdict import Fail, Pass, Place


class _Watching:
    """`ops.Linear` of somebody who holds a trace: notes inputs beside outputs."""

    def __init__(self, linear: CheckedLinear, layer: int, op: str) -> None:
        self.linear, self.place = linear, (layer, op)
        self.inputs: list[NDArray[Any]] = []
        self.outputs: list[NDArray[Any]] = []

    def begin(self, rows: Rows) -> None:
        self.linear.begin(rows)

    def multiply(self, layer: int, op: str, q_NK: NDArray[np.int8]) -> NDArray[np.int32]:
        acc_NO = self.linear.multiply(layer, op, q_NK)
        if (layer, op) == self.place:
            self.inputs.append(q_NK.copy())
            self.outputs.append(acc_NO.copy())
        return acc_NO


@pytest.mark.parametrize("op", ["qkv", "o", "gate_up", "down"])
def test_as_many_leaked_tokens_as_a_matrix_has_inputs_give_the_matrix_away(
    world: World, op: str
) -> None:
    shape = world.converted.shape
    statement, bundle = world.prove(ask(prompt=80, tokens=2))
    layout = Layout(shape, 80, 2)
    fed = [*statement.request.prompt_ids, *statement.tokens[:-1]]
    key = world.key
    rows = embedding.check(
        read_bytes(bundle.embedding),
        fed,
        shape,
        key.parameters["embed.scale"],
        key.embedding_root,
        2,
    )
    checked = CheckedLinear(key)
    watching = _Watching(checked, 1, op)
    passes = Passes(
        parameters_of(shape, key.parameters, rows), watching, NumpyOps, layout.positions
    )
    read = read_bytes(bundle.rows)
    for index, block in enumerate(layout.blocks()):
        raw = read(layout.offset(index), layout.block_bytes(block))
        checked.load(block, split(raw, layout, block))
        passes.run(fed[block.start : block.start + block.count], block.start, block.rows(HEAD))
    inputs_NK = np.concatenate(watching.inputs).astype(np.float64)
    outputs_NO = np.concatenate(watching.outputs).astype(np.float64)
    solved_KO, *_ = np.linalg.lstsq(inputs_NK, outputs_NO)
    secret_OK = world.converted.tensors[f"layers.1.{op}.weight"]
    assert np.array_equal(np.rint(solved_KO.T), secret_OK)


def _forgery(r_CO: NDArray[np.uint64], outputs: list[int]) -> NDArray[np.int64]:
    """Small changes d of some outputs with r·d ≡ 0 mod 2**64 in every column: a short vector of
    the lattice they form (Lenstra, Lenstra & Lovász 1982)."""
    count, columns, modulus = len(outputs), r_CO.shape[0], 1 << 64
    heavy = 1 << 80
    rows = [
        [int(i == j) for j in range(count)] + [heavy * int(r_CO[c, o]) for c in range(columns)]
        for i, o in enumerate(outputs)
    ] + [
        [0] * count + [heavy * modulus * int(c == k) for k in range(columns)]
        for c in range(columns)
    ]
    short = lattice.reduced(rows)
    return np.array(next(row[:count] for row in short if any(row) and not any(row[count:])))


def test_a_leaked_key_forges_an_answer_and_rotation_ends_that(world: World) -> None:
    request = ask(prompt=9, tokens=4, temperature=0.0)
    statement, bundle = world.prove(request)
    place = (11, world.converted.shape.layers, HEAD)
    wanted = (statement.tokens[-1] + 1) % 90
    outputs = sorted({wanted, *range(70, 85)} - {statement.tokens[-1]})
    change = _forgery(world.key.columns[place[1:]].r_CO, outputs)
    change *= np.sign(change[outputs.index(wanted)]) or 1
    limit = range_limit(world.converted.shape.width)

    def alter(rows: dict[tuple[int, int, str], NDArray[np.int32]]) -> None:
        row = rows[place]
        times = (limit - np.abs(row).max()) // np.abs(change).max()
        row[outputs] += (times * change).astype(np.int32)

    altered = recommitted(world, bundle, statement, alter)
    forged, answer = _retold(world, altered, statement)
    assert answer != statement
    assert isinstance(world.verify(forged, answer), Pass)
    leaked = keys.generate(world.converted)
    rotated = keys.decode(keys.rotate(leaked, world.converted))
    verdict = world.verify(forged, answer, rotated)
    assert isinstance(verdict, Fail)
    assert verdict.place == Place(part="product", token=11, layer=2, op=HEAD)


def _retold(world: World, bundle: Bundle, statement: Statement) -> tuple[Bundle, Statement]:
    """The altered logits' own best token in place of the last, signed again."""
    found = world.verify(bundle, statement)
    assert isinstance(found, Fail)
    assert found.place == Place(part="choice", token=12)
    for token in range(world.converted.shape.vocab_size):
        answer = replace(statement, tokens=(*statement.tokens[:-1], token))
        signed = recommitted(world, bundle, answer, lambda rows: None)
        if isinstance(world.verify(signed, answer), Pass):
            return signed, answer
    raise AssertionError("no token fits the forged logits")


def test_a_receipt_tells_nothing_of_a_prompt_without_the_seed(world: World) -> None:
    one, other = ask(prompt=5, tokens=1), replace(ask(prompt=5, tokens=1), seed=b"\x05" * 32)
    notes = [world.prove(request)[1].note.splitlines() for request in (one, other)]
    prompts = [next(line for line in note if line.startswith("prompt ")) for note in notes]
    assert prompts[0] != prompts[1]
