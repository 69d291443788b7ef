"""Halves that are killed, in real processes, with a meter on the wire between them.

What must hold, whenever the kill comes: the outer ledger counts at least what the meter saw, the
inner one too; whoever was being answered hears of it; and starting the killed half again is enough.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import tiny_pair
from openai import OpenAI
from serving_halves import PATIENCE, Halves, ask, free_port, until


@contextmanager
def halves(folder: Path) -> Iterator[Halves]:
    strong = tiny_pair.write_llama(folder / "strong", seed=1)
    weak = tiny_pair.write_ngram(folder / "weak", strong)
    settings = tiny_pair.settings(folder, strong, weak, outer={"port": free_port()})
    world = Halves(folder, settings)
    try:
        yield world
    finally:
        world.stop()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Halves]:
    pytest.importorskip("transformers", reason="needs tidegate[torch]")
    with halves(tmp_path_factory.mktemp("halves")) as started:
        started.start("inner")
        started.start("outer")
        until(started.answered)
        yield started
        # Settled by an orderly end: nothing is held, and everything that crossed is counted.
        started.stop()
        for half in ("outer", "inner"):
            assert started.sound(half)
            assert started.counted(half) >= 8 * started.meter.upward
            assert "Traceback" not in started.log(half)


def cut_off(client: OpenAI, after: int, end: Any) -> str:
    """Read `after` chunks of two streams, do `end`, and read on; what the first one ended with."""
    streams = [ask(client, stream=True) for _ in range(2)]
    for _ in range(after):
        for stream in streams:
            next(stream)
    end()
    with pytest.raises(openai.OpenAIError) as caught:
        list(streams[0])
    return str(caught.value)


@pytest.mark.parametrize("after", [1, 9])
def test_a_killed_inner_half_is_told_to_clients_charged_in_full_and_replaced(
    world: Halves, after: int
):
    outer = world.processes["outer"].pid
    told = cut_off(world.client(), after, lambda: world.kill("inner"))
    assert "link" in told
    until(lambda: world.counted("outer") >= 8 * world.meter.upward)
    assert world.counted("inner") >= 8 * world.meter.upward
    with pytest.raises(openai.APIStatusError) as caught:
        ask(world.client(), max_tokens=2)
    assert caught.value.status_code == 503
    world.start("inner")
    until(world.answered)
    assert world.processes["outer"].pid == outer
    assert world.processes["outer"].poll() is None
    assert world.counted("inner") >= 8 * world.meter.upward


@pytest.mark.parametrize("after", [1, 3, 7, 14])
def test_a_killed_outer_half_has_counted_what_crossed_and_goes_on(world: Halves, after: int):
    inner = world.processes["inner"].pid
    streams = [ask(world.client(), stream=True) for _ in range(2)]
    for _ in range(after):
        for stream in streams:
            next(stream)
    world.kill("outer")
    with pytest.raises(openai.OpenAIError):
        list(streams[0])
    seen = world.meter.upward
    counted = world.counted("outer")
    assert counted >= 8 * seen
    assert world.sound("outer")
    world.start("outer")
    until(world.answered)
    # What was held when it died was charged, not forgotten.
    assert world.counted("outer") >= counted
    assert world.processes["inner"].pid == inner


def refusal(world: Halves) -> str | None:
    """Ask for much, and say why it was refused, if it was."""
    try:
        ask(world.client(), n=8, max_tokens=600)
    except openai.APIStatusError as error:
        return error.code
    return None


def test_a_full_disk_refuses_what_is_not_held_yet_and_is_survived(world: Halves):
    pid = world.processes["outer"].pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    # Every write to a file fails from here on, as on a full disk; the log goes to one, too.
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        assert "ledger_unavailable" in [refusal(world) for _ in range(6)]
        # What breaks now cannot be written down either.
        world.kill("inner")
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    world.start("inner")
    until(world.answered)
    assert world.processes["outer"].poll() is None
    assert world.counted("outer") >= 8 * world.meter.upward


def test_a_second_outer_half_on_the_same_ledger_is_refused(world: Halves):
    before = world.counted("outer")
    command = [sys.executable, "-m", "tidegate", "serve", "outer"]
    second = subprocess.run(
        [*command, "--settings", str(world.folder / "outer.toml")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert second.returncode == 2
    assert "another half is running" in second.stderr
    assert world.counted("outer") == before
    assert world.answered()


def test_halves_with_different_weak_models_do_not_work_together(world: Halves, tmp_path: Path):
    with_counts = ask(world.client(), temperature=0, max_tokens=100)
    other = tiny_pair.write_llama(tmp_path / "other", seed=1, blur=0.3)
    lines = len(world.log("inner").splitlines())
    world.restart("outer", weak=other)
    until(lambda: '"what": "weak"' in world.log("inner"))
    told = [json.loads(line) for line in world.log("inner").splitlines()[lines:]]
    assert "The two halves differ." in {line.get("reason") for line in told}
    assert not world.answered()

    # With the same float model on both sides the answer is the one the n-gram had led to.
    world.restart("inner", weak=other)
    until(world.answered)
    with_floats = ask(world.client(), temperature=0, max_tokens=100)
    assert with_floats.choices == with_counts.choices
    assert with_floats.usage.completion_tokens == 100
