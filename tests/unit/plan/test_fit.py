"""A scenario from a running system: sums that can be done by hand, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from plan_scenarios import small

from tidegate.errors import ConfigError
from tidegate.ledger.budgets import Budget, Budgets, Rolling
from tidegate.ledger.entries import Charge, Command, Commit, Entry, Extend, Open, Release, Reserve
from tidegate.plan.fit import Charged, charged, fitted, verdict
from tidegate.plan.scenario import Quantity, Scenario, read
from tidegate.plan.written import to_toml

DAY = 86_400_000
INNER, OUTER = "inner→intermediate", "intermediate→outside"
CAP = Budget(windows=(Rolling(3600, 1_000), Rolling(86_400, 20_000)))
BUDGETS = Budgets(name="x", total=CAP, edges=((INNER, CAP), (OUTER, CAP)), principal=CAP)


def _log(*commands: tuple[float, Command]) -> Iterator[Entry]:
    """Entries at so many days."""
    for n, (day, command) in enumerate(commands):
        yield Entry(n=n, time=0, wall=1_000 + int(day * DAY), does=command)


def _two_days() -> Charged:
    """On the first day 4,000 bits to outside and 1,000 more to within, on the second 6,000."""
    return charged(
        _log(
            (0, Open(BUDGETS)),
            (0.1, Reserve("a", INNER, 9_000)),
            (0.1, Reserve("a", OUTER, 4_000)),
            (0.2, Extend(1, 1)),
            (0.5, Commit(1, 5_000)),
            (0.5, Commit(2, 4_000)),
            (0.6, Reserve("b", OUTER, 700)),
            (0.7, Release(6)),
            (1.5, Charge("a", INNER, 6_000, "x")),
            (1.5, Charge("a", OUTER, 6_000, "x")),
            (2.0, Reserve("c", OUTER, 30)),
        )
    )


def _report(**changes: object) -> bytes:
    body: dict[str, object] = {
        "tool": "tidegate verify",
        "verified": {"exact": False, "rate": "1/10", "by": "message"},
        "responses": 50,
        "tokens": 5_500,
        "scored_tokens": 1_000,
        "suspicious": 3,
        "dangerous": 1,
        "leak": {"share": 0.004},
        "scopes": [{"scope": "principal", "share": 0.01}, {"scope": "principal", "share": None}],
        "something_new": 1,
    }
    return msgspec.json.encode(body | changes)


def _fitted(*reports: bytes, ledger: Charged | None = None) -> tuple[Scenario, tuple[str, ...]]:
    verdicts = [verdict(raw, "r.json") for raw in reports]
    return fitted(small(), ledger or _two_days(), verdicts, parameters=None)


def test_a_ledger_is_added_up_by_day_and_edge() -> None:
    told = _two_days()
    assert told.out == (4_000, 6_000)
    assert told.all_bits == 11_000
    assert told.days == pytest.approx(2.0)
    assert told.held == 30


def test_the_daily_cap_is_the_tightest_window_of_the_outermost_edge() -> None:
    # 1,000 an hour would be 24,000 a day; the day's own window is tighter.
    assert _two_days().cap == 20_000


def test_bits_a_token_and_tokens_a_day_come_from_ledger_and_verdict() -> None:
    scenario, _ = _fitted(_report())
    assert scenario.at("link.bits_per_token") == pytest.approx(2.0)
    tokens = scenario.values["traffic.tokens"]
    assert tokens.value == pytest.approx(2_750)
    assert (tokens.low, tokens.high) == (pytest.approx(2_200), pytest.approx(3_300))
    assert scenario.at("zones.internal_share") == pytest.approx(1 / 11)
    assert scenario.at("link.cap") == 20_000
    assert "link.headroom" not in scenario.values
    assert scenario.at("traffic.answer_tokens") == pytest.approx(110)


def test_the_residual_reaches_to_the_widest_client() -> None:
    scenario, _ = _fitted(_report())
    residual = scenario.values["verification.residual"]
    assert (residual.value, residual.high) == (0.004, 0.01)
    assert scenario.at("verification.audit_rate") == pytest.approx(0.1)
    assert scenario.at("verification.honest_flags") == pytest.approx(0.004)


def test_an_exact_verifier_flags_no_honest_token_and_misses_none_of_his() -> None:
    verified = {"exact": True, "rate": "1", "by": "message"}
    scenario, _ = _fitted(_report(verified=verified, leak={"share": 0.0}, scopes=[]))
    assert scenario.at("verification.honest_flags") == 0
    assert scenario.at("verification.detection_power") == 1
    assert scenario.at("verification.residual") == 0


def test_a_report_that_bounds_nothing_counts_as_unverified() -> None:
    scenario, notes = _fitted(_report(leak=None))
    assert scenario.at("verification.audit_rate") == 0
    assert scenario.at("verification.residual") == 1
    assert any("taken for unverified" in note for note in notes)


def test_every_fitted_value_says_how_it_was_measured() -> None:
    scenario, _ = _fitted(_report())
    for name in ("link.bits_per_token", "link.cap", "traffic.tokens", "verification.residual"):
        quantity: Quantity = scenario.values[name]
        assert quantity.source.startswith("measured: ")
        assert quantity.given


def test_a_fitted_scenario_is_one_that_can_be_read() -> None:
    scenario, _ = _fitted(_report())
    assert read(to_toml(scenario), "x").values == scenario.values


def test_a_short_burst_is_held_to_the_cap_and_its_range_says_so() -> None:
    burst = charged(
        _log(
            (0, Open(BUDGETS)),
            (0, Charge("a", INNER, 9_000, "x")),
            (0, Charge("a", OUTER, 9_000, "x")),
            (0.01, Open(BUDGETS)),
        )
    )
    scenario, _ = _fitted(_report(), ledger=burst)
    tokens = scenario.values["traffic.tokens"]
    assert tokens.value * scenario.at("link.bits_per_token") == pytest.approx(20_000)
    assert tokens.high == pytest.approx(2 * tokens.value)
    assert "held to what the cap carries" in tokens.source
    assert read(to_toml(scenario), "x").at("link.cap") == 20_000


def test_without_a_verdict_traffic_stays_the_bases_and_a_note_says_so() -> None:
    scenario, notes = _fitted()
    assert scenario.at("traffic.tokens") == small().at("traffic.tokens")
    assert any("no verdict" in note for note in notes)
    assert any(note.startswith("attacker.lossless_compression: kept") for note in notes)


def test_a_verdict_over_other_traffic_is_refused() -> None:
    with pytest.raises(ConfigError, match="more than one can say"):
        _fitted(_report(tokens=100))


def test_an_idle_ledger_is_refused() -> None:
    idle = charged(_log((0, Open(BUDGETS)), (3, Open(BUDGETS))))
    with pytest.raises(ConfigError, match="charged nothing"):
        _fitted(_report(), ledger=idle)


def test_an_empty_ledger_is_refused() -> None:
    with pytest.raises(ConfigError, match="no entry"):
        charged(())


@pytest.mark.parametrize("raw", [b"{}", b"[1]", b"not json", b'{"tool": "x"}'])
def test_what_is_no_report_is_refused_by_name(raw: bytes) -> None:
    with pytest.raises(ConfigError, match=r"r\.json"):
        verdict(raw, "r.json")


def test_another_tools_report_is_refused() -> None:
    with pytest.raises(ConfigError, match="not of tidegate verify"):
        verdict(_report(tool="else"), "r.json")
