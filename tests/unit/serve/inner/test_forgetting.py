"""A strong model that lost its sequences: no session goes on as if they were there."""

from __future__ import annotations

import pytest
from link_world import World

from tidegate.errors import ProtocolViolationError
from tidegate.serve.lockstep import CODER
from tidegate.wire.messages import PROTOCOL_VERSION, Hello, Resume, Step


def test_what_was_forgotten_is_not_resumed():
    world = World(exact=False)
    hello = Hello(
        version=PROTOCOL_VERSION,
        link=bytes(16),
        secret=b"not asked here, but long enough",
        tokenizer=world.tokenizer.fingerprint,
        weak=world.weak_inner.fingerprint,
        coder=CODER,
        eos=(0,),
        echo=True,
    )
    engine = world.inner
    engine.begin(hello)
    engine.step(Step(number=0, settled=0))
    engine.resume(hello, Resume(number=0, exact_steps=1))
    engine.forget()
    with pytest.raises(ProtocolViolationError, match="no such session"):
        engine.resume(hello, Resume(number=0, exact_steps=1))
    engine.begin(hello)
    engine.step(Step(number=0, settled=0))
    world.server.close()
