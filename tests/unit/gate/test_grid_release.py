"""Cells on a real wire: as many with something to say as without."""

from __future__ import annotations

import socket
import threading

import pytest

from tidegate.errors import BudgetExceededError, GateError
from tidegate.gate import policy
from tidegate.gate.grid import read
from tidegate.gate.grid_release import Releaser
from tidegate.units import Bits

SLOTS = 60


def _grid(port: int, listen: int, size: int = 100) -> policy.Grid:
    return policy.Grid.model_validate(
        {"slot_us": 2_000, "size": size, "lanes": 2, "listen": listen, "to": "127.0.0.1"}
        | {"port": port}
    )


def _free_ports() -> int:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::", 0))
        return int(probe.getsockname()[1])


def _run(say: list[bytes]) -> tuple[list[bytes], list[bytes], int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", 0))
        far.settimeout(2)
        listen = _free_ports()
        charged: list[Bits] = []
        releaser = Releaser(_grid(far.getsockname()[1], listen), charged.append)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
            for message in say:
                near.sendto(message, ("127.0.0.1", listen + 1))
        releaser.run(threading.Event(), SLOTS)
        releaser.close()
        cells = [
            far.recv(2000) for _ in range(releaser.departures.slots - releaser.departures.missed)
        ]
        heard = [message for cell in cells if (message := read(cell, releaser.cells))]
        assert sum(charged) > 0, "no clock is without jitter"
        return cells, heard, releaser.departures.slots


def test_as_many_cells_leave_with_something_to_say_as_without() -> None:
    silent, nothing, slots = _run([])
    assert nothing == []
    assert slots >= SLOTS
    said = [b"one", b"two", b"three"]
    loud, heard, again = _run(said)
    assert heard == said
    assert again >= SLOTS
    assert {len(cell) for cell in (*silent, *loud)} == {100}


def test_a_budget_that_is_spent_stops_the_grid() -> None:
    def refuse(_: Bits) -> None:
        raise BudgetExceededError("spent")

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", 0))
        releaser = Releaser(_grid(far.getsockname()[1], _free_ports()), refuse)
        with pytest.raises(BudgetExceededError):
            releaser.run(threading.Event(), SLOTS)
        releaser.close()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken:
        taken.bind(("::", 0))
        port = taken.getsockname()[1]
        with pytest.raises(GateError, match=str(port)):
            Releaser(_grid(9, port), lambda _: None)
