"""Where the picture comes from: known, or missing with a reason, never an old figure for a new."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path

import pytest

from tidegate.cli.console import _logged
from tidegate.cli.console_settings import gate_of
from tidegate.clock import ManualClock
from tidegate.console.actions import Actions
from tidegate.console.errors import ConsoleError, SourceError
from tidegate.console.event import Asked, Event
from tidegate.console.events import Events
from tidegate.console.headline import Part
from tidegate.console.hub import Hub
from tidegate.console.picture import Gate, Missing
from tidegate.console.source_json import Findings, StatusFile
from tidegate.console.source_ledger import LedgerSource
from tidegate.console.source_metrics import MetricsSource
from tidegate.console.sources import Reading
from tidegate.ledger import Budget, Budgets, Ledger, Rolling, SqliteStore
from tidegate.serve.telemetry import Metrics
from tidegate.transparency.entry import Kind
from tidegate.transparency.errors import LogError
from tidegate.transparency.log import Log
from tidegate.transparency.store_memory import MemoryStore
from tidegate.units import Bits

EDGE = "inner→outside"
BUDGETS = Budgets(
    name="test",
    total=Budget(lifetime=1_000_000, windows=(Rolling(3600, 100_000),)),
    edges=((EDGE, Budget()),),
    principal=Budget(),
)
GATE = Gate(open=True, reason="", agreement="all agree", meters=(), classes=())


class Fixed:
    def __init__(self, part: Part) -> None:
        self.part = part

    def read(self) -> Part:
        return self.part


class Broken:
    def read(self) -> Part:
        raise SourceError("it is gone")


class Slow:
    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = 0

    def read(self) -> Part:
        self.asked += 1
        self.go.wait(10)
        return GATE


async def test_a_slow_source_is_missing_holds_up_no_other_and_is_not_asked_twice() -> None:
    slow = Slow()
    reading = Reading({"slow": slow, "gate": Fixed(GATE), "gone": Broken()}, patience=0.05)
    for _ in range(3):
        parts = await reading.read()
        assert parts["gate"] == GATE
        assert parts["gone"] == Missing(reason="it is gone")
        assert parts["slow"] == Missing(reason="it did not answer within 0.05 s")
    assert slow.asked == 1
    slow.go.set()
    for _ in range(100):
        if (await reading.read())["slow"] == GATE:
            return
    raise AssertionError("a source that answers again stays missing")


def test_the_ledger_is_read_beside_its_writer_and_never_made(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.sqlite", ManualClock()
    source = LedgerSource(path, BUDGETS, clock, weight_bits=2_000_000)
    with pytest.raises(SourceError, match="no ledger"):
        source.read()
    assert not path.exists()

    ledger = Ledger(SqliteStore(path), BUDGETS, clock)
    held = ledger.reserve("team", EDGE, Bits(5000))
    first = source.read()
    assert (first.accounts[0].spent, first.accounts[0].reserved) == (0, 5000)
    assert first.accounts[0].left == 95_000
    ledger.commit(held, Bits(3000))
    clock.advance(10)
    second = source.read()
    assert [one.scope for one in second.accounts] == ["total", f"edge:{EDGE}", "principal:team"]
    assert second.accounts[0].a_second == pytest.approx(300)
    assert second.accounts[0].empty_in_s == pytest.approx(97_000 / 300)
    assert second.exfiltrate_s == pytest.approx(2_000_000 / 300)
    assert second.exfiltrate_cap_s is None  # the lifetime cap is half of the weights
    assert second.history[-1][1] == 3000


def test_a_ledger_that_was_rewritten_is_said_to_be_broken(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.sqlite", ManualClock()
    ledger = Ledger(SqliteStore(path), BUDGETS, clock)
    ledger.charge("team", EDGE, Bits(10), "x")
    source = LedgerSource(path, BUDGETS, clock, weight_bits=None)
    source.read()
    for left in path.parent.iterdir():
        left.unlink()
    Ledger(SqliteStore(path), BUDGETS, clock)
    again = LedgerSource(path, BUDGETS, clock, weight_bits=None)
    again.read()
    source._store = again._store  # the same file, as the console has it open
    with pytest.raises(SourceError):
        source.read()


def test_metrics_become_bits_a_token_by_principal() -> None:
    metrics = Metrics()
    metrics.link(EDGE, up=True)
    for who, tokens, bits in (("team-a", 100, 400), ("team-b", 50, 100)):
        metrics.tokens("completion", who, tokens)
        metrics.tokens("prompt", who, 999)
        metrics.uploaded(EDGE, who, Bits(bits))
    metrics.padded(EDGE, Bits(20))
    metrics.incident("replay_mismatch")
    metrics.refused("budget_exceeded")
    link = MetricsSource(lambda: metrics.render().decode(), model="m", slots=8).read()
    assert link.edges_up == {EDGE: True}
    assert link.bits_a_token == pytest.approx(500 / 150)
    assert [(use.principal, use.bits_a_token) for use in link.uses] == [
        ("team-a", 4),
        ("team-b", 2),
    ]
    assert link.padding_bits == 20
    assert link.incidents == {"replay_mismatch": 1}
    assert link.refusals == {"budget_exceeded": 1}


@pytest.mark.parametrize("text", ["<html>", "tidegate_x{", "\x00", 'tidegate_link_up{a="b"} x'])
def test_what_is_no_metrics_is_missing_or_empty(text: str) -> None:
    try:
        link = MetricsSource(lambda: text, model="m", slots=None).read()
    except SourceError:
        return
    assert link.tokens == 0


def test_an_old_status_is_not_shown_as_the_present(tmp_path: Path) -> None:
    path, clock = tmp_path / "status.json", ManualClock()
    source = StatusFile(path, lambda raw: Fixed(GATE).read(), clock, said_by="the gate")
    with pytest.raises(SourceError, match="no status yet"):
        source.read()
    path.write_text("{}")
    os.utime(path, (clock.now(), clock.now()))
    assert source.read() == GATE
    clock.advance(31)
    with pytest.raises(SourceError, match="nothing for 31 s"):
        source.read()


@pytest.mark.parametrize("raw", ["", "[", "[]", "null", "{}", '{"open": 1, "meters": [3]}'])
def test_a_damaged_status_is_missing(tmp_path: Path, raw: str) -> None:
    path, clock = tmp_path / "status.json", ManualClock()
    path.write_text(raw)
    os.utime(path, (clock.now(), clock.now()))
    with pytest.raises(SourceError, match="no status"):
        StatusFile(path, gate_of, clock, said_by="the gate").read()


def finding(uid: str) -> bytes:
    body = {
        "finding_info": {"uid": uid, "title": f"finding {uid}", "types": ["weights"]},
        "time": 1_700_000_000_000,
        "severity_id": 4,
        "resources": [{"name": "team"}],
    }
    return json.dumps(body).encode() + b"\n"


def uids(events: tuple[Event, ...]) -> list[str]:
    return [event.uid for event in events]


def test_findings_are_told_as_they_are_appended_torn_lines_later(tmp_path: Path) -> None:
    path = tmp_path / "findings.jsonl"
    feed = Findings(path, source="gate")
    assert feed.read() == ()
    line = finding("b")
    path.write_bytes(finding("a") + line[:20])
    assert uids(feed.read()) == ["a"]
    assert feed.read() == ()
    with path.open("ab") as file:
        file.write(line[20:])
    (told,) = feed.read()
    assert (told.uid, told.subject, told.severity, told.kind) == ("b", "team", 4, "weights")


def test_a_file_that_was_replaced_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "findings.jsonl"
    feed = Findings(path, source="gate")
    path.write_bytes(finding("a") + finding("b"))
    feed.read()
    fresh = tmp_path / "fresh"
    fresh.write_bytes(finding("c"))
    fresh.replace(path)
    assert uids(feed.read()) == ["c"]
    path.write_bytes(b"")
    assert feed.read() == ()


@pytest.mark.parametrize("line", [b"garbage", b"{}", b"[1]", b'{"finding_info": 3}', b"\xff\xfe"])
def test_a_line_that_is_no_finding_is_an_alert_itself(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "findings.jsonl"
    path.write_bytes(line + b"\n" + finding("a"))
    first, second = Findings(path, source="gate").read()
    assert (first.kind, first.severity) == ("unreadable", 4)
    assert second.uid == "a"


async def test_actions_go_into_the_transparency_log_before_they_are_done(tmp_path: Path) -> None:
    store, clock = MemoryStore(), ManualClock()
    log, events, hub = Log(store, clock), Events(tmp_path / "events.sqlite"), Hub()
    actions = Actions(events, hub, clock, _logged(log))
    await actions.did("olga", "closed_alert", "7")
    (entry,) = log.entries()
    assert entry.entry.kind is Kind.ACTION
    assert entry.entry.body == {"who": "olga", "action": "closed_alert", "what": "7"}
    store.append = _full  # type: ignore[method-assign]
    with pytest.raises(ConsoleError):
        await actions.did("olga", "closed_alert", "8")
    assert len(events.page(Asked()).events) == 1


def _full(*_: object) -> None:
    raise LogError("the disk is full")


async def test_viewers_see_the_last_picture_first_and_all_that_follows() -> None:
    hub = Hub()
    hub.picture(b'{"n":1}')
    watching = hub.watch(10)
    assert await anext(watching) == b'event: picture\ndata: {"n":1}\n\n'
    hub.event(b'{"n":2}')
    assert await anext(watching) == b'event: event\ndata: {"n":2}\n\n'
    assert hub.viewers == 1
    hub.close()
    with pytest.raises(StopAsyncIteration):
        await anext(watching)
    assert hub.viewers == 0


async def test_a_viewer_who_does_not_keep_up_is_let_go_and_holds_up_nobody() -> None:
    hub = Hub()
    slow, quick = hub.watch(10), hub.watch(10)
    hub.picture(b"{}")
    await anext(slow)
    await anext(quick)
    for _ in range(1000):
        hub.picture(b"{}")
        await anext(quick)
    with pytest.raises(StopAsyncIteration):
        await anext(slow)


async def test_a_quiet_stream_beats() -> None:
    hub = Hub()
    watching = hub.watch(0.01)
    assert await asyncio.wait_for(anext(watching), 5) == b":\n\n"


def test_the_speed_is_what_crosses_where_that_is_known(tmp_path: Path) -> None:
    path, clock, crossed = tmp_path / "ledger.sqlite", ManualClock(), [1000]
    Ledger(SqliteStore(path), BUDGETS, clock)
    source = LedgerSource(path, BUDGETS, clock, weight_bits=None, crossed=lambda: crossed[0])
    source.read()
    clock.advance(10)
    crossed[0] = 3000
    total = source.read().accounts[0]
    assert (total.spent, total.a_second) == (0, pytest.approx(200))
    clock.advance(10)
    crossed[0] = 5  # the outer half began anew
    assert source.read().accounts[0].a_second == 0


def test_the_gates_status_is_shown_with_the_meter_that_lies() -> None:
    counts = [
        {"meter": name, "frames": 1, "ip_bytes": 80, "wire_bytes": size}
        for name, size in (("kernel", 94), ("ledger", 94), ("tap", None))
    ]
    meters = {
        "verdict": "kernel lies",
        "agree": False,
        "settled": False,
        "in_flight": 0,
        "counts": counts,
        "lease_s": 0.0,
        "closed": "",
        "latched": "meters disagreed",
        "ledger_spent": 94,
        "ledger_reserved": 0,
    }
    row = {"name": "api", "charged": 94, "nft": 90, "wire": 94, "granted": 200}
    raw = {
        "open": True,
        "reason": "",
        "controller": 7,
        "told_s": 0.5,
        "rows": [row | {"quota": 1000, "left": 906}],
        "meters": meters,
        "dropped": {},
    }
    shown = gate_of(raw)
    assert isinstance(shown, Gate)
    assert not shown.open
    assert shown.reason == "meters disagreed"
    assert [(one.name, one.counted, one.agrees) for one in shown.meters] == [
        ("kernel", 94, False),
        ("ledger", 94, None),
        ("tap", None, None),
    ]
    assert shown.classes == ({"name": "api", "used": 94, "quota": 1000},)
    assert gate_of(raw | {"meters": None}) != shown
