"""Evidence is signed, bounded, on the disk when it is said to be, and its refusal is an alarm."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.clock import ManualClock
from tidegate.errors import GateError
from tidegate.gate import incident_bundle
from tidegate.gate.incident import Action, Incident, Response
from tidegate.gate.incident_bundle import MANIFEST, SIGNED, check
from tidegate.gate.incident_respond import Responder
from tidegate.gate.incident_room import NoRoomError, Room
from tidegate.record.ocsf import Severity
from tidegate.scan.alerts import Alert, Ends, Kind
from tidegate.transparency.note import Signer
from tidegate.units import Timestamp

_SIGNER = Signer("watch", Ed25519PrivateKey.generate())
_FRAMES = [(1_700_000_000_000_000_000 + n, bytes(1000)) for n in range(20)]


class _Stop:
    def __init__(self) -> None:
        self.latched = 0

    def throttle(self, host: str, rate: int, seconds: int) -> None:
        raise GateError("it only latches")

    def latch(self, reason: str) -> None:
        self.latched += 1


def _responder(folder: Path, room: Room, response: Response | None = None) -> Responder:
    return Responder(
        response=response or Response(weights=Action.LATCH, least_bytes=0, spread=Action.NOTE),
        stop=_Stop(),
        folder=folder,
        signer=_SIGNER,
        room=room,
        clock=ManualClock(now=1_700_000_002.0),
        version="1",
    )


def _stolen(responder: Responder, host: str) -> tuple[Incident, ...]:
    alert = Alert(
        time=1_700_000_001.0,
        kind=Kind.WEIGHTS,
        text="looks like weights",
        detector="lz-gain",
        severity=Severity.HIGH,
        bytes=4096,
        ends=Ends("tcp", host, 4000, "203.0.113.9", 443),
    )
    return responder.handle(alert, Timestamp(1_700_000_000.0), lambda: _FRAMES)


def _bundles(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    _stolen(_responder(tmp_path, Room(tmp_path, reserve=0)), "10.0.0.5")
    return _bundles(tmp_path)[0]


def test_a_bundle_is_signed(bundle: Path) -> None:
    check(bundle, _SIGNER.verifier)
    stranger = Signer("watch", Ed25519PrivateKey.generate())
    with pytest.raises(GateError, match="not signed by"):
        check(bundle, stranger.verifier)


def test_a_manifest_that_was_written_anew_over_other_evidence_is_not_believed(
    bundle: Path,
) -> None:
    (bundle / "slice.pcap").write_bytes(b"")
    manifest = json.loads((bundle / MANIFEST).read_bytes())
    for kept in manifest["files"]:
        if kept["name"] == "slice.pcap":
            kept |= {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(GateError, match="another manifest was signed"):
        check(bundle, _SIGNER.verifier)
    (bundle / SIGNED).unlink()
    with pytest.raises(GateError, match="not signed"):
        check(bundle, _SIGNER.verifier)


def test_a_bundles_name_is_on_the_disk_before_it_is_said_to_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, int]] = []

    def sync(folder: Path) -> None:
        synced.append((folder.name, len([one for one in _bundles(tmp_path) if one.name[0] != "."])))

    monkeypatch.setattr(incident_bundle, "sync_folder", sync)
    _stolen(_responder(tmp_path, Room(tmp_path, reserve=0)), "10.0.0.5")
    draft, parent = synced
    assert (draft[0][0], draft[1]) == (".", 0)
    assert parent == (tmp_path.name, 1)


def test_evidence_that_has_no_room_is_refused_with_one_alarm_and_nothing_is_deleted(
    tmp_path: Path,
) -> None:
    responder = _responder(tmp_path, Room(tmp_path, most_bytes=80_000, reserve=0))
    told = [_stolen(responder, f"10.0.0.{n}") for n in range(1, 9)]
    kept = _bundles(tmp_path)
    assert 1 <= len(kept) < 8
    for one in kept:
        check(one, _SIGNER.verifier)
    alarms = [one for incidents in told for one in incidents if one.alert.kind is Kind.EVIDENCE]
    assert len(alarms) == 1
    assert "no more evidence" in alarms[0].alert.text
    assert all(incidents[0].stopped is not None for incidents in told)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 80_000


def test_a_later_run_counts_what_earlier_ones_left(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "slice.pcap").write_bytes(bytes(50_000))
    with pytest.raises(NoRoomError, match="50,000"):
        Room(tmp_path, most_bytes=60_000, reserve=0).claim(10_000)


def test_the_last_of_a_disk_is_left_to_the_quotas(tmp_path: Path) -> None:
    room = Room(tmp_path, reserve=1 << 62)
    with pytest.raises(NoRoomError, match="stay free"):
        room.claim(1)
    with pytest.raises(NoRoomError, match="stay free"):
        room.claim(1, line=True)
    responder = _responder(tmp_path, room)
    stolen, refused = _stolen(responder, "10.0.0.5")
    assert stolen.stopped is not None
    assert refused.alert.kind is Kind.EVIDENCE
    assert list(tmp_path.iterdir()) == []


def test_alarms_still_have_room_where_bundles_have_none(tmp_path: Path) -> None:
    room = Room(tmp_path, most_bytes=16_000, reserve=0)
    with pytest.raises(NoRoomError):
        room.claim(15_500)
    room.claim(15_500, line=True)


def test_a_site_may_close_the_gate_that_no_longer_keeps_evidence(tmp_path: Path) -> None:
    response = Response(weights=Action.NOTE, opaque=Action.LATCH, blind=Action.LATCH)
    responder = _responder(tmp_path, Room(tmp_path, reserve=1 << 62), response)
    noted, refused = _stolen(responder, "10.0.0.5")
    assert noted.action is Action.NOTE
    assert (refused.action, refused.stopped is not None) == (Action.LATCH, True)
