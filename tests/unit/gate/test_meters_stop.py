"""A gate whose heart beats only while its meters agree: what closes it, and how it opens again."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tidegate.bench import gate_rig
from tidegate.clock import SystemClock
from tidegate.gate import bpf_syscall, meter_links
from tidegate.gate.bpf_assembler import R0, assemble, leave, move
from tidegate.gate.controller import Gate
from tidegate.gate.heartbeat import hold
from tidegate.gate.latch import Diary
from tidegate.gate.meter_group import boot_id
from tidegate.gate.meter_hold import watching
from tidegate.gate.meter_watch import Watch
from tidegate.gate.policy import Meters, Policy
from tidegate.gate.state import Store
from tidegate.gate.worlds import GATE, INNER, MIRROR, OUTSIDE, OUTSIDE_V4, TAP, TAPPED, World
from tidegate.ledger import MemoryStore

pytestmark = pytest.mark.needs_root

_PATIENCE_S = 60.0


class Guarded:
    """A world's gate, held by a thread of this process."""

    def __init__(self, made: World, folder: Path) -> None:
        self.made, self._folder = made, folder
        tap = ("ip", "netns", "exec", made.name(TAP), sys.executable)
        tap += ("-m", "tidegate.gate.tap_program", TAPPED, "{address}")
        self._meters = Meters(tap=tap, every_ms=100)
        self.diary = Diary(MemoryStore(), SystemClock(), boot_id())
        self._changes: list[Policy] = []
        self._changing = threading.Event()

    def _policy(self, rate: int | None = None) -> Policy:
        plain = gate_rig.policy(self._folder, rate=rate)
        return plain.model_copy(update={"meters": self._meters})

    @contextmanager
    def held(self) -> Iterator[None]:
        clock, stop = SystemClock(), threading.Event()
        watches: list[Watch] = []
        chosen = self._policy()
        gate = Gate(
            chosen,
            Store(self._folder),
            clock,
            lambda: watches[0].permit() if watches else "it has no meters yet",
        )
        self.made.enter(GATE, lambda: gate.apply(begin=True))

        def changed() -> Policy | None:
            return self._changes.pop() if self._changes else None

        def run() -> None:
            with watching(chosen, self._meters, self.diary, clock, boot_id()) as watch:
                watches.append(watch)
                hold(gate, clock, stop, changed=changed, changing=watch.changing)

        thread = threading.Thread(target=lambda: self.made.enter(GATE, run))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def change_rate(self, rate: int) -> None:
        self._changes.append(self._policy(rate))

    def crosses(self) -> bool:
        """Whether a datagram gets through at once."""

        def bound() -> socket.socket:
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.settimeout(0.2)
            server.bind((OUTSIDE_V4, gate_rig.DNS))
            return server

        def sent() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(bytes(400), (OUTSIDE_V4, gate_rig.DNS))

        with self.made.enter(OUTSIDE, bound) as server:
            self.made.enter(INNER, sent)
            try:
                return len(server.recv(1000)) == 400
            except TimeoutError:
                return False

    def until(self, *, crosses: bool) -> bool:
        clock = SystemClock()
        end = clock.monotonic() + _PATIENCE_S
        while clock.monotonic() < end:
            if self.crosses() == crosses:
                return True
        return False

    def written(self, kind: str) -> list[str]:
        return [entry.text for entry in self.diary.entries() if entry.kind == kind]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    """A gate that is open."""
    with gate_rig.closed_world(offload=True) as made:
        gate = Guarded(made, tmp_path)
        with gate.held():
            assert gate.until(crosses=True)
            yield gate


def _swallow_what_the_tap_should_see(made: World) -> None:
    program = bpf_syscall.load_classifier(assemble([move(R0, 2), leave()]), "swallow")

    def install() -> None:
        with meter_links.opened() as links:
            index = links.link(MIRROR).index
            links.attach(MIRROR, index, meter_links.EGRESS, program, "swallow")

    made.enter(OUTSIDE, install)


def _see_again(made: World) -> None:
    made.run(OUTSIDE, ["tc", "filter", "del", "dev", MIRROR, "egress"])


def test_a_lying_meter_closes_the_gate_until_an_operator_opens_it(guarded: Guarded) -> None:
    _swallow_what_the_tap_should_see(guarded.made)
    guarded.crosses()
    assert guarded.until(crosses=False)
    assert guarded.written("disagreed") == ["tap"]
    assert "tap is wrong" in (guarded.diary.latched() or "")
    _see_again(guarded.made)
    assert not guarded.crosses()
    guarded.diary.reset("Ada", "a cable was loose")
    assert guarded.until(crosses=True)


def test_a_tap_that_dies_closes_the_gate(guarded: Guarded) -> None:
    name = guarded.made.name(TAP)
    (tap,) = guarded.made.run(GATE, ["ip", "netns", "pids", name]).stdout.split()
    guarded.made.run(GATE, ["kill", "-9", tap])
    assert guarded.until(crosses=False)
    assert "tap is gone" in guarded.written("closed")[-1]


def test_a_change_of_rates_puts_new_meters_in_place_of_the_old(guarded: Guarded) -> None:
    guarded.change_rate(1_000_000)
    clock = SystemClock()
    end = clock.monotonic() + _PATIENCE_S
    while len(guarded.written("begun")) < 2 and clock.monotonic() < end:
        guarded.crosses()
    assert guarded.until(crosses=True)
    assert guarded.diary.latched() is None


def test_a_lie_just_before_a_change_is_not_forgiven_for_it(guarded: Guarded) -> None:
    _swallow_what_the_tap_should_see(guarded.made)
    guarded.change_rate(1_000_000)
    guarded.crosses()
    assert guarded.until(crosses=False)
    _see_again(guarded.made)
    assert not guarded.crosses()
    assert "tap is wrong" in (guarded.diary.latched() or "")
