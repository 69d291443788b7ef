"""Keeps a gate's heart beating until it is told to stop, and closes it in the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress

from tidegate.clock import Clock
from tidegate.errors import GateError
from tidegate.gate.controller import Beat, Gate
from tidegate.gate.policy import Policy


def hold(
    gate: Gate,
    clock: Clock,
    stop: threading.Event,
    *,
    changed: Callable[[], Policy | None] = lambda: None,
    changing: Callable[[], AbstractContextManager[None]] = nullcontext,
    refused: Callable[[GateError], None] = lambda _: None,
    told: Callable[[Beat], None] = lambda _: None,
    beaten: Callable[[Beat], None] = lambda _: None,
) -> None:
    """Beat until `stop` is set, then settle: the gate is closed when this returns or raises.

    `changed` gives a policy to change to, once; `refused` hears why it could not be, and the one
    before stays. `changing` is open while the queue that meters hang on is made anew; where it
    raises a GateError, nothing is changed. `told` hears of each change between open and closed,
    `beaten` of each beat. Raises GateError where the gate cannot be kept.
    """
    _go_first()
    last = None
    try:
        while not stop.is_set():
            begun = clock.monotonic()
            if policy := changed():
                _change(gate, policy, refused, changing)
            beat = gate.beat()
            if beat != last:
                told(beat)
                last = beat
            beaten(beat)
            stop.wait(max(0.0, gate.policy.heartbeat_ms / 1000 - (clock.monotonic() - begun)))
    except BaseException:
        # Whatever it was, it may have let out what nobody counted: nothing granted is given back.
        gate.shut()
        raise
    gate.settle()


def _go_first() -> None:
    # A heart that waits its turn behind busy processes misses beats, and stops honest traffic.
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def _change(
    gate: Gate,
    policy: Policy,
    refused: Callable[[GateError], None],
    changing: Callable[[], AbstractContextManager[None]],
) -> None:
    with ExitStack() as meanwhile:
        try:
            gate.check(policy)
            if gate.reshapes(policy):
                gate.shut()
                meanwhile.enter_context(changing())
        except GateError as error:
            refused(error)
            return
        gate.reload(policy)
