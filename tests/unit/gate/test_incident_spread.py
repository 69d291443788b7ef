"""Theft in pieces of which none is enough: judged by what crosses the boundary in all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.clock import ManualClock
from tidegate.errors import ConfigError
from tidegate.gate import incident_respond
from tidegate.gate.incident import Action, Incident, Response
from tidegate.gate.incident_respond import Responder
from tidegate.gate.incident_room import Room
from tidegate.record.ocsf import Severity
from tidegate.scan.alerts import Alert, Ends, Kind
from tidegate.transparency.note import Signer
from tidegate.units import Timestamp


class Stops:
    """What was asked for."""

    def __init__(self) -> None:
        self.throttled: list[str] = []
        self.latched: list[str] = []

    def throttle(self, host: str, rate: int, seconds: int) -> None:
        self.throttled.append(host)

    def latch(self, reason: str) -> None:
        self.latched.append(reason)


class Site:
    """A responder, and alerts that come in one after another."""

    def __init__(self, folder: Path, response: Response | None = None) -> None:
        self.stops, self.clock = Stops(), ManualClock(now=1_700_000_000.0)
        self.responder = Responder(
            response=response or Response(),
            stop=self.stops,
            folder=folder,
            signer=Signer("watch", Ed25519PrivateKey.generate()),
            room=Room(folder, reserve=0),
            clock=self.clock,
            version="1",
        )

    def sees(
        self, host: str, size: int = 4096, kind: Kind = Kind.WEIGHTS, *, began: float | None = None
    ) -> tuple[Incident, ...]:
        now = self.clock.now()
        alert = Alert(
            time=now,
            kind=kind,
            text="looks like weights",
            detector="lz-gain",
            severity=Severity.HIGH,
            bytes=size,
            ends=Ends("tcp", host, 4000, "203.0.113.9", 443),
        )
        return self.responder.handle(alert, Timestamp(now if began is None else began), tuple)


def _hosts(count: int) -> Iterable[str]:
    return (f"10.1.{n // 250}.{n % 250 + 1}" for n in range(count))


def test_many_sources_below_the_mark_latch_the_gate_together(tmp_path: Path) -> None:
    site, sent = Site(tmp_path), 0
    for host in _hosts(1_500):
        told = site.sees(host, 48_000)
        sent += 48_000
        if site.stops.latched:
            break
    assert sent <= (1 << 20) + 48_000
    assert [one.action for one in told] == [Action.NOTE, Action.LATCH]
    assert told[1].alert.kind is Kind.SPREAD
    assert site.stops.throttled == []


def test_many_pairs_of_hosts_latch_it_however_little_each_sends(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for host in _hosts(Response().most_pairs - 1):
        site.sees(host, 100)
    assert site.stops.latched == []
    site.sees("10.9.9.9", 100)
    assert site.stops.latched


def test_odd_windows_now_and_then_latch_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for host in _hosts(500):
        site.sees(host, 16_384)
        site.clock.advance(60)
    assert site.stops.latched == []


def test_a_flow_that_began_long_ago_does_not_make_the_count_begin_anew(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for host in _hosts(30):
        site.sees(host, 48_000)
        site.sees("10.9.9.9", 1, began=1_600_000_000.0)
    assert site.stops.latched


def test_what_is_forgotten_of_hosts_still_counts_for_the_boundary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incident_respond, "_MOST_INCIDENTS", 8)
    site, sent = Site(tmp_path), 0
    while not site.stops.latched:
        site.sees("10.2.2.2", 48_000)
        sent += 48_000
        for host in _hosts(8):
            site.sees(host, 1 << 20, Kind.OPAQUE)
        site.clock.advance(11)
    assert sent <= (1 << 20) + 48_000


def test_who_was_stopped_is_remembered_before_who_was_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incident_respond, "_MOST_INCIDENTS", 8)
    site = Site(tmp_path, Response(latch_after=2))
    for _ in range(3):
        site.sees("10.2.2.2", 70_000)
        for host in _hosts(20):
            site.sees(host, 100, Kind.OPAQUE)
    assert site.stops.throttled == ["10.2.2.2"] * 2
    assert len(site.stops.latched) == 1


def test_what_the_kernel_throttles_now_is_not_counted_and_later_is(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.sees("10.2.2.2", 70_000)
    assert site.stops.throttled
    for _ in range(40):
        site.sees("10.2.2.2", 48_000)
        site.clock.advance(14)
    assert site.stops.latched == []
    site.clock.advance(600)
    for _ in range(40):
        site.sees("10.2.2.2", 48_000)
        site.clock.advance(14)
    assert site.stops.latched


def test_after_a_reset_the_same_thief_is_stopped_again(tmp_path: Path) -> None:
    site = Site(tmp_path, Response(weights=Action.LATCH))
    for _ in range(2):
        site.sees("10.2.2.2", 70_000)
        site.sees("10.2.2.2", 100)
    assert len(site.stops.latched) == 2


def test_a_site_may_only_note_it_or_name_its_binary_traffic(tmp_path: Path) -> None:
    noting = Site(tmp_path, Response(spread=Action.NOTE))
    binary = Site(tmp_path, Response(binary_ports=(443,)))
    for host in _hosts(64):
        for site in (noting, binary):
            site.sees(host, 48_000)
    assert noting.stops.latched == binary.stops.latched == []
    with pytest.raises(ConfigError):
        msgspec.structs.replace(Response(), most_pairs=0)
