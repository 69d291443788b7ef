"""Real traffic through a real gate, watched: what is stopped, how soon, and what is left of it."""

from __future__ import annotations

import ipaddress
import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from tidegate.cli.main import app
from tidegate.clock import SystemClock
from tidegate.errors import GateError, LedgerError
from tidegate.gate import heartbeat, nft, worlds
from tidegate.gate.controller import Gate
from tidegate.gate.incident import Action, Incident, Response
from tidegate.gate.incident_bundle import Position, check
from tidegate.gate.incident_respond import Responder
from tidegate.gate.incident_stop import TABLE, KernelStop, Stop
from tidegate.gate.latch import Diary
from tidegate.gate.policy import parse
from tidegate.gate.state import Store
from tidegate.gate.watch import Capture, Watch
from tidegate.gate.watch_eyes import Eyes
from tidegate.gate.worlds import GATE, INNER, OUTSIDE, TAP, World
from tidegate.ledger import MemoryStore
from tidegate.scan.stream import Settings
from tidegate.transparency.note import Signer

pytestmark = pytest.mark.needs_root

_SIGNER = Signer("watch", Ed25519PrivateKey.generate())
_INSIDE = (ipaddress.ip_network("10.81.1.0/24"),)
_POLICY = """
lifetime = 500_000_000
[interfaces]
inside = "inside"
outside = "out"
[classes.arp]
protocol = "arp"
quota = 100_000
[classes.api]
protocol = "tcp"
quota = 400_000_000
"""


def _weights(count: int) -> bytes:
    drawn = np.random.default_rng(11).standard_normal(count // 4) * 0.02
    return drawn.astype(np.float32).tobytes()


@contextmanager
def _gate(made: World, folder: Path, diary: Diary) -> Iterator[None]:
    """The policy in force, its heart beating until the diary says that it is latched."""
    clock, stop = SystemClock(), threading.Event()
    gate = Gate(parse(_POLICY), Store(folder), clock, diary.latched)
    made.enter(GATE, lambda: gate.apply(begin=True))
    opened = threading.Event()
    beating = threading.Thread(
        target=made.enter,
        args=(GATE, lambda: heartbeat.hold(gate, clock, stop, told=lambda _: opened.set())),
    )
    beating.start()
    try:
        assert opened.wait(10)
        yield
    finally:
        stop.set()
        beating.join()


@contextmanager
def _watching(
    made: World, role: str, interface: str, folder: Path, stop: Stop | None, response: Response
) -> Iterator[list[Incident]]:
    """A watch on an interface; what it tells of."""
    clock, told, ended = SystemClock(), [], threading.Event()
    capture = made.enter(role, lambda: Capture(interface, outgoing=role == GATE))
    responder = Responder(
        response=response,
        stop=stop,
        folder=folder,
        signer=_SIGNER,
        clock=clock,
        version="1.2.3",
        log=lambda _: Position("diary", 1, "00"),
    )
    watch = Watch(capture, Eyes(Settings(block=1 << 14), _INSIDE), responder, clock)
    running = threading.Thread(
        target=made.enter, args=(role, lambda: watch.run(ended.is_set, told.append))
    )
    with watch:
        running.start()
        try:
            yield told
        finally:
            ended.set()
            running.join()


class _Sink:
    """Takes what is sent to it, until `close`."""

    def __init__(self, made: World) -> None:
        self.got = 0
        self._server = made.enter(OUTSIDE, lambda: socket.create_server((worlds.OUTSIDE_V4, 443)))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError):
            taken, _ = self._server.accept()
            taken.settimeout(30)
            with taken:
                while data := taken.recv(1 << 16):
                    self.got += len(data)

    def close(self) -> None:
        self._server.close()


def _send(made: World, data: bytes, *, patience: float) -> int:
    """Bytes that a socket inside took before it was full for that long."""

    def sent() -> int:
        done = 0
        with (
            socket.create_connection((worlds.OUTSIDE_V4, 443), timeout=patience) as client,
            suppress(OSError),
        ):
            while done < len(data):
                done += client.send(data[done : done + (1 << 15)])
        return done

    return made.enter(INNER, sent)


def test_stolen_weights_latch_the_gate_and_leave_evidence(
    gate_world: World, tmp_path: Path
) -> None:
    diary = Diary(MemoryStore(), SystemClock(), "a boot")
    stolen = _weights(64 << 20)
    sink = _Sink(gate_world)
    with (
        _gate(gate_world, tmp_path / "state", diary),
        _watching(
            gate_world,
            GATE,
            worlds.OUT,
            tmp_path / "seen",
            KernelStop(diary.latch),
            Response(weights=Action.LATCH),
        ) as told,
    ):
        _send(gate_world, stolen, patience=2.0)
        before = sink.got
        with pytest.raises(OSError, match=r"timed out|refused|unreachable"):
            _send(gate_world, b"more", patience=1.0)
    sink.close()
    assert sink.got == before < len(stolen)
    latched = [incident for incident in told if incident.action is Action.LATCH]
    assert latched
    first = latched[0]
    assert first.failure == ""
    assert first.alert.ends is not None
    assert (first.alert.ends.source, first.alert.ends.destination_port) == (worlds.INNER_V4, 443)
    assert first.to_stop is not None
    assert 0 <= first.to_alarm <= first.to_stop
    assert diary.latched() is not None
    bundle = tmp_path / "seen" / f"{first.id}-{first.alerts}"
    check(bundle, _SIGNER.verifier)
    assert stolen[:2000] in (bundle / "slice.pcap").read_bytes()


def test_a_throttled_sender_gets_no_more_than_his_rate(gate_world: World, tmp_path: Path) -> None:
    diary = Diary(MemoryStore(), SystemClock(), "a boot")
    response = Response(weights=Action.THROTTLE, throttle_bytes_s=4096, latch_after=0)
    sink = _Sink(gate_world)
    with (
        _gate(gate_world, tmp_path / "state", diary),
        _watching(
            gate_world, GATE, worlds.OUT, tmp_path / "seen", KernelStop(diary.latch), response
        ) as told,
    ):
        _send(gate_world, _weights(64 << 20), patience=1.5)
        before, begun = sink.got, SystemClock().monotonic()
        threading.Event().wait(2)
        after, seconds = sink.got, SystemClock().monotonic() - begun
    sink.close()
    assert {incident.action for incident in told} == {Action.NOTE, Action.THROTTLE}
    # A second's worth may come at once, and another be under way when the counting begins.
    assert after - before <= (seconds + 2) * 4096 + 1500
    assert before < 64 << 20
    assert diary.latched() is None


def test_the_gate_is_shut_even_where_the_diary_cannot_be_written(
    gate_world: World, tmp_path: Path
) -> None:
    def full(_: str) -> None:
        raise LedgerError("The disk is full.")

    diary = Diary(MemoryStore(), SystemClock(), "a boot")
    with _gate(gate_world, tmp_path, diary):
        stop, sink = KernelStop(full), _Sink(gate_world)
        with pytest.raises(LedgerError):
            gate_world.enter(GATE, lambda: stop.latch("weights"))
        with pytest.raises(OSError, match=r"timed out|refused|unreachable"):
            _send(gate_world, b"through an open heartbeat", patience=1.0)
        gate_world.enter(GATE, lambda: nft.load(f"delete table inet {TABLE}\n"))
        assert _send(gate_world, b"through", patience=2.0) == 7
        sink.close()
    with pytest.raises(GateError):
        gate_world.enter(OUTSIDE, lambda: KernelStop(diary.latch).latch("no gate here"))
    assert diary.latched() is not None


def test_the_taps_host_sees_it_too_and_says_that_it_could_not_stop_it(
    gate_world: World, tmp_path: Path
) -> None:
    sink = _Sink(gate_world)
    with _watching(gate_world, TAP, worlds.TAPPED, tmp_path, None, Response()) as told:
        _send(gate_world, _weights(1 << 20), patience=2.0)
        threading.Event().wait(0.5)
    sink.close()
    meant = [incident for incident in told if incident.action is not Action.NOTE]
    assert meant
    assert meant[0].to_stop is None
    assert "without the right" in meant[0].failure


def test_the_command_watches_the_tap_and_another_tells_what_it_saw(
    gate_world: World, tmp_path: Path
) -> None:
    sink = _Sink(gate_world)
    program = [sys.executable, "-m", "tidegate", "gate"]
    words = ["--tap", "--inside", "10.81.1.0/24", "--seconds", "60", "--json"]
    seen = tmp_path / "seen"
    watching = gate_world.popen(
        TAP, [*program, "watch", worlds.TAPPED, "--folder", str(seen), *words], pipe=True
    )
    assert watching.stdout is not None
    # It watches once its socket is listed under the heading.
    while gate_world.run(TAP, ["cat", "/proc/net/packet"]).stdout.count("\n") < 2:
        assert watching.poll() is None
        threading.Event().wait(0.2)
    _send(gate_world, _weights(1 << 20), patience=2.0)
    first = json.loads(watching.stdout.readline())
    while first["action"] == "note":
        first = json.loads(watching.stdout.readline())
    watching.terminate()
    assert watching.wait(20) == 1
    sink.close()
    assert first["alert"]["ends"]["destination"] == worlds.OUTSIDE_V4
    told = CliRunner().invoke(app, ["gate", "incident", str(seen), "--json"])
    assert told.exit_code == 0
    assert first["id"] in {json.loads(line)["id"] for line in told.stdout.splitlines()}
    stranger = tmp_path / "stranger.pub"
    stranger.write_text(Signer("w", Ed25519PrivateKey.generate()).verifier.encode())
    told = CliRunner().invoke(app, ["gate", "incident", str(seen), "--key", str(stranger)])
    assert (told.exit_code, "not signed by w" in told.stderr) == (1, True)
    next(seen.glob("*/slice.pcap")).write_bytes(b"")
    told = CliRunner().invoke(app, ["gate", "incident", str(seen)])
    assert told.exit_code == 1
    assert "slice.pcap was changed" in told.stderr


def test_an_interface_that_is_not_there_cannot_be_watched(gate_world: World) -> None:
    with pytest.raises(GateError, match="no-such"):
        gate_world.enter(GATE, lambda: Capture("no-such", outgoing=True))


def test_an_interface_that_goes_away_ends_the_watch(gate_world: World, tmp_path: Path) -> None:
    clock = SystemClock()
    capture = gate_world.enter(GATE, lambda: Capture(worlds.OUT, outgoing=True))
    responder = Responder(
        response=Response(),
        stop=None,
        folder=tmp_path,
        signer=_SIGNER,
        clock=clock,
        version="1",
    )
    gate_world.run(GATE, ["ip", "link", "del", worlds.OUT])
    watch = Watch(capture, Eyes(Settings()), responder, clock)
    with watch, pytest.raises(GateError, match="lost sight"):
        watch.run(lambda: False, lambda _: None)
