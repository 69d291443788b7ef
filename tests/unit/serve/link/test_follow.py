"""The decoding side, driven by hand: schedule events and frames in, symbols out."""

from __future__ import annotations

import msgspec
from link_world import SECRET, TableModel, TableTokenizer, job

from tidegate.clock import SystemClock
from tidegate.sampling.finish import Limits, Rules
from tidegate.serve.inner.engine import InnerEngine
from tidegate.serve.inner.reasoning import ReasoningStore
from tidegate.serve.lockstep import CODER
from tidegate.serve.outer.link_follow import Follower
from tidegate.serve.outer.link_stream import make_join
from tidegate.wire.connection import Frame
from tidegate.wire.messages import PROTOCOL_VERSION, Hello, Pull, Step

LANES = 32


def test_what_a_short_frame_holds_is_told_before_its_step_is_complete() -> None:
    words = TableTokenizer()
    hello = Hello(
        version=PROTOCOL_VERSION,
        link=bytes(16),
        secret=SECRET,
        tokenizer=words.fingerprint,
        weak=TableModel().fingerprint,
        coder=CODER,
        eos=tuple(words.eos_ids),
        echo=False,
    )
    inner = InnerEngine(TableModel(), TableModel(blur=4.0), words, ReasoningStore(SystemClock()))
    inner.begin(hello)
    rules = Rules(Limits(max_tokens=1), words.eos_ids, words.decode)
    outer = Follower(TableModel(blur=4.0), rules, slots=64, echo=False)
    joins = tuple(
        msgspec.structs.replace(
            make_join(job(3 * slot + 2), bytes([slot]) * 32, None, words.vocab_size), slot=slot
        )
        for slot in range(LANES)
    )
    step, short, rest = Step(0, 0, (), joins), Pull(6), Pull(64)
    inner.step(step)
    first = outer.work([step, short, Frame(inner.frame(short.size))])
    assert first.done is None
    assert first.step == 0
    assert 0 < len(first.said) < len(joins)
    second = outer.work([rest, Frame(inner.frame(rest.size))])
    assert second.done is not None
    assert [said.key.slot for said in (*first.said, *second.said)] == list(range(LANES))
