"""The diary, and that nothing but an operator's entry takes the latch off."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tidegate.clock import ManualClock
from tidegate.errors import LedgerError
from tidegate.gate.latch import Diary
from tidegate.gate.lease import Terms
from tidegate.gate.meter_port import Boundary, MeterError
from tidegate.gate.meter_watch import Watch
from tidegate.gate.published import Counts
from tidegate.gate.reconcile import Agree, CannotTell, Disagree, Finding, Verdict
from tidegate.ledger import Fault, InvalidEntryError, MemoryStore, SqliteStore
from tidegate.ledger.entries import next_head
from tidegate.ledger.state import Row

TERMS = Terms(lease_ns=1_000_000_000, settle_ns=10_000_000_000)


class Meters:
    """What the meters would say, as a test has it."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.lies = self.silent = self.moving = False
        self.zeroed = 0

    def zero(self) -> None:
        if self.silent:
            raise MeterError("the tap is gone")
        self.zeroed += 1

    def judge(self) -> Verdict:
        now = Boundary(1, int(1e9 * self.clock.monotonic()), "boot")
        if self.silent:
            return CannotTell(now, "the tap is gone")
        if self.lies:
            finding = Finding("all", "wire_bytes", (("kernel", 1, 1), ("tap", 2, 2)), ("tap",))
            return Disagree(now, ("tap",), (finding,))
        return Agree(now, settled=not self.moving, in_flight=1514 * self.moving)

    def settled(self) -> Verdict:
        return self.judge()

    def counts(self) -> tuple[Counts, ...]:
        return (Counts("kernel", 1, 86, 100), Counts("tap", 1, 86, 100 + self.lies))


class Bench:
    """A watch over a store, which may be restarted."""

    def __init__(self, store: MemoryStore | SqliteStore | None = None) -> None:
        self.clock = ManualClock()
        self.clock.advance(5)
        self.store = store or MemoryStore()
        self.meters = Meters(self.clock)
        self.restart()

    def restart(self) -> None:
        self.diary = Diary(self.store, self.clock, "boot")
        self.watch = Watch(self.meters, self.diary, TERMS, self.clock, "boot")

    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.diary.entries()]


def test_the_gate_opens_on_agreement_and_closes_a_lease_after_the_last() -> None:
    bench = Bench()
    assert bench.watch.permit() is not None
    bench.watch.turn()
    assert bench.watch.permit() is None
    bench.clock.advance(1.1)
    assert "in time" in (bench.watch.permit() or "")


def test_a_jump_of_the_wall_clock_moves_no_lease() -> None:
    bench = Bench()
    bench.watch.turn()
    bench.clock.jump(-86_400)
    assert bench.watch.permit() is None
    bench.clock.jump(10 * 86_400)
    bench.clock.advance(1.1)
    assert bench.watch.permit() is not None


def test_a_disagreement_is_written_with_its_evidence_and_latches() -> None:
    bench = Bench()
    bench.watch.turn()
    bench.meters.lies = True
    bench.watch.turn()
    assert "tap is wrong" in (bench.watch.permit() or "")
    disagreed = next(entry for entry in bench.diary.entries() if entry.kind == "disagreed")
    assert disagreed.text == "tap"
    assert disagreed.findings == ("wire_bytes of all: kernel 1, tap 2; tap is wrong",)


def test_what_each_meter_said_last_is_shown_beside_the_verdict() -> None:
    bench = Bench()
    assert not bench.watch.seen().agree
    bench.watch.turn()
    agreed = bench.watch.seen()
    assert (agreed.agree, agreed.settled, agreed.latched) == (True, True, None)
    assert agreed.lease_until_ns == 6_000_000_000
    bench.meters.lies = True
    bench.watch.turn()
    lied = bench.watch.seen()
    assert (lied.agree, lied.lease_until_ns) == (False, 0)
    assert "tap is wrong" in lied.verdict
    assert "tap is wrong" in (lied.latched or "")
    assert [counts.wire_bytes for counts in lied.meters] == [100, 101]


def test_the_latch_outlives_restarts_and_honest_meters() -> None:
    bench = Bench()
    bench.meters.lies = True
    bench.watch.turn()
    bench.meters.lies = False
    for _ in range(3):
        bench.restart()
        bench.watch.turn()
        assert "latched" in (bench.watch.permit() or "")


def test_a_reset_names_who_did_it_and_the_meters_begin_anew() -> None:
    bench = Bench()
    bench.watch.turn()
    bench.diary.latch("by hand")
    bench.watch.turn()
    with pytest.raises(LedgerError, match="names who"):
        bench.diary.reset(" ", "looked at it")
    assert "by hand" in (bench.watch.permit() or "")
    # From another process, as the command line would.
    Diary(bench.store, bench.clock, "boot").reset("Ada", "a cable was loose")
    assert bench.watch.permit() is not None
    bench.watch.turn()
    assert bench.watch.permit() is None
    assert bench.meters.zeroed == 2
    reset = next(entry for entry in bench.diary.entries() if entry.kind == "reset")
    assert (reset.who, reset.text) == ("Ada", "a cable was loose")


class Changing(Bench):
    """A watch whose meters can be opened again."""

    def restart(self) -> None:
        self.opened: list[Meters] = []
        self.diary = Diary(self.store, self.clock, "boot")
        self.watch = Watch(
            self.meters, self.diary, TERMS, self.clock, "boot", reopen=self._reopened
        )
        self.watch.turn()

    def _reopened(self) -> Meters:
        self.opened.append(Meters(self.clock))
        return self.opened[-1]


def test_a_change_that_is_made_puts_other_meters_in_place_once() -> None:
    bench = Changing()
    with bench.watch.changing():
        # What hangs on the old queue has nothing to say any more, and is not asked.
        bench.meters.silent = True
        assert bench.watch.permit() is not None
    bench.watch.turn()
    assert bench.watch.permit() is None
    assert [made.zeroed for made in bench.opened] == [1]


def test_meters_that_fall_silent_after_a_change_are_not_forgiven() -> None:
    bench = Changing()
    with bench.watch.changing():
        pass
    bench.watch.turn()
    bench.opened[0].silent = True
    for _ in range(3):
        bench.watch.turn()
        assert "tap is gone" in (bench.watch.permit() or "")
    assert len(bench.opened) == 1


def test_a_lie_that_a_change_would_wipe_out_is_found_before_it() -> None:
    bench = Changing()
    bench.meters.lies = True
    with pytest.raises(MeterError, match="tap is wrong"), bench.watch.changing():
        pytest.fail("nothing may be changed")
    assert bench.diary.latched() is not None
    assert bench.opened == []


@pytest.mark.parametrize("fault", ["moving", "silent"])
def test_nothing_is_changed_that_the_meters_were_not_compared_to_the_byte_before(
    fault: str,
) -> None:
    bench = Changing()
    setattr(bench.meters, fault, True)
    with pytest.raises(MeterError), bench.watch.changing():
        pytest.fail("nothing may be changed")
    setattr(bench.meters, fault, False)
    bench.watch.turn()
    assert bench.watch.permit() is None
    assert (bench.opened, bench.diary.latched()) == ([], None)


def test_what_is_not_latched_cannot_be_reset() -> None:
    with pytest.raises(LedgerError, match="not latched"):
        Bench().diary.reset("Ada", "to be sure")


def test_an_incident_latches_at_the_next_heartbeat() -> None:
    bench = Bench()
    bench.watch.turn()
    Diary(bench.store, bench.clock, "boot").latch("weights were seen")
    assert bench.watch.permit() == "latched: weights were seen"


def test_silent_meters_close_the_gate_and_it_opens_when_they_speak() -> None:
    bench = Bench()
    bench.meters.silent = True
    bench.watch.turn()
    assert bench.watch.permit() == "the tap is gone"
    bench.meters.silent = False
    bench.watch.turn()
    assert bench.watch.permit() is None
    bench.meters.silent = True
    bench.watch.turn()
    assert bench.watch.permit() == "the tap is gone"
    assert bench.kinds() == ["begun", "opened", "closed"]


@pytest.mark.parametrize("fault", Fault)
def test_a_disk_that_fails_at_any_write_never_opens_a_lying_gate(fault: Fault) -> None:
    for failing in range(6):
        bench = Bench(MemoryStore(lambda n, at=failing: fault if n == at else None))
        bench.watch.turn()
        bench.meters.lies = True
        bench.watch.turn()
        bench.watch.turn()
        bench.meters.lies = False
        assert bench.watch.permit() is not None
        bench.watch.turn()
        assert bench.watch.permit() is not None
        # Whatever became of the write, a restart finds the latch.
        bench.restart()
        assert "latched" in (bench.watch.permit() or "")


def test_a_diary_that_was_altered_is_not_believed() -> None:
    bench = Bench()
    bench.diary.latch("by hand")
    honest = bench.store.read(0, 1)[0].entry
    for forged in (
        honest.replace(b"by hand", b"by land"),
        honest.replace(b'"latched"', b'"reset"'),
        honest + b" ",
        b"{}",
    ):
        store = MemoryStore()
        row = Row(forged, bench.store.read(0, 1)[0].head)
        store.append(store.tip(), [row])
        with pytest.raises(InvalidEntryError):
            Diary(store, bench.clock, "boot")
    # Even with a head that fits, an entry has one spelling.
    store = MemoryStore()
    spaced = msgspec.json.format(honest, indent=1)
    store.append(store.tip(), [Row(spaced, next_head(store.tip().head, spaced))])
    with pytest.raises(InvalidEntryError, match="canonical"):
        Diary(store, bench.clock, "boot")


def test_a_diary_that_was_rolled_back_closes_the_gate() -> None:
    bench = Bench()
    bench.watch.turn()
    assert bench.watch.permit() is None
    rolled = MemoryStore()
    rolled.append(rolled.tip(), bench.store.read(0, 1))
    bench.diary._store = rolled
    assert "rewritten" in (bench.watch.permit() or "")


def test_the_diary_is_kept_in_a_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "diary.sqlite")
    bench = Bench(store)
    bench.diary.latch("by hand")
    position = bench.diary.position
    store.close()
    again = SqliteStore(tmp_path / "diary.sqlite")
    diary = Diary(again, bench.clock, "boot")
    assert (diary.position, diary.latched()) == (position, "by hand")
    again.close()
