"""Sigma rules: what is understood matches as the specification says, the rest is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from audit_case import known

from tidegate.audit.sigma import Rule, Sigma, rule_of
from tidegate.audit.sigma_out import rules_for
from tidegate.bench import vault_audit_render, vault_audit_traffic
from tidegate.errors import ConfigError

RECORD = {
    "eventName": "GetObject",
    "count": 7,
    "ok": True,
    "nothing": None,
    "sourceIPAddress": "192.0.2.7",
    "requestParameters": {"bucketName": "Weights", "key": "tide/0", "x.y": "dotted"},
    "resources": [{"ARN": "arn:a"}, {"ARN": "arn:b"}],
}


def rule(detection: dict[str, Any], **more: Any) -> Rule:
    """A rule on CloudTrail."""
    told = {
        "title": "t", "logsource": {"product": "aws", "service": "cloudtrail"},
        "detection": {"condition": "s", **detection}, **more,
    }  # fmt: skip
    return rule_of(told, "file")


@pytest.mark.parametrize(
    ("search", "met"),
    [
        ({"eventName": "getobject"}, True),
        ({"eventName": "Get*"}, True),
        ({"eventName": "GetObjec?"}, True),
        ({"eventName": "Get\\*"}, False),
        ({"eventName|cased": "getobject"}, False),
        ({"eventName": ["PutObject", "GetObject"]}, True),
        ({"eventName|contains|all": ["Get", "Obj"]}, True),
        ({"eventName|contains|all": ["Get", "Put"]}, False),
        ({"requestParameters.bucketName": "weights"}, True),
        ({"requestParameters.x.y": "dotted"}, True),
        ({"requestParameters.key|startswith": "tide/"}, True),
        ({"requestParameters.key|endswith": "/1"}, False),
        ({"resources.ARN": "arn:b"}, True),
        ({"resources.ARN": "arn:c"}, False),
        ({"count|gte": 7}, True),
        ({"count|lt": 7}, False),
        ({"count": 7}, True),
        ({"ok": True}, True),
        ({"nothing": None}, True),
        ({"absent": None}, True),
        ({"eventName": None}, False),
        ({"absent|exists": False}, True),
        ({"eventName|exists": True}, True),
        ({"sourceIPAddress|cidr": "192.0.2.0/24"}, True),
        ({"eventName|cidr": "192.0.2.0/24"}, False),
        ({"eventName|re": "^Get(Object|Part)$"}, True),
        ({"eventName": "GetObject", "count": 8}, False),
        ([{"count": 8}, {"count": 7}], True),
    ],
)
def test_searches_match_as_specified(search: Any, met: bool) -> None:
    assert rule({"s": search}).test(RECORD) is met


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ("yes and not no", True),
        ("no or yes", True),
        ("not (yes and no)", True),
        ("yes and no or yes", True),
        ("1 of y*", True),
        ("all of them", False),
        ("1 of them", True),
        ("not 1 of n*", True),
    ],
)
def test_conditions_are_read_with_their_precedence(condition: str, met: bool) -> None:
    searches = {"yes": {"count": 7}, "no": {"count": 8}}
    assert rule({**searches, "condition": condition}).test(RECORD) is met


@pytest.mark.parametrize(
    ("detection", "more", "says"),
    [
        ({"s": ["word"]}, {}, "keywords"),
        ({"s": {}}, {}, "matches everything"),
        ({"s": {"a|base64": "x"}}, {}, "base64"),
        ({"s": {"a|exists": "x"}}, {}, "exists"),
        ({"s": {"a|re|contains": "x"}}, {}, "contradict"),
        ({"s": {"a|re": "("}}, {}, "expression"),
        ({"s": {"a|cidr": "x"}}, {}, "network"),
        ({"s": {"a|lt": "x"}}, {}, "no number"),
        ({"s": {"a": {"b": 1}}}, {}, "neither text"),
        ({"s": {"a": 1}, "timeframe": "5m"}, {}, "timeframe"),
        ({"s": {"a": 1}, "condition": "s | count() > 5"}, {}, "aggregates"),
        ({"s": {"a": 1}, "condition": "s and"}, {}, "too early"),
        ({"s": {"a": 1}, "condition": "(s"}, {}, "bracket"),
        ({"s": {"a": 1}, "condition": "s s"}, {}, "one too many"),
        ({"s": {"a": 1}, "condition": "other"}, {}, "no search"),
        ({"s": {"a": 1}, "condition": "1 of x*"}, {}, "no search"),
        ({"s": {"a": 1}}, {"level": "odd"}, "level"),
        ({"s": {"a": 1}}, {"correlation": {}}, "correlation"),
        ({"s": {"a": 1}}, {"action": "global"}, "action"),
        ({"s": {"a": 1}}, {"logsource": {"product": "windows"}}, "logsource"),
        ({"s": {"a": 1}, "condition": []}, {}, "no detection"),
    ],
)  # fmt: skip
def test_what_is_beyond_the_subset_is_refused_by_name(
    detection: dict[str, Any], more: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        rule(detection, **more)


def test_rules_look_only_at_records_of_their_source() -> None:
    sigma = Sigma([rule({"s": {"count": 7}})])
    raw = json.dumps(RECORD).encode()
    assert [found.title for found in sigma.matches("cloudtrail", raw)] == ["t"]
    assert list(sigma.matches("gcs", raw)) == []


def test_lines_of_auditd_are_looked_at_one_by_one() -> None:
    told = {"title": "t", "logsource": {"product": "linux", "service": "auditd"},
            "detection": {"s": {"type": "EXECVE", "a1": "-x"}, "condition": "s"}}  # fmt: skip
    sigma = Sigma([rule_of(told, "file")])
    raw = b'type=SYSCALL msg=audit(1.1:1): a1=0\ntype=EXECVE msg=audit(1.1:1): a0="tar" a1="-x"\n'
    assert len(list(sigma.matches("auditd", raw))) == 1


def test_exported_rules_are_rules_and_match_what_they_are_for() -> None:
    told = list(rules_for(known()))
    sigma = Sigma([rule_of(one, "export") for one in told])
    assert len({one["id"] for one in told}) == len(told)
    thieves = {
        name: [
            found.title
            for one in vault_audit_traffic.days(vault_audit_traffic.LEARNED + 1, load=1)
            if one.thief == name
            for found in sigma.matches("cloudtrail", vault_audit_render.cloudtrail(one.event))
        ]
        for name in ("logging off",)
    }
    assert thieves["logging off"] == ["Audit trail switched off or cut down"]


def test_exported_rules_know_who_may_read() -> None:
    (reads,) = [
        rule_of(one, "export") for one in rules_for(known())
        if one["title"].endswith("somebody unknown") and one["logsource"]["product"] == "aws"
    ]  # fmt: skip
    record = {
        "eventSource": "s3.amazonaws.com", "eventName": "GetObject",
        "requestParameters": {"bucketName": "w", "key": "m/0"},
        "userIdentity": {"sessionContext": {"sessionIssuer": {"arn": "arn:role/host"}}},
    }  # fmt: skip
    assert not reads.test(record)
    assert reads.test({**record, "userIdentity": {"arn": "arn:role/thief"}})
    assert not reads.test({**record, "requestParameters": {"bucketName": "w", "key": "other/0"}})
