"""What an owned inner half may try on the wire, and what the outer half makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from link_world import QUICK, Answer, World, job, same

from tidegate.serve.jobs import Failed
from tidegate.serve.outer.link_settings import LinkSettings
from tidegate.units import Seconds

Tamper = Callable[[int, bytes], bytes | None]


async def _attacked(tamper: Tamper, settings: LinkSettings | None = None) -> tuple[str, World]:
    """The error code that streams got; the link must have recovered and the incident be charged."""
    jobs = [job(number, max_tokens=60) for number in range(3)]
    async with World(settings=settings) as world:
        world.tamper = tamper
        answers = await asyncio.gather(*(world.answer(one) for one in jobs))
        codes = {answer.end.code for answer in answers if isinstance(answer.end, Failed)}
        assert codes, "the attack had no effect"
        for one, answer in zip(jobs, answers, strict=True):
            _require_true_so_far(answer, world.expected(one))
        assert world.engine.totals.incidents >= 1
        world.tamper = lambda _, data: data
        after = job(9, max_tokens=10)
        assert same(await world.answer(after), world.expected(after))
    assert world.purse.held == {}
    assert sum(world.purse.spent.values()) >= 8 * sum(map(len, world.frames))
    (code,) = codes
    return code, world


def _require_true_so_far(answer: Answer, expected: Answer) -> None:
    """An attacker inside may choose tokens, since he decodes as he encodes; he may not hang."""
    assert answer.end is not None
    assert len(answer.tokens) <= len(expected.tokens)


async def test_random_bytes_end_the_streams_with_an_error() -> None:
    code, _ = await _attacked(lambda n, data: b"\xa7" * len(data) if n >= 4 else data)
    assert code == "non_canonical"


async def test_a_flipped_bit_ends_the_streams_with_an_error() -> None:
    def flip(number: int, data: bytes) -> bytes:
        return bytes([data[0] ^ 0x10]) + data[1:] if number == 5 else data

    code, _ = await _attacked(flip)
    assert code == "non_canonical"


async def test_a_replayed_frame_is_refused() -> None:
    seen: list[bytes] = []

    def replay(number: int, data: bytes) -> bytes:
        seen.append(data)
        same_size = [old for old in seen[:-1] if len(old) == len(data) and old != data]
        return same_size[0] if number >= 5 and same_size else data

    code, _ = await _attacked(replay)
    assert code == "non_canonical"


async def test_reordered_frames_are_refused() -> None:
    held: list[bytes] = []

    def swap(number: int, data: bytes) -> bytes:
        if number < 4 or len(held) > 1:
            return data
        held.append(data)
        return b"" if len(held) == 1 else data + held[0]

    code, _ = await _attacked(swap)
    assert code == "non_canonical"


async def test_a_truncated_frame_and_a_close_cost_the_price_of_a_close() -> None:
    class Truncate:
        cut = False

        def __call__(self, number: int, data: bytes) -> bytes | None:
            if number == 5:
                self.cut = True
                return data[:-1] or None
            return None if self.cut and number == 6 else data

    code, world = await _attacked(Truncate())
    # If nothing more is pulled before the missing byte is overdue, that ends it.
    assert code in {"link_closed", "non_canonical", "late_frame"}
    assert world.engine.totals.incidents >= 1


async def test_more_bytes_than_were_asked_for_are_refused() -> None:
    code, _ = await _attacked(lambda n, data: data + bytes(600) if n == 5 else data)
    assert code == "protocol_violation"


async def test_bytes_hidden_in_the_padding_are_refused() -> None:
    def hide(number: int, data: bytes) -> bytes:
        # A padded frame ends in zeros; the slack would be a free channel.
        return data[:-1] + b"\x01" if any(data) and data[-2:] == b"\x00\x00" else data

    padded = LinkSettings(policy=QUICK, pace=Seconds(0.0005), pace_bytes=16)
    code, _ = await _attacked(hide, padded)
    assert code == "non_canonical"


async def test_a_frame_that_comes_too_late_ends_the_session() -> None:
    hurried = LinkSettings(policy=QUICK, late_after=Seconds(0.2))
    code, _ = await _attacked(lambda n, data: b"" if n >= 3 else data, hurried)
    assert code == "late_frame"


async def test_a_frame_nobody_asked_for_ends_the_session() -> None:
    async with World() as world:
        assert same(await world.answer(job(1)), world.expected(job(1)))
        world.tamper = lambda _, data: data + b"\x00"
        answers = await asyncio.gather(*(world.answer(job(n, max_tokens=50)) for n in range(2)))
        assert any(isinstance(answer.end, Failed) for answer in answers)


@pytest.mark.parametrize("closes", [1, 3])
async def test_each_close_is_charged(closes: int) -> None:
    class Close:
        left = closes

        def __call__(self, number: int, data: bytes) -> bytes | None:
            if self.left and number % 3 == 2:
                self.left -= 1
                return None
            return data

    async with World() as world:
        world.tamper = Close()
        for _ in range(closes):
            end = (await world.answer(job(1, max_tokens=60))).end
            assert isinstance(end, Failed)
            assert end.code == "link_closed"
        assert sum(world.purse.spent.values()) >= 64 * closes


async def test_an_inner_half_cannot_overdraw_the_outer_budget() -> None:
    class Endless:
        """Never lets a token be decoded: every frame is a dummy."""

        def __call__(self, number: int, data: bytes) -> bytes:
            return bytes(len(data))

    async with World(cap=4000) as world:
        world.tamper = Endless()
        answer = await world.answer(job(1, max_tokens=20))
        assert answer.end is not None
        assert sum(world.purse.spent.values()) <= 4000 + 64
