"""Alerts as other systems read them."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest

from tidegate.record.ocsf import Severity
from tidegate.scan.alerts import (
    Alert,
    Ends,
    Kind,
    blinded,
    community_id,
    eve,
    ocsf,
    of_beacon,
    of_drip,
    of_shift,
    of_sighting,
)
from tidegate.scan.flow_change import Shift
from tidegate.scan.flow_views import Beacon, Connection, Drip
from tidegate.scan.packets import TCP, Flow
from tidegate.scan.sighting import Kind as Seen
from tidegate.scan.sighting import Place, Sighting
from tidegate.units import Timestamp

_FLOW = Flow(
    TCP,
    ipaddress.ip_address("128.232.110.120").packed,
    34855,
    ipaddress.ip_address("66.35.250.204").packed,
    80,
)
_OWN = Sighting(
    4096,
    65536,
    Seen.OWN_WEIGHTS,
    "fingerprint",
    40.0,
    "64 KiB of the own model",
    ("base64",),
    Place("smollm2", "model.safetensors", "model.layers.0.mlp", 1024),
)
_CALL = Connection(0.0, 1.0, "tcp", "10.0.0.5", 4000, "203.0.113.9", 443, 100)


def _alerts() -> list[Alert]:
    shift = Shift(
        detector="cusum",
        at=600.0,
        began=60.0,
        since=9,
        excess=12345.6,
        statistic=7.1,
        threshold=6.3,
        false_alarm_every=3600.0,
    )
    return [
        of_sighting(_OWN, _FLOW, Timestamp(1.5)),
        of_shift(shift),
        of_beacon(Beacon(_CALL, 60, 300.0, 0.1, 0.0, 1e-9, 6000), Timestamp(2.0)),
        of_drip(Drip(_CALL, 9999, 20, 24, 800, 9999.0, None), Timestamp(3.0)),
        blinded("out", 12, Timestamp(4.0)),
    ]


@pytest.mark.parametrize("alert", _alerts(), ids=lambda alert: alert.kind)
def test_every_kind_is_an_eve_alert_and_an_ocsf_finding(alert: Alert) -> None:
    event = eve(alert)
    assert event["event_type"] == "alert"
    assert 1_000_000 <= event["alert"]["signature_id"] < 2_000_000
    assert event["alert"]["action"] == "allowed"
    assert event["timestamp"].endswith("+0000")
    finding = ocsf(alert, "1.2.3")
    assert (finding["class_uid"], finding["type_uid"]) == (2004, 200401)
    assert finding["time"] == int(alert.time * 1000)
    assert finding["finding_info"]["types"] == [alert.kind.value]
    msgspec.json.encode([event, finding])


def test_an_alert_names_the_flow_by_the_id_that_zeek_and_suricata_give_it() -> None:
    # The specification's own example for TCP.
    assert eve(_alerts()[0])["community_id"] == "1:LQU9qZlK+B5F3KDmev6m5PMibrg="
    back = Ends("tcp", "66.35.250.204", 80, "128.232.110.120", 34855)
    assert community_id(back) == "1:LQU9qZlK+B5F3KDmev6m5PMibrg="
    assert community_id(Ends("icmp", "10.0.0.1", 0, "10.0.0.2", 0)) is None
    assert community_id(Ends("tcp", "02:00", 0, "10.0.0.2", 0)) is None


def test_own_weights_are_critical_and_name_shard_and_offset() -> None:
    alert = _alerts()[0]
    assert (alert.kind, alert.severity) == (Kind.WEIGHTS, Severity.CRITICAL)
    assert alert.facts["weight"]["shard"] == "model.safetensors"
    opaque = Sighting(0, 4096, Seen.OPAQUE, "lz-gain", 0.4, "nothing that compresses")
    assert of_sighting(opaque, None, Timestamp(0.0)).severity is Severity.MEDIUM
    assert "src_ip" not in eve(of_sighting(opaque, None, Timestamp(0.0)))


def test_what_was_stopped_says_so_in_both_forms() -> None:
    blocked = msgspec.structs.replace(_alerts()[0], blocked=True)
    assert eve(blocked)["alert"]["action"] == "blocked"
    assert ocsf(blocked, "1")["action"] == "Denied"


def test_a_re_run_gives_a_finding_the_same_uid_and_another_finding_another() -> None:
    uids = [ocsf(alert, "1")["finding_info"]["uid"] for alert in (*_alerts(), *_alerts())]
    assert len(set(uids)) == 5
