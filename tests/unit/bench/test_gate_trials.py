"""The trial that kills controllers: what it must not take for a gate that stays closed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.bench import gate_hold
from tidegate.bench.gate_rig import DNS, closed_world, controller, crossed, flood, policy
from tidegate.bench.gate_trials import until_more
from tidegate.errors import GateError
from tidegate.gate.worlds import World


@pytest.fixture
def closed() -> Iterator[World]:
    with closed_world(offload=False) as made:
        yield made


def test_a_controller_starts_without_the_command_line_that_starts_it() -> None:
    # A copy of the bench took 1.6 s of processor time to load before the gate had its turn.
    shown = f"import sys, {gate_hold.__name__}; print(*sys.modules)"
    argv = [sys.executable, "-c", shown]
    loaded = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    assert gate_hold.__name__ in loaded
    assert not {"typer", "openai", "torch", "multiprocessing.forkserver"} & set(loaded)
    assert not [name for name in loaded if name.startswith("tidegate.cli")]


@pytest.mark.needs_root
def test_a_controller_is_running_before_anybody_waits_for_its_gate(
    closed: World, tmp_path: Path
) -> None:
    with controller(closed, policy(tmp_path), begin=True) as keeping, flood(closed, DNS):
        keeping.require()
        until_more(closed, crossed(closed)[1], keeping)
        keeping.kill()
        with pytest.raises(GateError, match="gave up"):
            keeping.require()


@pytest.mark.needs_root
def test_a_controller_that_gives_up_is_told_from_a_gate_that_stays_closed(
    closed: World, tmp_path: Path
) -> None:
    with (
        flood(closed, DNS),
        pytest.raises(GateError, match="holds no state"),
        controller(closed, policy(tmp_path), begin=False) as keeping,
    ):
        until_more(closed, crossed(closed)[1], keeping)
