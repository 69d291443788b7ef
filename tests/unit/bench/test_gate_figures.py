"""The gate's figures say what their trials said, and refuse trials that show nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from tidegate.bench import gate, gate_thief, gate_trials
from tidegate.bench.gate_trials import Killed, Spent
from tidegate.cli.bench_gate import PARTS
from tidegate.cli.main import app
from tidegate.errors import TidegateError
from tidegate.redteam.thief import Result


def silent(*_: object) -> None:
    """Tells nobody."""


def theft(
    name: str, received: int, *, secret: int = 10, timing_bits: float = 0.0, missed: int = 0
) -> Result:
    return Result(
        attack=name,
        says="tries",
        sent=9_999,
        received=received,
        frames=3,
        secret=secret,
        timing_bits=timing_bits,
        cap=1_000,
        ledger=received - missed,
    )


def always(value: object) -> Callable[..., object]:
    return lambda *_, **__: value


def test_the_worst_thief_decides_and_less_than_the_cap_is_nothing_over() -> None:
    held = gate_thief.figures([theft("bulk", 990), theft("drip", 40)])
    assert held["thief_over_cap"].value == 0
    assert all(figure.holds is not False for figure in held.values())
    broken = gate_thief.figures([theft("bulk", 990), theft("icmp", 1_066)])
    assert broken["thief_over_cap"].value == 66
    assert broken["thief_over_cap"].holds is False
    assert "icmp" in broken["thief_over_cap"].how


def test_what_a_thief_says_by_time_counts_beside_his_bytes() -> None:
    said = theft("timing", 900, secret=900, timing_bits=2_000.0)
    assert said.over == 150
    assert gate_thief.figures([said])["thief_over_cap"].holds is False


def test_bytes_that_the_ledger_misses_are_a_failure() -> None:
    figures = gate_thief.figures([theft("bulk", 990, missed=1)])
    assert figures["thief_uncharged"].value == 1
    assert figures["thief_uncharged"].holds is False


def test_thieves_who_get_nowhere_show_nothing() -> None:
    assert gate_thief.figures([theft("bulk", 500)])["thief_used_of_cap"].holds is False


def test_a_row_of_a_theft_has_his_bytes_and_the_ledgers() -> None:
    row = gate_thief.figures([theft("bulk", 990, missed=-1)])["thief.bulk"]
    assert row.value == 990
    assert "991" in row.how


def test_a_cap_that_was_not_reached_is_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_trials, "overshoot", always(Spent(400_000, 10, 10_000)))
    with pytest.raises(TidegateError, match="too busy"):
        gate.overshoot(silent)


def test_packets_above_a_cap_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_trials, "overshoot", always(Spent(400_000, 10, 400_001)))
    whole = Spent(4_000_000, 10, 4_000_000 + 3 * 65_536)
    monkeypatch.setattr(gate_trials, "overshoot_with_offload", always(whole))
    figures = gate.overshoot(silent)
    assert figures["overshoot_packets"].value == 1
    assert figures["overshoot_super_packets"].value == 3
    assert not any(figure.holds for figure in figures.values())


def test_reloads_that_nobody_tried_to_use_are_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_trials, "leak_through_reloads", always((0, 0)))
    with pytest.raises(TidegateError, match="show nothing"):
        gate.reloads(5, silent)
    monkeypatch.setattr(gate_trials, "leak_through_reloads", always((42, 900)))
    assert gate.reloads(5, silent)["reload_leak_bytes"].holds is False


def test_a_byte_forgotten_after_a_kill_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_trials, "kill_and_count", always(Killed(5, 101, 100, 1)))
    monkeypatch.setattr(gate_trials, "torn_writes", always((300, 0)))
    figures = gate.kills(5, silent)
    assert figures["undercounted_after_kills"].holds is False
    assert figures["undercounted_after_torn_writes"].holds


def test_the_longest_of_the_deaths_is_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((0.4, 1.2, 0.5))
    monkeypatch.setattr(gate_trials, "stop_after_kill", lambda: next(times))
    assert gate.heartbeat(3, silent)["stop_s"].value == 1.2


def test_a_rate_too_low_is_as_wrong_as_one_too_high(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_trials, "rate_held", always(0.97))
    assert gate.rate(silent)["rate_error"].value == pytest.approx(0.03)


def test_a_part_that_there_is_not_is_named() -> None:
    done = CliRunner().invoke(app, ["bench", "gate", "--only", "luck"])
    assert isinstance(done.exception, TidegateError)
    assert "there is no part 'luck'" in done.exception.message
    assert all(name in done.exception.message for name in PARTS)
