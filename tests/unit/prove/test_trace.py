"""Where rows are in a trace, and that recorder and verifier agree on it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proof_world import SHAPE, UNTIED, Bundle, World, ask

from tidegate.errors import EngineError
from tidegate.models.exact.ops_numpy import NumpyLinear
from tidegate.models.exact.shape import HEAD
from tidegate.prove import trace
from tidegate.prove.produce import Prover
from tidegate.prove.recording import Buffers, Recording
from tidegate.prove.statement import Statement
from tidegate.prove.trace import BLOCK, Layout, split
from tidegate.prove.verdict import Pass


@given(st.integers(1, 3 * BLOCK), st.integers(1, 3 * BLOCK))
def test_every_row_has_one_place(prompt: int, answer: int) -> None:
    layout = Layout(SHAPE, prompt, answer)
    blocks = layout.blocks()
    positions = [p for block in blocks for p in block.rows("qkv")]
    heads = [p for block in blocks for p in block.rows(HEAD)]
    assert positions == list(range(prompt + answer - 1))
    assert heads == list(range(prompt - 1, prompt + answer - 1))
    assert layout.rows == 8 * len(positions) + len(heads)
    assert sum(map(layout.hashes, positions)) == layout.rows
    assert layout.hashes_offset(len(positions)) == 32 * layout.rows
    ends = [layout.offset(i) + layout.block_bytes(block) for i, block in enumerate(blocks)]
    assert ends[:-1] == [layout.offset(i) for i in range(1, len(blocks))]


@pytest.mark.parametrize("able", [True, False])
def test_row_hashes_are_sha256_with_and_without_the_processors_help(
    monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    monkeypatch.setattr(trace, "_ABLE", able and trace._ABLE)
    chance = np.random.default_rng(1)
    # 14 + 1 numbers are 60 bytes: with the padding one block more than without.
    for outputs in (1, 13, 14, 15, 16, 30, 960):
        for rows in (1, 2, 5):
            body = chance.integers(-(2**31), 2**31, (rows, outputs)).astype(np.int32)
            head = chance.integers(-(2**31), 2**31, (1, outputs + 1)).astype(np.int32)
            hashes = trace.block_hashes([body, head], trace.Block(0, rows, rows - 1))
            for place, row in enumerate(body):
                assert trace.hash_at(hashes[place], 0) == hashlib.sha256(row.tobytes()).digest()
            assert hashes[-1][32:] == hashlib.sha256(head.tobytes()).digest()
            assert all(len(one) == 32 for one in hashes[:-1])


def test_a_trace_is_as_long_as_its_layout_says(honest: tuple[Statement, Bundle]) -> None:
    statement, bundle = honest
    layout = Layout(UNTIED, 25, len(statement.tokens))
    assert len(bundle.rows) == layout.offset(len(layout.blocks()))
    assert len(bundle.hashes) == 32 * layout.rows


def test_the_trace_holds_the_engines_products(
    world: World, honest: tuple[Statement, Bundle]
) -> None:
    statement, bundle = honest
    layout = Layout(UNTIED, 25, len(statement.tokens))
    second = layout.blocks()[1]
    parts = split(bundle.rows[layout.offset(1) :], layout, second)
    # Token 33's first product depends on its embedding row alone.
    linear = NumpyLinear(UNTIED, world.converted.tensors)
    seen = []

    class Watching:
        def begin(self, rows: object) -> None: ...

        def multiply(self, layer: int, op: str, q_NK: np.ndarray) -> np.ndarray:
            acc_NO = linear.multiply(layer, op, q_NK)
            if (layer, op) == (0, "qkv"):
                seen.append(acc_NO.copy())
            return acc_NO

    model = replace(world, lie=lambda _: Watching()).model()
    model.forward([(0, [statement.tokens[33 - 25]])])
    assert np.array_equal(seen[0][0], parts[0][33 - second.start])


@pytest.mark.parametrize("prompts", [(3, 40, 33), (BLOCK, BLOCK + 1, 1)])
def test_sequences_that_run_together_have_the_traces_they_have_alone(
    world: World, prompts: tuple[int, ...]
) -> None:
    requests = [ask(prompt=count, tokens=5 + count % 3) for count in prompts]
    together: list[list[bytes]] = [[] for _ in requests]
    produced = Prover(world.model(), UNTIED).produce(
        requests,
        lambda ids: "",
        [lambda raw, _, rows=rows: rows.append(bytes(raw)) for rows in together],
    )
    for request, rows, one in zip(requests, together, produced, strict=True):
        statement, bundle = world.prove(request)
        assert one.statement == statement
        assert b"".join(rows) == bundle.rows
        assert isinstance(world.verify(bundle, statement), Pass)


def test_a_prompt_is_recorded_in_full_though_its_beginning_is_known(world: World) -> None:
    model = world.model()
    request = ask(prompt=90, tokens=2)
    model.forward([(7, request.prompt_ids)])
    rows: list[bytes] = []
    produced = Prover(model, UNTIED).produce(
        [request], lambda ids: "", [lambda raw, _: rows.append(bytes(raw))]
    )
    assert b"".join(rows) == world.prove(request)[1].rows
    assert produced[0].root is not None


def test_a_recording_with_a_gap_is_never_finished() -> None:
    recording = Recording(SHAPE, 3, lambda raw, hashes: None, Buffers())
    recording.block(0)
    with pytest.raises(EngineError, match="less"):
        recording.finish(BLOCK)
    with pytest.raises(EngineError, match="left out"):
        Recording(SHAPE, 3, lambda raw, hashes: None, Buffers()).settle(BLOCK)
