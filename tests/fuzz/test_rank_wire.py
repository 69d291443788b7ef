"""Invariant: whatever a leader sends, a rank answers or refuses; it never breaks."""

from __future__ import annotations

import contextlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from proof_world import SHAPE
from rank_world import ROOT, SECRET, stage

from tidegate.errors import ProtocolViolationError
from tidegate.models.exact import rank_wire as wire
from tidegate.models.exact.rank_server import RankServer
from tidegate.models.exact.seeded import tensors_of

TENSORS = tensors_of(SHAPE, "fuzz")
ids = st.integers(0, 3)
tokens = st.lists(st.integers(0, 2**31 - 1), max_size=5).map(tuple)
parts = st.lists(st.tuples(ids, tokens), max_size=3).map(tuple)


@st.composite
def runs(draw: st.DrawFn) -> wire.Run:
    asked = draw(parts)
    rows = sum(len(some) for _, some in asked)
    fitting = np.full((rows, SHAPE.width), draw(st.floats(width=32)), np.float32).tobytes()
    hidden = draw(st.one_of(st.just(fitting), st.binary(max_size=40)))
    last = draw(st.lists(st.integers(0, 2**31 - 1), max_size=3).map(tuple))
    return wire.Run(asked, last, hidden)


calls = st.one_of(
    st.builds(wire.Start, parts),
    runs(),
    st.builds(wire.Cut, st.lists(st.tuples(ids, st.integers(0, 9)), max_size=3).map(tuple)),
    st.builds(wire.Fork, ids, ids),
    st.builds(wire.Drop, ids),
    st.builds(wire.Greet, st.integers(), st.binary(), st.text(), st.integers(), st.integers()),
)


@given(st.binary(max_size=64))
def test_bytes_are_a_call_or_refused(raw: bytes) -> None:
    with contextlib.suppress(ProtocolViolationError):
        wire.decode_call(raw)
    with contextlib.suppress(ProtocolViolationError):
        wire.decode_answer(raw)


@settings(deadline=None, max_examples=60)
@given(st.lists(calls, max_size=8))
def test_calls_in_any_order_are_answered_or_refused(asked: list[wire.Call]) -> None:
    server = RankServer(stage(SHAPE, TENSORS, 1, 2), SECRET, ROOT)
    with np.errstate(all="ignore"):
        for call in asked:
            sent = wire.decode_call(wire.encode(call)[wire.PREFIX :]) if in_range(call) else call
            with contextlib.suppress(ProtocolViolationError):
                assert isinstance(server._answer(sent), wire.Answer)


def in_range(call: wire.Call) -> bool:
    """What msgpack can carry: a greeting's numbers may be too large for it."""
    return not isinstance(call, wire.Greet)
