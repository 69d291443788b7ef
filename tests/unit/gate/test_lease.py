"""How long the gate stays open on what its meters said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.gate.lease import Allowed, Event, Judged, Lease, Stopped, Terms, decide, refusal
from tidegate.gate.meter_port import Boundary
from tidegate.gate.reconcile import Agree, CannotTell, Disagree, Finding, Verdict

TERMS = Terms(lease_ns=1_000, settle_ns=10_000)
FRESH = Lease("boot")


def _at(now: int, boot: str = "boot") -> Boundary:
    return Boundary(1, now, boot)


def _settled(now: int) -> Judged:
    return Judged(Agree(_at(now), settled=True, in_flight=0), now)


def _moving(now: int) -> Judged:
    return Judged(Agree(_at(now), settled=False, in_flight=1514), now)


def _disagree(now: int) -> Judged:
    finding = Finding("all", "wire_bytes", (("kernel", 1, 1), ("tap", 2, 2)), ("tap",))
    return Judged(Disagree(_at(now), ("tap",), (finding,)), now)


def test_a_gate_whose_meters_were_never_asked_is_closed() -> None:
    assert refusal(FRESH, "boot", 0) is not None


def test_agreement_opens_for_one_lease_and_no_longer() -> None:
    lease = decide(FRESH, TERMS, _settled(100))
    assert refusal(lease, "boot", 1_099) is None
    assert refusal(lease, "boot", 1_100) is not None


def test_disagreement_closes_at_once_and_stays_until_somebody_allows_it() -> None:
    lease = decide(decide(FRESH, TERMS, _settled(100)), TERMS, _disagree(200))
    assert "tap" in (refusal(lease, "boot", 200) or "")
    lease = decide(lease, TERMS, _settled(300))
    assert refusal(lease, "boot", 300) is not None
    # An operator's word alone opens nothing either: the meters have to agree first.
    lease = decide(lease, TERMS, Allowed())
    assert refusal(lease, "boot", 400) is not None
    assert refusal(decide(lease, TERMS, _settled(500)), "boot", 500) is None


def test_what_cannot_be_told_closes_and_agreement_opens_again() -> None:
    lease = decide(FRESH, TERMS, _settled(100))
    lease = decide(lease, TERMS, Judged(CannotTell(_at(200), "the tap is gone"), 200))
    assert refusal(lease, "boot", 201) == "the tap is gone"
    assert refusal(decide(lease, TERMS, _settled(300)), "boot", 301) is None


def test_traffic_that_never_rests_closes_the_gate_until_it_does() -> None:
    lease = decide(FRESH, TERMS, _settled(1))
    assert refusal(decide(lease, TERMS, _moving(10_000)), "boot", 10_000) is None
    lease = decide(lease, TERMS, _moving(10_002))
    assert "rest" in (refusal(lease, "boot", 10_002) or "")
    assert refusal(decide(lease, TERMS, _settled(10_100)), "boot", 10_100) is None


def test_meters_that_never_agreed_to_the_byte_do_not_open_the_gate() -> None:
    assert refusal(decide(FRESH, TERMS, _moving(5)), "boot", 5) is not None


def test_an_incident_latches() -> None:
    lease = decide(decide(FRESH, TERMS, _settled(100)), TERMS, Stopped("weights were seen"))
    assert refusal(lease, "boot", 100) == "latched: weights were seen"


@pytest.mark.parametrize("now", [99, 0])
def test_a_monotonic_clock_that_went_back_closes(now: int) -> None:
    lease = decide(FRESH, TERMS, _settled(100))
    assert refusal(lease, "boot", now) is not None
    assert refusal(decide(lease, TERMS, _settled(now)), "boot", 100) is not None


def test_a_lease_is_worth_nothing_after_a_reboot() -> None:
    lease = decide(FRESH, TERMS, _settled(100))
    assert refusal(lease, "another", 150) is not None
    later = Judged(Agree(_at(150, "another"), settled=True, in_flight=0), 150)
    assert refusal(decide(lease, TERMS, later), "boot", 150) is not None


_VERDICTS: dict[str, Verdict] = {
    "settled": Agree(_at(0), settled=True, in_flight=0),
    "moving": Agree(_at(0), settled=False, in_flight=9),
    "unknown": CannotTell(_at(0), "no"),
    "disagree": _disagree(0).verdict,
}


@given(
    st.lists(
        st.tuples(st.sampled_from([*_VERDICTS, "stopped", "allowed"]), st.integers(0, 3_000)),
        max_size=30,
    )
)
def test_it_is_open_only_on_an_agreement_younger_than_a_lease(
    story: list[tuple[str, int]],
) -> None:
    lease, now, agreed, latched = FRESH, 1, None, False
    for what, passed in story:
        now += passed
        event: Event
        if what == "stopped":
            event, latched = Stopped("incident"), True
        elif what == "allowed":
            event, latched, agreed = Allowed(), False, None
        else:
            verdict = replace(_VERDICTS[what], boundary=_at(now))
            event = Judged(verdict, now)
            latched = latched or what == "disagree"
            agreed = now if what in ("settled", "moving") and not latched else None
        lease = decide(lease, TERMS, event)
        if refusal(lease, "boot", now) is None:
            assert not latched
            assert agreed is not None
            assert now - agreed < TERMS.lease_ns
