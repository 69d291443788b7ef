"""What a verification comes to: three outcomes, finite numbers, and formats that others read."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from tidegate.units import Timestamp
from tidegate.verify.record_findings import KEPT, Kind, Summary
from tidegate.verify.replay_answer import Checked, Flag
from tidegate.verify.replay_findings import Found, ReplayKind, found
from tidegate.verify.replay_tally import Meta, Tally
from tidegate.verify.report import Report, Verified, exit_status, report_of
from tidegate.verify.report_ocsf import ocsf
from tidegate.verify.report_sarif import _RULES, sarif
from tidegate.verify.report_scopes import Stakes
from tidegate.verify.selection import Policy
from tidegate.verify.sequential import Counts, Null
from tidegate.verify.sequential_monitor import Monitor

META = Meta("replica", "alice", 64, 1)
SUMMARY = Summary(entries=9, responses=2, tokens=20, signed=9, root="ab", counts={}, findings=())
NULL = Null(0.01, 0.001)


def answer(number: int = 1, tokens: int = 10, **changes: Any) -> Checked:
    fields = {"tokens": tokens, "counts": Counts(tokens, 0, 0), "ended": True} | changes
    fields.setdefault("watched", fields["counts"])
    return Checked(response=number, digest="00", **fields)


def reported(tally: Tally, *, exact: bool = True, rate: str = "1", kept: bool = True) -> Report:
    verified = Verified(
        record="example.com/r",
        model="tiny",
        fingerprint="f" * 64,
        numerics="integers",
        exact=exact,
        rate=rate,
        by="token",
        keys={},
        profile="" if exact else "made by hand",
    )
    return report_of(
        tally,
        SUMMARY,
        verified,
        Policy(Fraction(rate)),
        version="0.1.0",
        vocab_size=1 << 10,
        point=None,
        fraction=0.1,
        kept=kept,
        stakes=Stakes(weight_bits=1e9, sampled=float(Fraction(rate))),
    )


def tally_of(*answers: Checked, monitored: bool = False) -> Tally:
    tally = Tally(NULL, Monitor(false_alarms=1e-6)) if monitored else Tally()
    for one in answers:
        tally.fold(one, META)
    return tally


def test_clean_answers_of_an_exact_model_pass_and_leak_nothing():
    report = reported(tally_of(answer(1), answer(2)))
    assert (report.outcome.outcome, exit_status(report)) == ("pass", 0)
    assert "20 tokens of 2 answers" in report.outcome.reason
    assert report.match_rate == 1.0
    assert report.leak is not None
    assert report.leak.bits_a_token == 0.0


def test_a_pass_says_what_it_does_not_cover():
    limits = " ".join(reported(tally_of(answer()), rate="1/100", kept=False).outcome.limits)
    assert "never recorded" in limits
    assert "459 tokens" in limits
    assert "kept" in limits
    assert "--kept" not in " ".join(reported(tally_of(answer())).outcome.limits)


def test_ends_that_were_not_re_executed_and_drafts_are_charged():
    tally = tally_of(answer(1, ended=False))
    tally.fold(answer(2), Meta("replica", "alice", 64, 4))
    leak = reported(tally).leak
    assert leak is not None
    assert leak.length_bits == pytest.approx((6 + 2) / 20)  # where the one ends, and which it is
    assert leak.choice_bits == pytest.approx(2 / 20)
    assert leak.bits_a_token == pytest.approx(10 / 20)


@pytest.mark.parametrize("kind", [*Kind, *ReplayKind])
def test_no_finding_of_any_kind_is_ever_a_pass(kind: Kind | ReplayKind):
    tally = tally_of(answer(1))
    tally.find(found(kind, "it is so", 1, 2))
    report = reported(tally)
    assert report.outcome.outcome == ("fail" if kind.conclusive else "cannot_verify")
    assert exit_status(report) == (1 if kind.conclusive else 2)
    assert kind.value in report.outcome.reason


def test_what_a_failure_rests_on_is_shown_after_thousands_of_others():
    tally = tally_of(answer(1))
    for number in range(KEPT + 5):
        tally.find(found(Kind.UNFINISHED, "running", number))
    tally.find(found(ReplayKind.OTHER_TOKEN, "another token", 7, 3))
    report = reported(tally)
    assert report.outcome.outcome == "fail"
    assert "answer 7, token 3" in report.outcome.evidence[0]
    assert len(report.findings) == KEPT
    assert sum(report.kinds.values()) == KEPT + 6


def test_a_float_model_without_a_profile_cannot_verify():
    report = reported(tally_of(answer(1)), exact=False)
    assert report.outcome.outcome == "cannot_verify"
    assert "profile" in report.outcome.reason
    assert report.leak is None


def test_too_few_tokens_of_a_float_model_cannot_verify_and_enough_pass():
    few = tally_of(answer(1), monitored=True)
    assert reported(few, exact=False).outcome.outcome == "cannot_verify"
    many = tally_of(*(answer(n, 500) for n in range(20)), monitored=True)
    assert reported(many, exact=False).outcome.outcome == "pass"


def test_many_dangerous_tokens_alarm_with_their_places():
    flags = tuple(Flag(place, None, 900, dangerous=True) for place in range(8))
    bad = answer(5, 16, counts=Counts(8, 0, 8), mismatches=8, flags=flags)
    report = reported(tally_of(bad, bad, monitored=True), exact=False)
    assert report.outcome.outcome == "fail"
    assert report.kinds["alarm"] >= 1
    assert len(report.flagged) == 16
    assert report.curve[-1][1] > 6


def test_the_curve_and_the_flags_stay_small():
    flag = (Flag(0, 0.5, 3, dangerous=False),)
    tally = tally_of(*(answer(n, 1, flags=flag) for n in range(3_000)))
    report = reported(tally)
    assert 256 <= len(report.curve) <= 513
    assert report.curve == tuple(sorted(report.curve))
    assert len(report.flagged) == 256


def test_the_json_has_no_nan_and_no_infinity():
    unbounded = answer(1, surprisal_bits=None, flags=(Flag(0, None, 9, dangerous=True),))
    for tally in (Tally(), tally_of(unbounded), tally_of(answer(1, 0), monitored=True)):
        for exact in (True, False):
            raw = reported(tally, exact=exact).json()
            told = json.loads(raw, parse_constant=lambda name: pytest.fail(name))
            assert told["outcome"]["outcome"]
    assert math.isfinite(json.loads(reported(tally_of(answer())).json())["leak"]["share"])


def some() -> Report:
    tally = tally_of(answer(1))
    tally.find(found(ReplayKind.OTHER_TOKEN, "another token", 4, 2))
    tally.find(Found(kind="unsigned", conclusive=False, reason="no checkpoint", entry=8))
    return reported(tally)


def test_sarif_has_what_its_schema_demands():
    log = json.loads(sarif(some(), "record"))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "tidegate verify"
    assert all(rule["id"] and rule["shortDescription"]["text"] for rule in driver["rules"])
    assert len(run["results"]) == 2
    for result in run["results"]:
        assert result["message"]["text"]
        assert result["level"] in ("none", "note", "warning", "error")
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        (place,) = result["locations"]
        assert place["physicalLocation"]["artifactLocation"] == {"uri": "record", "index": 0}
    names = [r["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] for r in run["results"]]
    assert names == ["answer/4/token/2", "entry/8"]
    assert run["invocations"] == [{"executionSuccessful": True}]


def test_a_sarif_log_without_results_is_not_taken_for_a_pass():
    (run,) = json.loads(sarif(reported(Tally()), "record"))["runs"]
    assert run["results"] == []
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert "Cannot verify" in invocation["toolExecutionNotifications"][0]["message"]["text"]


def test_every_kind_of_finding_has_a_rule_with_its_level():
    for kind in (*Kind, *ReplayKind):
        text, conclusive = _RULES[kind.value]
        assert text
        assert conclusive == kind.conclusive


def test_ocsf_events_have_what_their_class_demands():
    report = some()
    events = json.loads(ocsf(report, Timestamp(1_700_000_000.5)))
    assert len(events) == 3
    for event in events:
        assert (event["class_uid"], event["category_uid"]) == (2004, 2)
        assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
        assert event["time"] == 1_700_000_000_500
        assert event["severity_id"] in range(7)
        assert event["metadata"]["product"]["vendor_name"]
        assert event["metadata"]["version"]
        assert event["finding_info"]["uid"]
        assert event["finding_info"]["title"]
    assert len({event["finding_info"]["uid"] for event in events}) == 3
    assert events[1]["unmapped"] == {"response": 4, "token": 2}
    again = json.loads(ocsf(report, Timestamp(1_800_000_000.0)))
    assert [e["finding_info"]["uid"] for e in again] == [e["finding_info"]["uid"] for e in events]


def test_ocsf_tells_of_a_pass_too():
    (event,) = json.loads(ocsf(reported(tally_of(answer())), Timestamp(0.0)))
    assert (event["severity_id"], event["finding_info"]["title"]) == (1, "outcome: pass")


def test_a_report_survives_its_json():
    report = some()
    assert msgspec.json.decode(report.json(), type=Report) == report
