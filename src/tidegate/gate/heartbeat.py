"""Keeps a gate's heart beating until it is told to stop, and closes it in the end."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tidegate.clock import Clock
from tidegate.gate.controller import Beat, Gate
from tidegate.gate.policy import Policy


def hold(
    gate: Gate,
    clock: Clock,
    stop: threading.Event,
    *,
    changed: Callable[[], Policy | None] = lambda: None,
    told: Callable[[Beat], None] = lambda _: None,
) -> None:
    """Beat until `stop` is set, then settle: the gate is closed when this returns or raises.

    `changed` gives a policy to change to, once; `told` hears of each change between open and
    closed. Raises GateError where the gate cannot be kept.
    """
    last = None
    try:
        while not stop.is_set():
            begun = clock.monotonic()
            if policy := changed():
                gate.reload(policy)
            beaten = gate.beat()
            if beaten != last:
                told(beaten)
                last = beaten
            stop.wait(max(0.0, gate.policy.heartbeat_ms / 1000 - (clock.monotonic() - begun)))
    finally:
        gate.settle()
