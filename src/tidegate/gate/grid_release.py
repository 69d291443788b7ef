"""Lets cells out on the grid: reads what lanes say, and sends one cell a slot, by the clock."""

from __future__ import annotations

import ctypes
import math
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

from tidegate.errors import GateError
from tidegate.gate import policy
from tidegate.gate.grid import Cells, Departures, Waiting, offered, released, timing_bits
from tidegate.units import Bits

Charge = Callable[[Bits], None]
"""Charges bits that timing may carry, before they can. Raises BudgetExceededError."""

_AT_ONCE = 32
"""Datagrams read between two slots, so that reading cannot make a slot late."""
_CLOCK_MONOTONIC, _ABSOLUTE = 1, 1


class Releaser:
    """A grid at work. Everything that can be made before the first slot is made here.

    Raises GateError where a port cannot be had.
    """

    def __init__(self, grid: policy.Grid, charge: Charge) -> None:
        self.cells = Cells(grid.slot_us, grid.size, grid.lanes)
        self.departures = Departures()
        self.refused = 0
        """Messages that were too long, empty, or more than a lane may have waiting."""
        self._resolution_ns = grid.resolution_ns
        self._charge, self._charged = charge, 0
        self._waiting = Waiting.none(self.cells)
        with ExitStack() as opening:
            self._lanes = tuple(
                opening.enter_context(_listening(grid.listen + lane)) for lane in range(grid.lanes)
            )
            self._out = opening.enter_context(_sending(str(grid.to), grid.port))
            self._open = opening.pop_all()

    def run(self, stop: threading.Event, slots: int | None = None) -> None:
        """Send a cell each slot until `stop` is set, or for `slots` of them.

        Raises BudgetExceededError where the timing's bits cannot be charged, and GateError where
        the system does not sleep as it should.
        """
        _go_first()
        slot_ns = 1_000 * self.cells.slot_us
        number, begun = 0, time.monotonic_ns() + slot_ns
        while not stop.is_set() and (slots is None or number < slots):
            # Charged a second ahead, by what the slots so far allow for.
            if number % max(1, round(self.cells.slots_per_second)) == 0:
                self._settle(ahead=round(self.cells.slots_per_second))
            self._listen()
            self._waiting, cell = released(self._waiting, self.cells, number)
            due = begun + number * slot_ns
            _sleep_until(due)
            # What the kernel refuses, as a closed gate does, was a slot like any other.
            with suppress(OSError):
                self._out.send(cell)
            late = time.monotonic_ns() - due
            self.departures = self.departures.with_one(late)
            number += 1
            if behind := late // slot_ns:
                self.departures = self.departures.with_missed(behind)
                number += behind
        self._settle(ahead=0)

    def close(self) -> None:
        """Let the ports go."""
        self._open.close()

    def _settle(self, *, ahead: int) -> None:
        so_far = timing_bits(self.departures, self._resolution_ns)
        sent = max(1, self.departures.slots)
        bits = math.ceil(so_far + ahead * so_far / sent)
        if bits > self._charged:
            self._charge(Bits(bits - self._charged))
            self._charged = bits

    def _listen(self) -> None:
        for lane, ear in enumerate(self._lanes):
            for _ in range(_AT_ONCE):
                try:
                    message = ear.recv(self.cells.size)
                except BlockingIOError:
                    break
                after = offered(self._waiting, self.cells, lane, message)
                if after is None:
                    self.refused += 1
                else:
                    self._waiting = after


def _listening(port: int) -> socket.socket:
    ear = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    ear.setblocking(False)
    ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    try:
        ear.bind(("::", port))
    except OSError as error:
        ear.close()
        raise GateError(f"the grid cannot listen on port {port}: {error.strerror}") from error
    return ear


def _sending(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    mouth = socket.socket(family, socket.SOCK_DGRAM)
    try:
        mouth.connect((address, port))
    except OSError as error:
        mouth.close()
        raise GateError(f"the grid cannot reach {address}: {error.strerror}") from error
    return mouth


def _go_first() -> None:
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))


def _sleep_until(deadline_ns: int) -> None:
    when = struct.pack("qq", *divmod(deadline_ns, 10**9))
    status = _LIBC.clock_nanosleep(_CLOCK_MONOTONIC, _ABSOLUTE, when, None)
    if status not in (0, 4):
        raise GateError(f"clock_nanosleep: {os.strerror(status)}")


_LIBC = ctypes.CDLL(None)
