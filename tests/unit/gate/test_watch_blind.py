"""What a watch did not look at is never passed over in silence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.clock import ManualClock
from tidegate.errors import GateError
from tidegate.gate import watch_record
from tidegate.gate.incident import Action, Incident, Response
from tidegate.gate.incident_respond import EVE_LOG, Responder
from tidegate.gate.incident_room import Room
from tidegate.gate.watch import Capture, Watch
from tidegate.gate.watch_eyes import HEADERS, Eyes
from tidegate.gate.watch_record import Looked, away
from tidegate.redteam import thief_frames as frames
from tidegate.scan.alerts import Kind
from tidegate.scan.stream import Settings
from tidegate.transparency.note import Signer

_INNER, _FAR = "10.0.0.5", "203.0.113.9"
_AT = 1_700_000_000_000_000_000


def _frame(data: bytes, *, source: str = _INNER, options: bytes = b"") -> bytes:
    datagram = frames.udp(source, _FAR, (4000, 53), data)
    packet = frames.ipv4(source, _FAR, frames.UDP, datagram, options=options)
    return frames.ethernet(b"\2" * 6, b"\4" * 6, frames.IPV4, packet)


class _Wire:
    """A capture whose frames a test writes."""

    def __init__(self) -> None:
        self.interface, self.drained = "out", True
        self.waiting: list[bytes] = []
        self.index, self.packets = 3, 0

    def passes(self, *passed: bytes) -> None:
        self.waiting += passed
        self.packets += len(passed)

    def frames(self) -> Iterator[tuple[int, bytes]]:
        while self.waiting:
            yield _AT, self.waiting.pop(0)

    def lost(self) -> int:
        return 0

    def counted(self) -> tuple[int, int]:
        return self.index, self.packets

    def close(self) -> None:
        self.waiting.clear()


class _Stop:
    def __init__(self) -> None:
        self.throttled: list[str] = []
        self.latched: list[str] = []

    def throttle(self, host: str, rate: int, seconds: int) -> None:
        self.throttled.append(host)

    def latch(self, reason: str) -> None:
        self.latched.append(reason)


class _Bench:
    """A watch over a wire; `start` begins another, as after a restart."""

    def __init__(self, folder: Path, response: Response | None = None) -> None:
        self.folder, self.response = folder, response or Response()
        self.wire, self.stop, self.clock = _Wire(), _Stop(), ManualClock(now=1_700_000_000.0)
        self.told: list[Incident] = []
        self.boot = "a boot"
        self.start()

    def start(self) -> None:
        responder = Responder(
            response=self.response,
            stop=self.stop,
            folder=self.folder,
            signer=Signer("watch", Ed25519PrivateKey.generate()),
            room=Room(self.folder, reserve=0),
            clock=self.clock,
            version="1",
        )
        self.eyes = Eyes(Settings(block=1 << 14))
        capture = cast(Capture, self.wire)
        self.watch = Watch(
            capture, self.eyes, responder, self.clock, folder=self.folder, boot=self.boot
        )

    def turn(self, *passing: bytes, waiting: int = 0, stop: bool = True) -> None:
        """Run it for one step in which frames pass, and others that it does not get to; without
        `stop` it is killed then."""
        turns = iter([False, True])

        def ended() -> bool:
            if over := next(turns):
                if not stop:
                    raise KeyboardInterrupt
                return over
            self.wire.passes(*passing)
            self.wire.packets += waiting
            self.wire.drained = not waiting
            return over

        try:
            self.watch.run(ended, self.told.append)
        except KeyboardInterrupt:
            assert not stop

    def kinds(self) -> list[Kind]:
        return [incident.alert.kind for incident in self.told]


def test_a_watch_that_was_never_there_before_alarms_on_nothing(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    bench.wire.passes(_frame(b"hello"))
    bench.turn()
    assert bench.told == []


def test_frames_that_passed_while_a_watch_was_killed_are_an_alarm(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    bench.turn(stop=False)
    bench.wire.packets += 17
    bench.start()
    bench.turn()
    (alarm,) = bench.told
    assert alarm.alert.kind is Kind.BLIND
    assert "17 of them" in alarm.alert.text
    assert "killed or failed" in alarm.alert.text
    assert bench.watch.missed == 17


def test_after_a_restart_through_which_nothing_passed_there_is_no_alarm(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    for _ in range(3):
        bench.turn(_frame(b"hello"))
        bench.start()
    assert bench.told == []


def test_what_passed_after_an_orderly_end_is_an_alarm_too(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    bench.turn()
    bench.wire.packets += 1
    bench.start()
    bench.turn()
    assert "had ended" in bench.told[0].alert.text


def test_frames_that_still_waited_when_it_was_killed_count_as_unseen(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    bench.turn(waiting=5, stop=False)
    bench.start()
    bench.turn()
    assert bench.watch.missed == 5


@pytest.mark.parametrize("change", ["boot", "index", "damaged", "less"])
def test_where_nobody_can_say_what_passed_it_is_an_alarm(tmp_path: Path, change: str) -> None:
    bench = _Bench(tmp_path)
    bench.wire.packets = 9
    bench.turn()
    if change == "boot":
        bench.boot = "another"
    elif change == "index":
        bench.wire.index += 1
    elif change == "damaged":
        (tmp_path / watch_record.FILE).write_bytes(b"{")
    else:
        bench.wire.packets = 1
    bench.start()
    bench.turn()
    assert "nobody can say" in bench.told[0].alert.text


def test_a_site_may_close_its_gate_where_something_passed_unseen(tmp_path: Path) -> None:
    bench = _Bench(tmp_path, Response(blind=Action.LATCH))
    bench.turn(stop=False)
    bench.wire.packets += 1
    bench.start()
    bench.turn()
    assert len(bench.stop.latched) == 1


def test_a_full_disk_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(watch_record, "replace_whole", full)
    bench = _Bench(tmp_path)
    bench.turn()
    with pytest.raises(GateError):
        watch_record.write(tmp_path, Looked(boot="b", interface="o", index=1, packets=1, at=1.0))


def _break(bench: _Bench, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    looked = getattr(Eyes, method)

    def broken(eyes: Eyes, *given: object) -> object:
        if method != "feed" or b"break" in cast(bytes, given[0]):
            raise ValueError("no scanner expects this")
        return looked(eyes, *given)

    monkeypatch.setattr(Eyes, method, broken)


def test_a_frame_that_breaks_the_scan_throttles_its_sender_and_the_watch_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = _Bench(tmp_path)
    _break(bench, monkeypatch, "feed")
    bench.wire.passes(_frame(b"before"), _frame(b"break"), _frame(b"after", source="10.0.0.6"))
    bench.turn()
    assert bench.kinds() == [Kind.UNSCANNED]
    assert "ValueError: no scanner expects this" in bench.told[0].alert.text
    assert bench.stop.throttled == [_INNER]
    assert (bench.watch.failed, bench.eyes.frames) == (1, 2)
    assert b"break" in next(tmp_path.glob("*/slice.pcap")).read_bytes()


@pytest.mark.parametrize("method", ["settle", "close"])
def test_a_scan_that_breaks_over_nobodys_frame_latches_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    bench = _Bench(tmp_path)
    _break(bench, monkeypatch, method)
    bench.turn()
    assert set(bench.kinds()) == {Kind.UNSCANNED}
    assert bench.stop.latched


def test_a_site_may_only_note_frames_that_break_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = _Bench(tmp_path, Response(unscanned=Action.NOTE))
    _break(bench, monkeypatch, "feed")
    bench.wire.passes(*[_frame(b"break")] * 5)
    bench.turn()
    assert (bench.watch.failed, bench.told[-1].alerts) == (5, 5)
    assert bench.stop.throttled == bench.stop.latched == []


def test_a_frame_that_cannot_even_be_taken_apart_is_no_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: bytes) -> object:
        raise RecursionError

    monkeypatch.setattr("tidegate.gate.watch_eyes.dissect", broken)
    bench = _Bench(tmp_path)
    bench.wire.passes(_frame(b"x"))
    bench.turn()
    assert bench.kinds() == [Kind.UNSCANNED]
    assert len(bench.stop.latched) == 1


def test_bytes_in_headers_are_counted_alarmed_on_and_scanned(tmp_path: Path) -> None:
    bench = _Bench(tmp_path)
    odd = [_frame(b"x", options=b"\x9e\x28" + bytes([n]) * 38) for n in range(100)]
    bench.wire.passes(*odd)
    bench.turn()
    alarms = [incident for incident in bench.told if incident.alert.kind is Kind.HEADERS]
    lines = map(json.loads, (tmp_path / EVE_LOG).read_bytes().splitlines())
    told = [line["tidegate"] for line in lines if line["alert"]["signature_id"] == 1_940_009]
    assert [(line["alerts"], line["bytes"]) for line in told] == [(1, 40), (2, 120), (4, 600)]
    assert alarms[0].alert.ends is not None
    assert (alarms[0].alert.ends.source, alarms[0].alert.ends.protocol) == (_INNER, HEADERS)


def test_a_rare_tcp_option_now_and_then_is_no_alarm_and_many_are() -> None:
    eyes = Eyes(Settings(block=1 << 14))
    start = bytes(12) + b"\x80\x10" + bytes(6)
    segment = frames.ipv4(_INNER, _FAR, frames.TCP, start + b"\xfe\x0cten bytes.")
    frame = frames.ethernet(b"\2" * 6, b"\4" * 6, frames.IPV4, segment)
    for _ in range(4096 // 12):
        eyes.feed(frame, _AT)
    assert eyes.odd == []
    eyes.feed(frame, _AT)
    assert [one.size for one in eyes.odd] == [4104]


def test_weights_in_options_are_seen_as_weights_anywhere_are() -> None:
    import numpy as np

    drawn = np.random.default_rng(5).standard_normal(20_000).astype(np.float32) * 0.02
    data = drawn.tobytes()
    eyes = Eyes(Settings(block=1 << 14))
    seen = []
    for at in range(0, len(data), 36):
        options = b"\x9e\x26" + data[at : at + 36].ljust(36, b"\0") + b"\1\1"
        seen += eyes.feed(_frame(b"x", options=options), _AT + at)
    assert any(one.flow.kind == HEADERS for one in [*seen, *eyes.close()])


def test_an_interface_that_counts_on_says_how_much_passed() -> None:
    looked = Looked(boot="b", interface="out", index=1, packets=10, at=5.0)
    assert away(looked, looked) is None
    later = msgspec.structs.replace(looked, packets=12, at=9.0)
    alert = away(looked, later)
    assert alert is not None
    assert (alert.facts["frames"], alert.facts["since"]) == (2, 5.0)
