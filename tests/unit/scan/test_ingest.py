"""Other people's logs: read as they are written, refused line by line where they are not."""

from __future__ import annotations

import ipaddress
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import ConfigError
from tidegate.scan.flow_views import Connection
from tidegate.scan.ingest import (
    DNS_NAME,
    MAX_LINE,
    Bill,
    LogLineError,
    Reader,
    billed,
    bins,
    leaving,
    parent_domain,
)

_INSIDE = [ipaddress.ip_network("10.0.0.0/8")]
_FLOW = {
    "timestamp": "2026-01-02T03:04:09.000000+0000",
    "flow_id": 1,
    "event_type": "flow",
    "src_ip": "10.0.0.5",
    "src_port": 4242,
    "dest_ip": "203.0.113.9",
    "dest_port": 443,
    "proto": "TCP",
    "app_proto": "tls",
    "flow": {
        "pkts_toserver": 4,
        "bytes_toserver": 5000,
        "bytes_toclient": 700,
        "start": "2026-01-02T03:04:05.500000+0000",
        "end": "2026-01-02T03:04:08.000000+0000",
        "age": 3,
    },
}
_ZEEK = """#separator \\x09
#set_separator\t,
#empty_field\t(empty)
#unset_field\t-
#path\tconn
#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tservice\tduration\torig_bytes\tconn_state\torig_ip_bytes\tresp_ip_bytes
#types\ttime\tstring\taddr\tport\taddr\tport\tenum\tstring\tinterval\tcount\tstring\tcount\tcount
1767323045.5\tC1\t10.0.0.5\t4242\t203.0.113.9\t443\ttcp\t-\t2.5\t4800\tSF\t5000\t700
"""
_SAID = Connection(1767323045.5, 2.5, "tcp", "10.0.0.5", 4242, "203.0.113.9", 443, 5000, 700)


def test_a_suricata_flow_is_a_connection() -> None:
    found = Reader().feed(json.dumps(_FLOW).encode())
    assert found is not None
    assert (found.start, found.duration, found.sent, found.received) == (
        1767323045.5,
        2.5,
        5000,
        700,
    )
    assert found.peer == "10.0.0.5 → 203.0.113.9 port 443 tcp"


def test_zeek_says_the_same_in_tabs_and_in_json() -> None:
    reader = Reader()
    rows = [reader.feed(line.encode()) for line in _ZEEK.splitlines()]
    assert rows[-1] == _SAID
    assert rows[:-1] == [None] * (len(rows) - 1)
    as_json = {
        "ts": 1767323045.5,
        "id.orig_h": "10.0.0.5",
        "id.orig_p": 4242,
        "id.resp_h": "203.0.113.9",
        "id.resp_p": 443,
        "proto": "tcp",
        "duration": 2.5,
        "conn_state": "SF",
        "orig_ip_bytes": 5000,
        "resp_ip_bytes": 700,
    }
    assert Reader().feed(json.dumps(as_json).encode()) == _SAID


def test_names_that_are_asked_for_are_bytes_to_their_parent_domain() -> None:
    name = "a" * 60 + ".t.example.com"
    eve = {"event_type": "dns", "timestamp": "2026-01-02T03:04:05Z", "src_ip": "10.0.0.5"}
    for dns in (
        {"type": "query", "rrname": name},
        {"type": "request", "queries": [{"rrname": name}]},
    ):
        found = Reader().feed(json.dumps({**eve, "dns": dns}).encode())
        assert found is not None
        assert (found.protocol, found.destination, found.sent) == (DNS_NAME, "example.com", 74)
        assert leaving(found, _INSIDE) == found
    answer = {**eve, "dns": {"type": "answer", "rrname": name}}
    assert Reader().feed(json.dumps(answer).encode()) is None
    zeek = {"ts": 1.0, "id.orig_h": "10.0.0.5", "query": name}
    assert Reader().feed(json.dumps(zeek).encode()) is not None
    assert parent_domain("x.y.example.co.uk.") == "example.co.uk"


def test_other_events_are_passed_over_and_counted() -> None:
    reader = Reader()
    for row in ({"event_type": "stats"}, {"event_type": 7}, {"ts": 1.0}):
        assert reader.feed(json.dumps(row).encode()) is None
    assert reader.passed_over == 3


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[1]",
        b"{" + b'"a":[' * 5000,
        b"no header\t1",
        json.dumps({**_FLOW, "src_ip": "nowhere"}).encode(),
        json.dumps({**_FLOW, "src_port": 1 << 16}).encode(),
        json.dumps({**_FLOW, "flow": {}}).encode(),
        json.dumps({**_FLOW, "flow": {**_FLOW["flow"], "bytes_toserver": -1}}).encode(),
        json.dumps({**_FLOW, "flow": {**_FLOW["flow"], "start": "2026-01-02T03:04:05"}}).encode(),
        b" " * (MAX_LINE + 1),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_and_the_next_one_read(line: bytes) -> None:
    reader = Reader()
    with pytest.raises(LogLineError):
        reader.feed(line)
    assert reader.feed(json.dumps(_FLOW).encode()) is not None


@given(st.binary(max_size=80))
def test_any_bytes_are_a_connection_or_nothing_or_a_refusal(line: bytes) -> None:
    reader = Reader()
    for header in _ZEEK.splitlines()[:-1]:
        reader.feed(header.encode())
    try:
        found = reader.feed(line)
    except LogLineError:
        return
    assert found is None or found.sent >= 0


def test_what_leaves_is_what_the_inside_host_sends_whoever_began() -> None:
    assert leaving(_SAID, _INSIDE) == _SAID
    outside = [ipaddress.ip_network("203.0.113.0/24")]
    turned = leaving(_SAID, outside)
    assert turned is not None
    assert (turned.source, turned.sent, turned.destination_port) == ("203.0.113.9", 700, 0)
    assert leaving(_SAID, _INSIDE + outside) is None
    assert leaving(_SAID, []) is None


def test_bills_are_read_from_the_outer_halfs_log() -> None:
    line = {"event": "request", "timestamp": "2026-01-02T03:04:05.000+00:00"}
    counted = {"completion_tokens": 40, "events": 12}
    assert billed(json.dumps(line | counted).encode()) == Bill(1767323045.0, (1.0, 40.0, 12.0))
    assert billed(b'{"event": "link_up"}') is None
    for broken in (b"{", json.dumps(line | {"completion_tokens": "many"}).encode()):
        with pytest.raises(LogLineError):
            billed(broken)


def test_bins_hold_every_byte_and_every_bill_once() -> None:
    long = Connection(50.0, 120.0, "tcp", "10.0.0.5", 1, "203.0.113.9", 443, 300)
    found = bins([long, _short(55.0, 100)], [Bill(170.0, (1.0, 10.0, 5.0))], 60.0)
    assert [one.start for one in found] == [0.0, 60.0, 120.0]
    assert [one.sent for one in found] == [200.0, 100.0, 100.0]
    assert [one.billed for one in found] == [(0.0,) * 3, (0.0,) * 3, (1.0, 10.0, 5.0)]
    assert bins([], [], 60.0) == []


def test_times_that_are_no_logs_are_refused() -> None:
    with pytest.raises(ConfigError):
        bins([_short(0.0, 1), _short(1e12, 1)], [], 60.0)
    with pytest.raises(ConfigError):
        bins([], [], 0.0)


def _short(start: float, sent: int) -> Connection:
    return Connection(start, 0.0, "tcp", "10.0.0.5", 1, "203.0.113.9", 443, sent)
