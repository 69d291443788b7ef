"""Alerts in the forms that security systems read: OCSF 1.4 findings and Suricata EVE JSON. Pure.

EVE: https://docs.suricata.io/en/latest/output/eve/eve-json-format.html. A flow's Community ID
(version 1, https://github.com/corelight/community-id-spec) joins an alert to Zeek's and Suricata's
own records of the same flow.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from tidegate.record.ocsf import Severity, detection
from tidegate.scan.flow_change import Shift
from tidegate.scan.flow_views import Beacon, Connection, Drip
from tidegate.scan.packets import NUMBERS, Flow, address
from tidegate.scan.sighting import Kind as Seen
from tidegate.scan.sighting import Sighting
from tidegate.units import Timestamp


class Kind(StrEnum):
    """What an alert is about."""

    WEIGHTS = "weights"
    OPAQUE = "opaque"
    SHIFT = "flow-shift"
    BEACON = "beacon"
    DRIP = "slow-drip"
    BLIND = "blind"
    UNSCANNED = "unscanned"
    SPREAD = "spread"
    HEADERS = "headers"
    EVIDENCE = "no-evidence"


class Ends(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Between whom. Ports are 0 where the protocol has none."""

    protocol: str
    source: str
    source_port: int
    destination: str
    destination_port: int


class Alert(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Something a person should look at. `time`: Unix seconds; `bytes`: how much it is about;
    `blocked`: whether it was stopped; `facts`: what else is known of it, JSON values."""

    time: float
    kind: Kind
    text: str
    detector: str
    severity: Severity
    bytes: int
    ends: Ends | None = None
    blocked: bool = False
    facts: dict[str, Any] = {}


_SIGNATURES: Final[Mapping[Kind, tuple[int, str, str]]] = {
    # Numbers from 1,000,000 to 1,999,999 are for local use.
    Kind.WEIGHTS: (1_940_001, "weights leave", "Potential Corporate Privacy Violation"),
    Kind.OPAQUE: (1_940_002, "opaque bytes leave", "Potential Corporate Privacy Violation"),
    Kind.SHIFT: (1_940_003, "more leaves than is billed", "Potentially Bad Traffic"),
    Kind.BEACON: (1_940_004, "regular calls", "Potentially Bad Traffic"),
    Kind.DRIP: (1_940_005, "slow drip", "Potential Corporate Privacy Violation"),
    Kind.BLIND: (1_940_006, "frames left unseen", "Detection of a Denial of Service Attack"),
    Kind.UNSCANNED: (1_940_007, "a frame broke the scan", "Potentially Bad Traffic"),
    Kind.SPREAD: (1_940_008, "weights leave in pieces", "Potential Corporate Privacy Violation"),
    Kind.HEADERS: (1_940_009, "bytes in headers", "Potential Corporate Privacy Violation"),
    Kind.EVIDENCE: (1_940_010, "no evidence is kept", "Detection of a Denial of Service Attack"),
}
_GRAVE: Final = frozenset({Seen.OWN_WEIGHTS, Seen.MODEL_FILE, Seen.WEIGHTS})


def of_sighting(sighting: Sighting, flow: Flow | None, time: Timestamp) -> Alert:
    """Weights, or what may be, in a flow's bytes; None where the bytes are no flow's."""
    grave = sighting.kind in _GRAVE
    place = sighting.weight
    facts: dict[str, Any] = {
        "offset": sighting.offset,
        "layers": list(sighting.layers),
        "score": sighting.score,
        "seen": sighting.kind.value,
    }
    if place is not None:
        facts["weight"] = {
            "model": place.model,
            "shard": place.shard,
            "tensor": place.tensor,
            "offset": place.offset,
        }
    certain = sighting.kind is Seen.OWN_WEIGHTS
    return Alert(
        time=time,
        kind=Kind.WEIGHTS if grave else Kind.OPAQUE,
        text=sighting.explanation,
        detector=sighting.detector,
        severity=(Severity.CRITICAL if certain else Severity.HIGH if grave else Severity.MEDIUM),
        bytes=sighting.length,
        ends=None if flow is None else ends_of(flow),
        facts=facts,
    )


def of_shift(shift: Shift, busiest: Connection | None = None) -> Alert:
    """More bytes than the bill explains. `busiest`: of the host that sent most of them, where
    somebody has to be named."""
    return Alert(
        time=shift.at,
        kind=Kind.SHIFT,
        text=str(shift),
        detector=shift.detector,
        severity=Severity.HIGH,
        bytes=max(0, round(shift.excess)),
        ends=None if busiest is None else _ends_of_connection(busiest),
        facts={"began": shift.began, "bins": shift.since, "statistic": shift.statistic},
    )


def of_beacon(beacon: Beacon, time: Timestamp) -> Alert:
    """Regular calls."""
    return Alert(
        time=time,
        kind=Kind.BEACON,
        text=str(beacon),
        detector="moran",
        severity=Severity.MEDIUM,
        bytes=beacon.sent,
        ends=_ends_of_connection(beacon.example),
        facts={"period_s": beacon.period, "jitter": beacon.jitter, "calls": beacon.calls},
    )


def of_drip(drip: Drip, time: Timestamp) -> Alert:
    """Much, slowly."""
    return Alert(
        time=time,
        kind=Kind.DRIP,
        text=str(drip),
        detector="sum",
        severity=Severity.MEDIUM,
        bytes=drip.sent,
        ends=_ends_of_connection(drip.example),
        facts={"hours": drip.hours, "bytes_a_day": drip.a_day, "days_left": drip.days_left},
    )


def blinded(interface: str, frames: int, time: Timestamp) -> Alert:
    """Frames passed an interface faster than anybody looked."""
    return Alert(
        time=time,
        kind=Kind.BLIND,
        text=f"{frames:,} frames passed {interface} unseen: they came faster than they are scanned",
        detector="overrun",
        severity=Severity.MEDIUM,
        bytes=0,
        facts={"frames": frames},
    )


def unwatched(
    interface: str, frames: int | None, since: Timestamp, time: Timestamp, *, ended: bool
) -> Alert:
    """Frames passed an interface while no watch ran; how many is None where nobody can say."""
    many = "how many nobody can say" if frames is None else f"{frames:,} of them"
    how = "had ended" if ended else "was killed or failed"
    away = datetime.fromtimestamp(since, UTC).strftime("%F %T UTC")
    return Alert(
        time=time,
        kind=Kind.BLIND,
        text=f"frames passed {interface} unseen, {many}: the watch before {how}, last heard {away}",
        detector="away",
        severity=Severity.MEDIUM if ended else Severity.HIGH,
        bytes=0,
        facts={"frames": frames, "since": since, "ended": ended},
    )


def unscanned(flow: Flow | None, size: int, error: str, time: Timestamp) -> Alert:
    """Scanning a frame of `size` bytes failed; what it carried was not looked at to the end."""
    return Alert(
        time=time,
        kind=Kind.UNSCANNED,
        text=f"a frame of {size:,} bytes could not be scanned: {error}",
        detector="scan-error",
        severity=Severity.HIGH,
        bytes=size,
        ends=None if flow is None else ends_of(flow),
        facts={"error": error},
    )


def spread(size: int, pairs: int, since: Timestamp, time: Timestamp) -> Alert:
    """What looks like weights, in pieces of which none was enough by itself."""
    return Alert(
        time=time,
        kind=Kind.SPREAD,
        text=f"{size:,} bytes that look like weights left in pieces between {pairs:,} pairs of "
        f"hosts, within {max(0.0, time - since):.0f} s",
        detector="sum",
        severity=Severity.HIGH,
        bytes=size,
        facts={"pairs": pairs, "since": since},
    )


def odd_headers(flow: Flow, size: int, time: Timestamp) -> Alert:
    """Bytes in headers that honest stacks do not send, all of a pair of hosts so far."""
    return Alert(
        time=time,
        kind=Kind.HEADERS,
        text=f"{size:,} bytes went out in headers and options that honest stacks do not send",
        detector="headers",
        severity=Severity.MEDIUM,
        bytes=size,
        ends=ends_of(flow),
        facts={},
    )


def unkept(why: str, time: Timestamp) -> Alert:
    """Evidence was refused for want of room."""
    return Alert(
        time=time,
        kind=Kind.EVIDENCE,
        text=why,
        detector="room",
        severity=Severity.HIGH,
        bytes=0,
    )


def ends_of(flow: Flow) -> Ends:
    """A flow's ends as people write them."""
    return Ends(
        flow.kind,
        address(flow.source),
        flow.source_port,
        address(flow.destination),
        flow.destination_port,
    )


def ocsf(alert: Alert, version: str) -> dict[str, Any]:
    """The alert as an OCSF Detection Finding, of the product's `version`."""
    _, title, _ = _SIGNATURES[alert.kind]
    where = "" if alert.ends is None else "/".join(map(str, msgspec.structs.astuple(alert.ends)))
    event = detection(
        time=Timestamp(alert.time),
        severity=alert.severity,
        title=title,
        text=alert.text,
        types=[alert.kind.value],
        analytic=alert.detector,
        version=version,
        identity=f"{alert.kind}\n{alert.time!r}\n{where}\n{alert.text}",
    )
    # 2: denied, 1: allowed; what the gate did with what it saw.
    event["action_id"], event["action"] = (2, "Denied") if alert.blocked else (1, "Allowed")
    if alert.ends is not None:
        event["evidences"] = [
            {
                "src_endpoint": {"ip": alert.ends.source, "port": alert.ends.source_port},
                "dst_endpoint": {"ip": alert.ends.destination, "port": alert.ends.destination_port},
                "connection_info": {
                    "protocol_name": alert.ends.protocol,
                    "direction_id": 2,
                    "direction": "Outbound",
                },
            }
        ]
    event["unmapped"] = {"bytes": alert.bytes, **alert.facts}
    return event


def eve(alert: Alert) -> dict[str, Any]:
    """The alert as a Suricata EVE event of type `alert`; write one a line."""
    number, title, category = _SIGNATURES[alert.kind]
    stamp = datetime.fromtimestamp(alert.time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+0000")
    event: dict[str, Any] = {"timestamp": stamp, "event_type": "alert"}
    if alert.ends is not None:
        event |= {
            "src_ip": alert.ends.source,
            "src_port": alert.ends.source_port,
            "dest_ip": alert.ends.destination,
            "dest_port": alert.ends.destination_port,
            "proto": alert.ends.protocol.upper(),
            "direction": "to_server",
        }
        if (shared := community_id(alert.ends)) is not None:
            event["community_id"] = shared
    event["alert"] = {
        "action": "blocked" if alert.blocked else "allowed",
        "gid": 1,
        "signature_id": number,
        "rev": 1,
        "signature": f"TIDEGATE {title}",
        "category": category,
        "severity": {Severity.CRITICAL: 1, Severity.HIGH: 1, Severity.MEDIUM: 2}.get(
            alert.severity, 3
        ),
    }
    event["tidegate"] = {"detector": alert.detector, "text": alert.text, "bytes": alert.bytes}
    event["tidegate"] |= alert.facts
    return event


def community_id(ends: Ends, seed: int = 0) -> str | None:
    """The flow's Community ID, the same for both directions; None unless it is TCP or UDP."""
    number = NUMBERS.get(ends.protocol.lower())
    if number not in (6, 17):
        return None
    try:
        sides = sorted(
            (ipaddress.ip_address(host).packed, port.to_bytes(2))
            for host, port in (
                (ends.source, ends.source_port),
                (ends.destination, ends.destination_port),
            )
        )
    except (ValueError, OverflowError):
        return None
    (low, low_port), (high, high_port) = sides
    said = seed.to_bytes(2) + low + high + bytes([number, 0]) + low_port + high_port
    digest = hashlib.sha1(said, usedforsecurity=False).digest()
    return "1:" + base64.b64encode(digest).decode()


def _ends_of_connection(one: Connection) -> Ends:
    return Ends(one.protocol, one.source, one.source_port, one.destination, one.destination_port)
