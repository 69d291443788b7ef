"""Who may talk to whom, worked out from the chart's policies as a network plugin would."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import pytest
from chart_world import EVERYTHING, LEAST, Helm

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Pod:
    """Somebody on the network: a part of the release, or a stranger with labels of his own."""

    name: str
    labels: tuple[tuple[str, str], ...]
    namespace: tuple[tuple[str, str], ...] = ()
    ports: tuple[tuple[str, int], ...] = ()


PARTS = {
    "inner": (("link", 7000),),
    "outer": (("http", 8000), ("console", 8700)),
    "verify": (("metrics", 9464),),
    "broker": (("https", 8443),),
    "witness": (("http", 8701),),
}


def part(name: str) -> Pod:
    labels = {
        "app.kubernetes.io/name": "tidegate",
        "app.kubernetes.io/instance": "tidegate",
        "app.kubernetes.io/component": name,
    }
    return Pod(name, tuple(labels.items()), (("its", "own"),), PARTS[name])


STRANGER = Pod("stranger", (("app", "other"),), (("team", "other"),))
RESEARCHER = Pod("researcher", (("app", "notebook"),), (("team", "research"),))
DNS = Pod("dns", (("k8s-app", "kube-dns"),), (("kubernetes.io/metadata.name", "kube-system"),))


@cache
def helm() -> Helm:
    return Helm([LEAST, EVERYTHING])


@cache
def policies(case: str) -> list[dict[str, Any]]:
    made = helm().objects({"least.yaml": LEAST, "everything.yaml": EVERYTHING}[case])
    return [one for one in made if one["kind"] == "NetworkPolicy"]


def _matches(selector: dict[str, Any], labels: Labels) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items()


def _is_peer(peer: dict[str, Any], pod: Pod) -> bool:
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        if not _matches(peer["namespaceSelector"], dict(pod.namespace)):
            return False
    elif pod.namespace != (("its", "own"),):
        return False
    return _matches(peer.get("podSelector", {}), dict(pod.labels))


def _opens(rule: dict[str, Any], side: str, peer: Pod, target: Pod, port: int) -> bool:
    peers, ports = rule.get(side), rule.get("ports")
    named = dict(target.ports)
    return (not peers or any(_is_peer(one, peer) for one in peers)) and (
        not ports or any(named.get(one["port"], one["port"]) == port for one in ports)
    )


def _half(case: str, kind: str, pod: Pod, peer: Pod, target: Pod, port: int) -> bool:
    """Whether `pod`'s own policies let it send (Egress) to, or hear (Ingress) from, `peer`."""
    selecting = [
        policy["spec"]
        for policy in policies(case)
        if kind in policy["spec"]["policyTypes"]
        and pod.namespace == (("its", "own"),)
        and _matches(policy["spec"]["podSelector"], dict(pod.labels))
    ]
    side = {"Egress": "to", "Ingress": "from"}[kind]
    return not selecting or any(
        _opens(rule, side, peer, target, port)
        for spec in selecting
        for rule in spec.get(kind.lower()) or ()
    )


def may_talk(case: str, sender: Pod, receiver: Pod, port: int) -> bool:
    return _half(case, "Egress", sender, receiver, receiver, port) and _half(
        case, "Ingress", receiver, sender, receiver, port
    )


@pytest.mark.parametrize("case", ["least.yaml", "everything.yaml"])
def test_between_the_parts_only_the_link_is_open_and_only_from_outside(case: str) -> None:
    open_ = {
        (sender, receiver, port)
        for sender, receiver in product(PARTS, PARTS)
        for port in (22, 53, 443, 7000, 8000, 8443, 8700, 8701, 9464)
        if sender != receiver
        and may_talk(case, part(sender), part(receiver), port)
        # Parts that are not installed in this case have no policy of their own.
        and {sender, receiver} <= ({"inner", "outer"} if case == "least.yaml" else set(PARTS))
    }
    assert open_ == {("outer", "inner", 7000)}


@pytest.mark.parametrize("case", ["least.yaml", "everything.yaml"])
@pytest.mark.parametrize("port", [53, 80, 443, 7000])
def test_nothing_is_begun_from_inside(case: str, port: int) -> None:
    for somebody in (DNS, STRANGER, part("outer")):
        assert not may_talk(case, part("inner"), somebody, port)


def test_an_inner_half_reaches_what_it_was_given_and_not_the_resolver() -> None:
    engine = Pod("vllm", (("app", "vllm"),), (("its", "own"),))
    assert may_talk("everything.yaml", part("inner"), engine, 8000)
    assert not may_talk("everything.yaml", part("inner"), engine, 22)
    assert not may_talk("least.yaml", part("inner"), engine, 8000)
    assert not may_talk("everything.yaml", part("inner"), DNS, 53)


def test_nobody_reaches_the_api_until_he_is_named() -> None:
    assert not may_talk("least.yaml", RESEARCHER, part("outer"), 8000)
    assert may_talk("everything.yaml", RESEARCHER, part("outer"), 8000)
    assert not may_talk("everything.yaml", STRANGER, part("outer"), 8000)
    assert not may_talk("everything.yaml", RESEARCHER, part("outer"), 8700)


@pytest.mark.parametrize("name", PARTS)
def test_a_stranger_reaches_no_part(name: str) -> None:
    for port in (22, 7000, 8000, 8443, 8700, 8701, 9464):
        assert not may_talk("everything.yaml", STRANGER, part(name), port)


def test_the_outer_half_may_ask_for_names_and_nothing_else() -> None:
    assert may_talk("least.yaml", part("outer"), DNS, 53)
    assert not may_talk("least.yaml", part("outer"), DNS, 443)
    assert not may_talk("least.yaml", part("outer"), STRANGER, 53)


def test_every_pod_of_the_release_is_denied_first() -> None:
    [deny] = [p for p in policies("everything.yaml") if p["metadata"]["name"] == "tidegate-deny"]
    spec = deny["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in spec
    assert "egress" not in spec
    for name in PARTS:
        assert _matches(spec["podSelector"], dict(part(name).labels))
