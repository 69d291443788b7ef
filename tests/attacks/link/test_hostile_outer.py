"""What a hostile outer half may send, and that the inner half only ever closes."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from link_world import EOS, SECRET, World

from tidegate.sampling.params import SamplingParams
from tidegate.serve.lockstep import CODER
from tidegate.wire.messages import (
    MAX_MESSAGE,
    PREFIX,
    PROTOCOL_VERSION,
    Bye,
    Echo,
    Hello,
    Join,
    Message,
    Params,
    Pull,
    Resume,
    Step,
)


def hello(world: World, **changes: object) -> Hello:
    fields: dict[str, object] = {
        "version": PROTOCOL_VERSION,
        "link": bytes(16),
        "secret": SECRET,
        "tokenizer": world.tokenizer.fingerprint,
        "weak": world.weak_inner.fingerprint,
        "coder": CODER,
        "eos": (EOS,),
        "echo": False,
    }
    return Hello(**(fields | changes))  # type: ignore[arg-type]


def join(slot: int = 0, **changes: object) -> Join:
    fields: dict[str, object] = {
        "slot": slot,
        "prompt": (1, 2, 3),
        "seed": bytes(32),
        "params": Params.of(SamplingParams()),
        "max_tokens": 100,
        "stop": (),
        "ignore_eos": True,
        "candidates": 1,
        "owner": bytes(16),
        "reasoning": None,
        "recall": None,
    }
    return Join(**(fields | changes))  # type: ignore[arg-type]


def raw(message: Message) -> bytes:
    """`message` without the sender's own checks."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(PREFIX, "big") + body


async def reply(world: World, *messages: Message | bytes) -> bytes:
    """All that comes back until the inner half closes."""
    reader, writer = await world.connect()
    for message in messages:
        writer.write(message if isinstance(message, bytes) else raw(message))
    try:
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def exchange(world: World, expected: int, *messages: Message) -> bytes:
    """Exactly `expected` bytes; then the connection is dropped."""
    reader, writer = await world.connect()
    writer.write(b"".join(map(raw, messages)))
    try:
        return await asyncio.wait_for(reader.readexactly(expected), 10)
    finally:
        writer.close()


async def close_of(world: World) -> None:
    world.server.close()


async def test_an_honest_session_is_answered_with_exactly_what_was_pulled() -> None:
    world = World()
    step = Step(number=0, settled=0, joins=(join(),))
    answered = await reply(world, hello(world), step, Pull(5), Pull(2), Bye())
    assert len(answered) == 7
    await close_of(world)


@pytest.mark.parametrize(
    "changes",
    [
        {"secret": b"some other secret of the same"},
        {"version": 2},
        {"tokenizer": "another"},
        {"weak": "another"},
        {"coder": "another"},
    ],
)
async def test_a_stranger_gets_nothing(changes: dict[str, object]) -> None:
    world = World()
    step = Step(number=0, settled=0, joins=(join(),))
    assert await reply(world, hello(world, **changes), step, Pull(100)) == b""
    assert world.strong.calls == 0
    await close_of(world)


async def test_without_an_exact_weak_model_echoes_are_demanded() -> None:
    world = World(exact=False)
    assert await reply(world, hello(world), Step(number=0, settled=0), Pull(1)) == b""
    await close_of(world)


async def test_a_false_echo_closes_before_the_next_pull_is_answered() -> None:
    world = World(exact=False)
    step = Step(number=0, settled=0, joins=(join(),))
    sent = (hello(world, echo=True), step, Pull(4), Echo(0, bytes(16)), Pull(4))
    assert len(await reply(world, *sent)) == 4
    await close_of(world)


BAD_STEPS = {
    "a skipped step": Step(number=1, settled=0),
    "a slot out of range": Step(number=0, settled=0, joins=(join(100),)),
    "a token outside the vocabulary": Step(number=0, settled=0, joins=(join(prompt=(4000,)),)),
    "no prompt": Step(number=0, settled=0, joins=(join(prompt=()),)),
    "no tokens": Step(number=0, settled=0, joins=(join(max_tokens=0),)),
    "a short seed": Step(number=0, settled=0, joins=(join(seed=b"short"),)),
    "too many candidates": Step(number=0, settled=0, joins=(join(candidates=65),)),
    "a bias outside": Step(
        number=0,
        settled=0,
        joins=(join(params=Params.of(SamplingParams(logit_bias=((4000, 1.0),)))),),
    ),
}


@pytest.mark.parametrize("name", BAD_STEPS)
async def test_a_bad_step_closes_the_link(name: str) -> None:
    world = World()
    assert await reply(world, hello(world), BAD_STEPS[name], Pull(8)) == b""
    await close_of(world)


async def test_a_join_into_a_taken_slot_closes_the_link() -> None:
    world = World()
    first = Step(number=0, settled=0, joins=(join(),))
    second = Step(number=1, settled=0, joins=(join(),))
    assert len(await reply(world, hello(world), first, Pull(4), second, Pull(4))) == 4
    await close_of(world)


async def test_resuming_a_session_that_never_was_is_refused() -> None:
    world = World(exact=False)
    assert await reply(world, hello(world, echo=True), Resume(0, 1), Pull(8)) == b""
    await close_of(world)


async def test_a_resumed_step_that_differs_from_the_first_is_refused() -> None:
    world = World(exact=False)
    greeting = hello(world, echo=True)
    first = Step(number=0, settled=0, joins=(join(),))
    await exchange(world, 4, greeting, first, Pull(4))
    other = Step(number=0, settled=0, joins=(join(seed=bytes(31) + b"x"),))
    assert await reply(world, greeting, Resume(0, 1), other, Pull(4)) == b""
    await close_of(world)


async def test_a_resumed_session_says_the_same_again() -> None:
    world = World(exact=False)
    greeting = hello(world, echo=True)
    first = Step(number=0, settled=0, joins=(join(),))
    await exchange(world, 8, greeting, first, Pull(8))
    calls = world.strong.calls
    answers = [await exchange(world, 8, greeting, Resume(0, 1), first, Pull(8)) for _ in range(2)]
    assert answers[0] == answers[1]
    assert world.strong.calls == calls, "nothing is generated twice"
    await close_of(world)


async def test_a_huge_message_is_refused_by_its_prefix() -> None:
    world = World()
    prefix = (MAX_MESSAGE + 1).to_bytes(PREFIX, "big")
    assert await reply(world, hello(world), prefix + b"\x00" * 1000) == b""
    await close_of(world)


async def test_a_huge_prompt_fails_its_own_stream_only() -> None:
    world = World()
    step = Step(number=0, settled=0, joins=(join(0), join(1, prompt=(1,) * 100_000)))
    assert len(await reply(world, hello(world), step, Pull(16), Bye())) == 16
    await close_of(world)


async def test_the_inner_half_never_sends_beyond_its_own_cap() -> None:
    world = World(allowance=100)
    step = Step(number=0, settled=0, joins=(join(),))
    assert len(await reply(world, hello(world), step, Pull(12), Pull(1), Pull(1))) == 12
    assert world.allowance.spent <= 100
    await close_of(world)


async def test_a_silent_outer_half_does_not_hold_the_link() -> None:
    """One is served at a time, and the newest that knows the secret is the one."""
    world = World()
    reader, writer = await world.connect()
    writer.write(raw(hello(world)) + raw(Step(number=0, settled=0)) + raw(Pull(1)))
    assert len(await reader.readexactly(1)) == 1
    again = (hello(world), Step(number=0, settled=0), Pull(1), Bye())
    assert len(await reply(world, *again)) == 1
    assert await reader.read() == b""
    writer.close()
    await close_of(world)


async def test_a_stranger_does_not_replace_the_outer_half() -> None:
    world = World()
    reader, writer = await world.connect()
    writer.write(raw(hello(world)) + raw(Step(number=0, settled=0)) + raw(Pull(1)))
    assert len(await reader.readexactly(1)) == 1
    stranger = msgspec.structs.replace(hello(world), secret=b"x" * 32)
    assert await reply(world, stranger, Step(number=0, settled=0), Pull(1)) == b""
    writer.write(raw(Step(number=1, settled=0)) + raw(Pull(1)))
    assert len(await reader.readexactly(1)) == 1
    writer.close()
    await close_of(world)
