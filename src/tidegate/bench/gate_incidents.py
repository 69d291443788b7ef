"""How soon stolen weights are seen on the gate's wire, and stopped, and how much left by then.

A thief inside sends weights over TCP, at the speed that he is given; a watch on the gate's outside
interface latches the gate. Bytes are counted on the far side of the wire.
"""

from __future__ import annotations

import ipaddress
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate import __version__
from tidegate.bench.figures import Figure, report
from tidegate.bench.gate_rig import API, crossed, policy
from tidegate.clock import SystemClock
from tidegate.errors import GateError
from tidegate.gate import worlds
from tidegate.gate.controller import Gate
from tidegate.gate.heartbeat import hold
from tidegate.gate.host import boot_id
from tidegate.gate.incident import Action, Incident, Response
from tidegate.gate.incident_respond import Responder
from tidegate.gate.incident_stop import KernelStop
from tidegate.gate.latch import Diary
from tidegate.gate.state import Store
from tidegate.gate.watch import Capture, Watch
from tidegate.gate.watch_eyes import Eyes
from tidegate.gate.worlds import GATE, INNER, OUTSIDE, World, world
from tidegate.ledger import MemoryStore
from tidegate.openai_api.responses import ChatShape, Stamp
from tidegate.scan.stream import Settings
from tidegate.transparency.note import Signer

SPEEDS: Final = (("bulk", 0), ("1mb", 1_000_000), ("50kb", 50_000))
"""Bytes a second that the thief keeps to; 0 is as fast as the wire takes."""
_BLOCK = 1 << 14
_MSS = 1448
_WORDS = (
    " what",
    " the",
    " gate",
    " keeps",
    " and",
    " users",
    " ask",
    " of",
    " it",
    ",",
    " in",
    ".",
)
_PATIENCE_S = 20.0
_AFTER_S = 0.8
"""How long bytes are counted after the stop: longer than what was under way can take."""

_SINK = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    taken = server.accept()[0]
    while taken.recv(1 << 16):
        pass
"""
_THIEF = """
import socket, sys, time
data, speed = open(sys.argv[3], "rb").read(), int(sys.argv[4])
step = 1 << 15 if not speed else 1000
for _ in range(200):
    try:
        client = socket.create_connection((sys.argv[1], int(sys.argv[2])))
        break
    except OSError:
        time.sleep(0.05)
begun, sent = time.monotonic(), 0
while True:
    start = sent % (len(data) - step)
    client.sendall(data[start : start + step])
    sent += step
    if speed:
        time.sleep(max(0.0, begun + sent / speed - time.monotonic()))
"""


@dataclass(frozen=True, slots=True)
class Caught:
    """One theft: seconds from the first leaked byte, and bytes on the wire in all."""

    to_alarm: float
    to_stop: float
    crossed: int


def weights(count: int) -> bytes:
    """bfloat16 values as trained matrices have them: normal, centred, small."""
    state = np.uint64(0x9E3779B97F4A7C15) * np.arange(1, count // 2 + 1, dtype=np.uint64)
    # SplitMix64 finaliser: any even spread will do, as long as every run sends the same.
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    halves = [(state >> np.uint64(shift)) & np.uint64(0xFFFF) for shift in (0, 16, 32, 48)]
    spread = np.add.reduce([half.astype(np.float64) for half in halves]) / 2**16 - 2
    drawn = np.asarray(0.03 * spread, np.float32)
    return (drawn.view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes()


def theft(speed: int) -> Caught:
    """One thief in a world of his own. Raises GateError where nobody saw him."""
    clock, diary = SystemClock(), Diary(MemoryStore(), SystemClock(), boot_id())
    told: list[Incident] = []
    stopped = threading.Event()

    def tell(incident: Incident) -> None:
        told.append(incident)
        if incident.to_stop is not None:
            stopped.set()

    with tempfile.TemporaryDirectory() as name, world(ipv6=False) as made:
        folder = Path(name)
        stolen = folder / "weights.bin"
        stolen.write_bytes(weights(1 << 22))
        responder = Responder(
            response=Response(weights=Action.LATCH),
            stop=KernelStop(diary.latch),
            folder=folder / "seen",
            signer=Signer("bench", Ed25519PrivateKey.generate()),
            clock=clock,
            version=__version__,
        )
        gate = Gate(policy(folder / "state"), Store(folder / "state"), clock, diary.latched)
        capture = made.enter(GATE, lambda: Capture(worlds.OUT, outgoing=True))
        watch = Watch(capture, Eyes(Settings(block=_BLOCK)), responder, clock)
        ends = [worlds.OUTSIDE_V4, str(API)]
        made.popen(OUTSIDE, [sys.executable, "-S", "-c", _SINK, *ends])
        with watch, _open(made, gate), _running(made, lambda end: watch.run(end.is_set, tell)):
            made.popen(INNER, [sys.executable, "-S", "-c", _THIEF, *ends, str(stolen), str(speed)])
            if not stopped.wait(_PATIENCE_S):
                raise GateError(f"nobody stopped the thief: {told[:1] or 'nothing was seen'}")
            threading.Event().wait(_AFTER_S)
            left = crossed(made)[1]
    first = next(one for one in told if one.to_stop is not None)
    return Caught(first.to_alarm, first.to_stop or 0.0, left)


def figures(
    trials: int = 5, progress: Callable[[str, int, int], None] = lambda *_: None
) -> dict[str, Figure]:
    """Medians over `trials` thefts at each speed. Needs root."""
    out: dict[str, Figure] = {}
    for place, (name, speed) in enumerate(SPEEDS):
        caught = []
        for trial in range(trials):
            progress("incidents", place * trials + trial, len(SPEEDS) * trials)
            caught.append(theft(speed))
        how = f"a thief at {f'{speed:,} bytes/s' if speed else 'full speed'}, weights in bfloat16"
        alarm, stop = ([getattr(one, what) for one in caught] for what in ("to_alarm", "to_stop"))
        out[f"incident.{name}.seconds_to_alarm"] = report(
            statistics.median(alarm), unit="s", n=trials, how=f"{how}; worst {max(alarm):.3f} s"
        )
        out[f"incident.{name}.seconds_to_stop"] = report(
            statistics.median(stop), unit="s", n=trials, how=f"{how}; worst {max(stop):.3f} s"
        )
        out[f"incident.{name}.bytes"] = report(
            statistics.median(one.crossed for one in caught),
            unit="bytes",
            n=trials,
            how=f"{how}; all that crossed the wire, handshake and headers included",
        )
    out["incident.watch_mb_per_s"] = report(
        statistics.median(watch_speed() for _ in range(3)),
        unit="MB/s",
        n=3,
        how=f"payload in frames of {_MSS} bytes of an API's stream, one core's processor time",
    )
    progress("incidents", len(SPEEDS) * trials, len(SPEEDS) * trials)
    return out


def watch_speed() -> float:
    """Megabytes of payload a second of processor time that the watch looks at, in frames of an
    Ethernet's size that carry an API's stream."""
    stamp = Stamp(id="chatcmpl-" + "0" * 32, created=1_700_000_000, model="m", fingerprint="f")
    shape = ChatShape(stamp)
    said = b"".join(shape.delta(0, _WORDS[n * n % len(_WORDS)]) for n in range(40_000))
    eyes = Eyes(Settings(block=_BLOCK), (ipaddress.ip_network(f"{worlds.INNER_V4}/24", False),))
    frames = [
        _frame(said[start : start + _MSS], start) for start in range(0, len(said) - _MSS, _MSS)
    ]
    begun = time.process_time()
    for at, frame in enumerate(frames):
        eyes.feed(frame, at)
    return eyes.bytes / (time.process_time() - begun) / 1e6


def _frame(payload: bytes, sequence: int) -> bytes:
    ends = ipaddress.ip_address(worlds.INNER_V4).packed
    ends += ipaddress.ip_address(worlds.OUTSIDE_V4).packed
    tcp = struct.pack(">HHIIBBHHH", API, 50_000, sequence, 0, 0x50, 0x10, 0, 0, 0) + payload
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0)
    return bytes(12) + b"\x08\x00" + header + ends + tcp


@contextmanager
def _open(made: World, gate: Gate) -> Iterator[None]:
    """The gate held open by a thread, until the context ends."""
    opened = threading.Event()
    made.enter(GATE, lambda: gate.apply(begin=True))
    with _running(made, lambda end: hold(gate, SystemClock(), end, told=lambda _: opened.set())):
        if not opened.wait(_PATIENCE_S):
            raise GateError("the gate does not open")
        yield


@contextmanager
def _running(made: World, call: Callable[[threading.Event], None]) -> Iterator[None]:
    """`call` in a thread in the gate's namespace; it ends when its event is set."""
    end = threading.Event()
    thread = threading.Thread(target=lambda: made.enter(GATE, lambda: call(end)), daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(_PATIENCE_S)
