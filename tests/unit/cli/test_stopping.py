"""One word lets what has begun end; a second one, or time, does not wait for it."""

from __future__ import annotations

import asyncio

from tidegate.cli.stopping import Stopping


async def test_what_ends_in_time_is_waited_for():
    stop, done = Stopping(), asyncio.Event()
    stop.ask()
    assert stop.asked.is_set()
    assert not stop.at_once.is_set()
    waiting = asyncio.create_task(stop.patience(done.wait(), 10))
    await asyncio.sleep(0)
    done.set()
    assert await waiting


async def test_a_second_word_cuts_the_wait_short():
    stop = Stopping()
    stop.ask()
    waiting = asyncio.create_task(stop.patience(asyncio.Event().wait(), 1000))
    await asyncio.sleep(0)
    stop.ask()
    assert not await waiting


async def test_patience_ends():
    stop = Stopping()
    stop.ask()
    assert not await stop.patience(asyncio.Event().wait(), 0.01)


async def test_breaking_off_is_both_words():
    stop = Stopping()
    stop.break_off()
    assert not await stop.patience(asyncio.Event().wait(), 1000)
