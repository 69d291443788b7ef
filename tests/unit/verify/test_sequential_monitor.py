"""One bad replica, one bad principal or a thin spread over all: each raises its alarm once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tidegate.errors import ConfigError
from tidegate.verify.outcome import CannotVerify, Fail, Pass
from tidegate.verify.sequential import Counts, Null
from tidegate.verify.sequential_monitor import (
    EVIDENCE,
    FLEET,
    PRINCIPAL,
    REPLICA,
    Batch,
    Monitor,
    judge,
    watch,
)

NULL = Null(0.005, 0.0002)


def batch(replica="r0", principal="p0", safe=50, suspicious=0, dangerous=0, evidence=()):
    counts = Counts(safe, suspicious, dangerous)
    return Batch(replica=replica, principal=principal, null=NULL, counts=counts, evidence=evidence)


def run(batches, false_alarms=1e-6):
    monitor, alarms = Monitor(false_alarms=false_alarms), []
    for one in batches:
        monitor, new = watch(monitor, one)
        alarms += new
    return monitor, tuple(alarms)


def test_a_bad_replica_is_named_with_what_it_did():
    bad = [batch("r7", f"p{n}", 30, 8, 1, (f"record {n}, token 3",)) for n in range(4)]
    _, alarms = run([batch(f"r{n % 5}", f"p{n}") for n in range(20)] + bad)
    named = {alarm.scope: alarm for alarm in alarms}
    assert named[REPLICA].name == "r7"
    assert named[REPLICA].seen.dangerous >= 1
    assert "record 0, token 3" in named[REPLICA].evidence
    assert named[REPLICA].log10_e >= -math.log10(named[REPLICA].false_alarms)
    assert "r7" in str(named[REPLICA])


def test_an_alarm_is_raised_once():
    _, alarms = run([batch(dangerous=5)] * 30)
    assert sorted((alarm.scope, alarm.name) for alarm in alarms) == [
        (FLEET, FLEET),
        (PRINCIPAL, "p0"),
        (REPLICA, "r0"),
    ]


def test_a_cheat_spread_thin_over_all_replicas_shows_in_the_fleet_alone():
    batches = [batch(f"r{n}", f"p{n}", 48, 2) for n in range(60)]
    _, alarms = run(batches)
    assert {alarm.scope for alarm in alarms} == {FLEET}


def test_honest_fleets_stay_quiet():
    rng = np.random.default_rng(3)
    alarmed = 0
    for _ in range(40):
        counts = rng.multinomial(40, [1 - 0.0052, 0.005, 0.0002], 50)
        batches = [
            batch(f"r{n % 6}", f"p{n % 11}", int(c[0]), int(c[1]), int(c[2]))
            for n, c in enumerate(counts)
        ]
        alarmed += bool(run(batches, false_alarms=0.1)[1])
    assert alarmed / 40 <= 0.1 + 3 * math.sqrt(0.09 / 40)


def test_evidence_stays_small():
    monitor, _ = run([batch(dangerous=1, evidence=(f"token {n}",)) for n in range(100)])
    assert len(monitor.streams[FLEET, FLEET].evidence) == EVIDENCE


def test_a_monitor_goes_on_where_it_was_saved():
    batches = [batch(f"r{n % 3}", f"p{n}", 40, n % 2) for n in range(30)]
    whole, _ = run(batches)
    part, _ = run(batches[:13])
    part = Monitor.load(part.save())
    for one in batches[13:]:
        part, _ = watch(part, one)
    assert part.save() == whole.save()
    for broken in (b"", b"[0.1]", b"[2.0, []]", b'[1e-6, [["a", "b", {}]]]'):
        with pytest.raises(ConfigError):
            Monitor.load(broken)


def test_unseen_streams_have_an_e_value_of_one():
    assert Monitor(false_alarms=0.1).log_e(REPLICA, "r9") == 0.0


def test_few_tokens_are_not_a_pass():
    few, alarms = run([batch()] * 2)
    outcome = judge(few, alarms, null=NULL, fraction=0.1)
    assert isinstance(outcome, CannotVerify)
    nothing = judge(Monitor(false_alarms=1e-6), (), null=NULL, fraction=0.1)
    assert isinstance(nothing, CannotVerify)
    hopeless = judge(few, alarms, null=NULL, fraction=0.0)
    assert isinstance(hopeless, CannotVerify)
    assert "no number" in hopeless.reason


def test_many_quiet_tokens_pass_with_what_they_do_not_show():
    monitor, alarms = run([batch()] * 40)
    outcome = judge(monitor, alarms, null=NULL, fraction=0.1)
    assert isinstance(outcome, Pass)
    assert "tokens that were not verified" in outcome.limits


def test_an_alarm_fails_with_its_evidence():
    monitor, alarms = run([batch(dangerous=5, evidence=("record 2, token 9",))] * 3)
    outcome = judge(monitor, alarms, null=NULL, fraction=0.1)
    assert isinstance(outcome, Fail)
    assert "record 2, token 9" in outcome.evidence


def test_a_false_alarm_rate_is_a_probability():
    for rate in (0.0, 1.0, math.nan):
        with pytest.raises(ConfigError):
            Monitor(false_alarms=rate)
