"""What is done about what is seen, and the evidence that is left of it."""

from __future__ import annotations

import errno
import json
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tidegate.clock import ManualClock
from tidegate.errors import ConfigError, GateError
from tidegate.gate.incident import Action, Incident, Response, decide
from tidegate.gate.incident_bundle import Position, check, findings, pcap
from tidegate.gate.incident_respond import EVE_LOG, Responder
from tidegate.gate.incident_room import Room
from tidegate.gate.incident_stop import throttled
from tidegate.record.ocsf import Severity
from tidegate.scan.alerts import Alert, Ends, Kind
from tidegate.transparency.note import Signer
from tidegate.units import Timestamp

_SIGNER = Signer("watch", Ed25519PrivateKey.generate())
_ENDS = Ends("tcp", "10.0.0.5", 4000, "203.0.113.9", 443)
_FRAMES = [(1_700_000_000_000_000_000 + n, bytes([n]) * 60) for n in range(10)]


def _alert(
    kind: Kind = Kind.WEIGHTS, severity: Severity = Severity.HIGH, ends: Ends | None = _ENDS
) -> Alert:
    return Alert(
        time=1_700_000_001.0,
        kind=kind,
        text="looks like weights",
        detector="lz-gain",
        severity=severity,
        bytes=4096,
        ends=ends,
    )


class _Stop:
    """Remembers what it was asked for; fails where told to."""

    def __init__(self, clock: ManualClock, *, broken: tuple[Action, ...] = ()) -> None:
        self.asked: list[tuple[str, object]] = []
        self._clock, self._broken = clock, broken

    def throttle(self, host: str, rate: int, seconds: int) -> None:
        self._fail(Action.THROTTLE)
        self.asked.append(("throttle", (host, rate, seconds)))

    def latch(self, reason: str) -> None:
        self._fail(Action.LATCH)
        self.asked.append(("latch", reason))

    def _fail(self, action: Action) -> None:
        self._clock.advance(0.25)
        if action in self._broken:
            raise GateError(f"{action} is broken")


def _responder(
    folder: Path,
    stop: Callable[[ManualClock], _Stop] | None = _Stop,
    response: Response | None = None,
    room: Room | None = None,
) -> tuple[Responder, _Stop | None]:
    clock = ManualClock(now=1_700_000_002.0)
    made = None if stop is None else stop(clock)
    responder = Responder(
        response=response or Response(weights=Action.LATCH, least_bytes=0),
        stop=made,
        folder=folder,
        signer=_SIGNER,
        room=room or Room(folder, reserve=0),
        clock=clock,
        version="1.2.3",
        log=lambda _: Position("gate", 7, "ab" * 32),
        pcap_bytes=500,
        most_bundles=8,
    )
    return responder, made


def _handle(responder: Responder, alert: Alert) -> Incident:
    return responder.handle(alert, Timestamp(1_700_000_000.0), lambda: _FRAMES)[0]


def test_weights_latch_and_the_times_from_the_first_byte_are_told(tmp_path: Path) -> None:
    responder, stop = _responder(tmp_path)
    incident = _handle(responder, _alert())
    assert stop is not None
    assert [what for what, _ in stop.asked] == ["latch"]
    assert incident.to_alarm == pytest.approx(2.0)
    assert incident.to_stop == pytest.approx(2.25)
    assert incident.alert.blocked


def test_the_bundle_is_whole_hashed_and_says_where_the_log_stood(tmp_path: Path) -> None:
    responder, _ = _responder(tmp_path)
    incident = _handle(responder, _alert())
    bundle = tmp_path / f"{incident.id}-1"
    manifest = check(bundle, _SIGNER.verifier)
    assert manifest.position == Position("gate", 7, "ab" * 32)
    assert manifest.frames_left_out > 0
    assert (bundle / "slice.pcap").stat().st_size <= 500
    told = json.loads((bundle / "incident.json").read_bytes())
    assert (told["seconds_to_alarm"], told["seconds_to_stop"]) == (2.0, 2.25)
    assert json.loads((bundle / "alert.ocsf.json").read_bytes())[0]["action"] == "Denied"
    (line,) = (tmp_path / EVE_LOG).read_bytes().splitlines()
    assert json.loads(line)["alert"]["action"] == "blocked"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("change", ["alter", "remove", "add", "manifest"])
def test_evidence_that_was_touched_is_named(tmp_path: Path, change: str) -> None:
    responder, _ = _responder(tmp_path)
    bundle = tmp_path / f"{_handle(responder, _alert()).id}-1"
    file = bundle / "slice.pcap"
    if change == "alter":
        file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    elif change == "remove":
        file.unlink()
    elif change == "add":
        (bundle / "note.txt").write_text("planted")
    else:
        (bundle / "manifest.json").write_text("{}")
    with pytest.raises(GateError):
        check(bundle, _SIGNER.verifier)


def test_a_step_up_leaves_a_second_bundle_and_a_repetition_none(tmp_path: Path) -> None:
    responder, stop = _responder(
        tmp_path, response=Response(weights=Action.THROTTLE, least_bytes=0, latch_after=2)
    )
    for _ in range(5):
        incident = _handle(responder, _alert())
    assert stop is not None
    assert [what for what, _ in stop.asked] == ["throttle", "throttle", "latch", "latch", "latch"]
    assert stop.asked[0][1] == ("10.0.0.5", 4096, 600)
    assert (incident.alerts, incident.leaked, incident.action) == (5, 5 * 4096, Action.LATCH)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2


def test_a_note_leaves_a_line_and_a_step_up_from_it_a_bundle(tmp_path: Path) -> None:
    responder, _ = _responder(tmp_path, response=Response(least_bytes=6_000))
    assert _handle(responder, _alert()).action is Action.NOTE
    assert [path.name for path in tmp_path.iterdir()] == [EVE_LOG]
    incident = _handle(responder, _alert())
    assert incident.action is Action.THROTTLE
    check(tmp_path / f"{incident.id}-2", _SIGNER.verifier)


def test_what_goes_on_is_noted_ever_less_often_and_counted(tmp_path: Path) -> None:
    responder, _ = _responder(tmp_path)
    for _ in range(100):
        _handle(responder, _alert(Kind.OPAQUE))
    lines = [json.loads(line) for line in (tmp_path / EVE_LOG).read_bytes().splitlines()]
    assert [line["tidegate"]["alerts"] for line in lines] == [1, 2, 4, 8, 16, 32, 64]


def test_made_up_addresses_do_not_fill_the_disk(tmp_path: Path) -> None:
    responder, stop = _responder(tmp_path)
    for last in range(20):
        host = f"10.9.9.{last}"
        incident = _handle(responder, _alert(ends=Ends("tcp", host, 1, "203.0.113.9", 443)))
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 8
    assert stop is not None
    assert len(stop.asked) == 20
    assert "no more evidence" in incident.failure


def test_a_throttle_that_cannot_be_is_a_latch(tmp_path: Path) -> None:
    response = Response(least_bytes=0)
    responder, stop = _responder(
        tmp_path, lambda clock: _Stop(clock, broken=(Action.THROTTLE,)), response
    )
    incident = _handle(responder, _alert())
    assert stop is not None
    assert [what for what, _ in stop.asked] == ["latch"]
    assert incident.action is Action.LATCH
    assert "broken" in incident.failure
    nobody, stop = _responder(tmp_path, response=response)
    assert _handle(nobody, _alert(ends=None)).action is Action.LATCH


def test_what_could_not_be_stopped_is_never_said_to_be(tmp_path: Path) -> None:
    def broken(clock: ManualClock) -> _Stop:
        return _Stop(clock, broken=(Action.THROTTLE, Action.LATCH))

    for stop in (None, broken):
        responder, _ = _responder(tmp_path, stop)
        incident = _handle(responder, _alert())
        assert incident.to_stop is None
        assert incident.failure
        assert not incident.alert.blocked
        assert (
            "ought to be"
            in json.loads(findings([incident], "1"))["runs"][0]["results"][0]["message"]["text"]
        )


def test_a_full_disk_stops_no_stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    responder, stop = _responder(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    incident = _handle(responder, _alert())
    assert stop is not None
    assert stop.asked
    assert incident.to_stop is not None
    assert "No space left" in incident.failure


def test_evidence_is_never_written_over(tmp_path: Path) -> None:
    for _ in range(2):
        responder, _ = _responder(tmp_path)
        _handle(responder, _alert())
    bundles = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(bundles) == 2
    for bundle in bundles:
        check(bundle, _SIGNER.verifier)


@given(
    st.lists(
        st.tuples(st.sampled_from(Kind), st.sampled_from([Severity.HIGH, Severity.CRITICAL])),
        min_size=1,
        max_size=12,
    ),
    st.builds(
        Response,
        certain=st.sampled_from(Action),
        weights=st.sampled_from(Action),
        opaque=st.sampled_from(Action),
        shift=st.sampled_from(Action),
        latch_after=st.integers(0, 3),
        least_bytes=st.just(0),
    ),
)
def test_no_alert_ever_takes_a_step_back(
    seen: list[tuple[Kind, Severity]], response: Response
) -> None:
    ladder = list(Action)
    known: dict[str, Incident] = {}
    for kind, severity in seen:
        alert = _alert(kind, severity)
        before = known
        known, incident, action = decide(known, response, alert, first_byte=1.0, alarm=2.0)
        assert ladder.index(incident.action) >= ladder.index(response.to(alert, alert.bytes))
        if old := before.get(incident.id):
            assert ladder.index(incident.action) >= ladder.index(old.action)
            assert incident.alerts == old.alerts + 1
        if action is not None:
            assert ladder.index(action) <= ladder.index(incident.action)


def test_weights_are_acted_on_once_there_are_enough_of_them_at_once() -> None:
    response, known, done = Response(least_bytes=10_000, within_s=10), {}, []
    for first_byte in (0.0, 20.0, 40.0, 45.0, 49.0):
        known, incident, action = decide(
            known, response, _alert(), first_byte=first_byte, alarm=first_byte + 1
        )
        done.append(action)
    assert done == [Action.NOTE, None, None, None, Action.THROTTLE]
    assert (incident.first_byte, incident.to_alarm) == (40.0, 10.0)
    known, incident, action = decide(
        known, response, _alert(severity=Severity.CRITICAL), first_byte=50.0, alarm=50.5
    )
    assert (action, incident.to_alarm, incident.alert.severity) == (
        Action.LATCH,
        0.5,
        Severity.CRITICAL,
    )


def test_binary_traffic_is_noted_unless_it_is_the_own_model() -> None:
    response = Response(least_bytes=0, binary_ports=(443,))
    assert response.to(_alert(), 10**9) is Action.NOTE
    assert response.to(_alert(severity=Severity.CRITICAL), 0) is Action.LATCH
    other = Ends("tcp", "10.0.0.5", 1, "203.0.113.9", 80)
    assert response.to(_alert(ends=other), 0) is Action.THROTTLE


def test_other_ports_are_the_same_incident_and_other_hosts_another() -> None:
    response, known = Response(), {}
    for port, host in ((1, "203.0.113.9"), (2, "203.0.113.9"), (2, "203.0.113.10")):
        alert = _alert(ends=Ends("tcp", "10.0.0.5", port, host, 443))
        known, _, _ = decide(known, response, alert, first_byte=1.0, alarm=2.0)
    assert len(known) == 2


def test_the_slice_is_a_capture_that_others_can_read_and_keeps_its_beginning() -> None:
    data, left_out = pcap(_FRAMES, 24 + 3 * (16 + 60))
    assert left_out == 7
    assert struct.unpack_from("<IHH", data) == (0xA1B23C4D, 2, 4)
    seconds, rest, size, _ = struct.unpack_from("<IIII", data, 24)
    assert (seconds, rest, size) == (1_700_000_000, 0, 60)
    assert pcap(_FRAMES, 0)[1] == 10


def test_throttles_are_for_ip_senders() -> None:
    assert "203.0.113.9 timeout 60s" in throttled("203.0.113.9", 4096, 60)
    assert "hosts6 { fd00::1 timeout 60s }" in throttled("fd00::1", 4096, 60)
    with pytest.raises(GateError):
        throttled("02:00:00:00:00:01", 4096, 60)


def test_a_throttle_that_is_none_is_refused() -> None:
    for change in (
        {"throttle_bytes_s": 0},
        {"throttle_s": 0},
        {"latch_after": -1},
        {"within_s": 0},
    ):
        with pytest.raises(ConfigError):
            Response(**change)
    assert msgspec.json.decode(msgspec.json.encode(Response()), type=Response) == Response()
