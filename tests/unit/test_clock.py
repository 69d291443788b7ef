from __future__ import annotations

import asyncio

from tidegate.clock import ManualClock, SystemClock
from tidegate.units import Seconds, bits_of


async def test_a_manual_clock_moves_only_when_told():
    clock = ManualClock(now=1000.0)
    assert (clock.now(), clock.monotonic()) == (1000.0, 0.0)
    clock.advance(2.5)
    await clock.sleep(Seconds(1.5))
    assert (clock.now(), clock.monotonic()) == (1004.0, 4.0)


def test_a_jump_of_the_wall_clock_leaves_the_monotonic_one_alone():
    clock = ManualClock(now=1000.0)
    for offset in (3600.0, -7200.0):
        clock.jump(offset)
    clock.advance(-5.0)
    assert clock.now() == 1000.0 - 3600.0 - 5.0
    assert clock.monotonic() == 0.0


async def test_a_sleeping_manual_clock_lets_others_run():
    clock, ran = ManualClock(), asyncio.Event()
    asyncio.get_running_loop().call_soon(ran.set)
    await clock.sleep(Seconds(1e9))
    assert ran.is_set()


async def test_the_hosts_monotonic_clock_never_goes_back():
    clock = SystemClock()
    first = clock.monotonic()
    await clock.sleep(Seconds(-1.0))
    assert clock.monotonic() >= first
    assert clock.now() > 1_700_000_000


def test_a_byte_has_eight_bits():
    assert bits_of(3) == 24
