from __future__ import annotations

import msgspec
import pytest

from tidegate.console.headline import Part, headline
from tidegate.console.picture import (
    Account,
    Budget,
    Gate,
    Grants,
    Link,
    Meter,
    Missing,
    Mood,
    Verification,
    Waiting,
)

ACCOUNT = Account(scope="total", spent=1, reserved=0, left=10, a_second=0.0, empty_in_s=None)
BUDGET = Budget(
    accounts=(ACCOUNT,),
    history=(),
    entries=3,
    weight_bits=None,
    exfiltrate_s=None,
    exfiltrate_cap_s=None,
)
LINK = Link(
    model="m",
    edges_up={"inner→outside": True},
    streams=0,
    slots=4,
    tokens=0,
    bits=0,
    padding_bits=0,
    bits_a_token=None,
    uses=(),
    refusals={},
    incidents={},
)
VERIFICATION = Verification(
    outcome="pass",
    reason="",
    answers=1,
    tokens=1,
    scored=1,
    match_rate=1.0,
    leak_share=0.0,
    leak_bits_a_token=0.0,
    tests=(),
    findings={},
    written=0.0,
)
GATE = Gate(
    open=True,
    reason="",
    agreement="all agree",
    meters=(Meter(name="tap", counted=1, agrees=True),),
    classes=(),
)
WAITING = Waiting(
    id="1",
    who="alice",
    why="x",
    shards="2 shards of m",
    lasts_s=1.0,
    asked=0.0,
    have={},
    need={},
    digest="",
    break_glass=True,
)
GOOD: dict[str, Part] = {
    "budget": BUDGET,
    "link": LINK,
    "verification": VERIFICATION,
    "gate": GATE,
    "grants": Grants(waiting=(), leases=()),
}


def test_calm_needs_everything_known_and_good() -> None:
    assert headline(GOOD, {}).mood is Mood.GOOD
    assert headline(GOOD, {"low": 3}).mood is Mood.GOOD


def changed(part: Part, **changes: object) -> Part:
    return msgspec.structs.replace(part, **changes)


@pytest.mark.parametrize(
    ("name", "part", "mood", "says"),
    [
        ("gate", Missing(reason="no word"), Mood.UNKNOWN, "gate: no word"),
        ("budget", changed(BUDGET, accounts=(changed(ACCOUNT, left=0),)), Mood.BAD, "used up"),
        (
            "budget",
            changed(BUDGET, accounts=(changed(ACCOUNT, empty_in_s=600.0),)),
            Mood.WATCH,
            "lasts 10 minutes",
        ),
        ("link", changed(LINK, edges_up={"a→b": False}), Mood.BAD, "a→b is down"),
        (
            "verification",
            changed(VERIFICATION, outcome="fail", reason="other_token"),
            Mood.BAD,
            "other_token",
        ),
        (
            "verification",
            changed(VERIFICATION, outcome="cannot_verify", reason="no profile"),
            Mood.UNKNOWN,
            "no profile",
        ),
        ("gate", changed(GATE, open=False, reason="latched"), Mood.BAD, "latched"),
        (
            "gate",
            changed(GATE, meters=(Meter(name="tap", counted=2, agrees=False),)),
            Mood.BAD,
            "tap",
        ),
        (
            "gate",
            changed(GATE, meters=(Meter(name="tap", counted=None, agrees=None),)),
            Mood.UNKNOWN,
            "tap",
        ),
        ("grants", Grants(waiting=(WAITING,), leases=()), Mood.BAD, "broke the glass"),
    ],
)
def test_whatever_is_wrong_or_unknown_is_said(name: str, part: Part, mood: Mood, says: str) -> None:
    told = headline(GOOD | {name: part}, {})
    assert told.mood is mood
    assert any(says in reason for reason in told.because)


def test_the_worst_comes_first() -> None:
    parts = GOOD | {"gate": Missing(reason="no word"), "link": changed(LINK, edges_up={"e": False})}
    told = headline(parts, {"medium": 1})
    assert told.mood is Mood.BAD
    assert told.because == ("the link over e is down", "1 medium alert", "gate: no word")


def test_a_part_that_nobody_set_up_says_nothing() -> None:
    assert headline({"gate": Missing(reason="not set up", wanted=False)}, {}).mood is Mood.GOOD
