"""The rules say what the policy says, and nothing gets round the quotas."""

from __future__ import annotations

import re

from tidegate.gate import nft_render, tc_render
from tidegate.gate.accounts import opened
from tidegate.gate.policy import Policy, parse

POLICY = parse("""
lifetime = 5_000
grant = 1_000_000
[interfaces]
inside = "eth1"
outside = "eth0.7"
management = ["eth2"]
[classes.ssh]
protocol = "tcp"
from_ports = [22]
to = ["192.0.2.7/32"]
quota = 4_000
[classes.dns]
protocol = "udp"
to_ports = [53, 853]
quota = 3_000
rate = 10_000
[classes.arp]
protocol = "arp"
quota = 2_000
""")


def _rules(policy: Policy = POLICY) -> str:
    step = opened(policy, None, "boot", ())
    return nft_render.ruleset(policy, step.state, step.fresh)


def _chain(name: str, policy: Policy = POLICY) -> list[str]:
    found = re.findall(rf"^add rule (?:netdev|inet) tidegate {name} (.*)$", _rules(policy), re.M)
    assert found, name
    return found


def test_every_base_chain_drops_what_no_rule_accepts() -> None:
    hooked = [line for line in _rules().splitlines() if "type filter hook" in line]
    # One more chain only drops: it comes before routing, where nothing is decided to pass.
    assert not any("accept" in rule for rule in _chain("senders"))
    hooked = [line for line in hooked if "hook prerouting" not in line]
    assert len(hooked) == 3
    assert all("policy drop;" in line for line in hooked)


def test_the_heartbeat_comes_before_any_class_and_no_rule_there_accepts() -> None:
    rules = _chain("egress_eth0_7")
    dead = next(number for number, rule in enumerate(rules) if "@alive" in rule)
    first = next(number for number, rule in enumerate(rules) if "goto" in rule)
    assert dead < first
    assert not any("accept" in rule for rule in rules)


def test_headers_with_room_are_dropped_before_any_class_is_asked() -> None:
    rules = _chain("egress_eth0_7")
    roomy = [number for number, rule in enumerate(rules) if "drop_headers drop" in rule]
    first = next(number for number, rule in enumerate(rules) if "goto" in rule)
    assert roomy
    assert max(roomy) < first
    assert not any("exthdr frag" in rule for rule in rules)


def test_a_class_accepts_only_after_its_quota_and_the_lifetimes() -> None:
    for name in POLICY.classes:
        rules = _chain(f"class_{name}")
        assert [rule for rule in rules if "accept" in rule] == rules[-1:]
        quotas = [rule for rule in rules if rule.startswith("quota")]
        assert [rule.split()[2] for rule in quotas] == [f"quota_{name}.1", "quota_lifetime.1"]
        assert all(rule.endswith("drop") for rule in quotas)


def test_a_rate_is_asked_before_anything_is_charged() -> None:
    rules = _chain("class_dns")
    limit = next(number for number, rule in enumerate(rules) if rule.startswith("limit"))
    quota = next(number for number, rule in enumerate(rules) if rule.startswith("quota"))
    assert limit < quota


def test_connection_tracking_decides_nothing() -> None:
    assert not re.search(r"\bct\b", _rules())


def test_a_quota_of_n_bytes_lets_n_bytes_out() -> None:
    # The kernel drops the packet that reaches the limit.
    assert "quota_ssh.1 { over 4001 bytes used 0 bytes }" in _rules()
    assert "quota_lifetime.1 { over 5001 bytes used 0 bytes }" in _rules()


def test_addresses_of_one_family_let_the_other_out_nowhere() -> None:
    ssh = [rule for rule in _chain("egress_eth0_7") if "class_ssh" in rule]
    assert len(ssh) == 1
    assert "ip daddr { 192.0.2.7/32 }" in ssh[0]
    assert "tcp sport { 22 }" in ssh[0]
    dns = [rule for rule in _chain("egress_eth0_7") if "class_dns" in rule]
    assert [rule.split()[2] for rule in dns] == ["ip", "ip6"]


def test_only_named_interfaces_are_sent_to_and_only_two_are_routed_between() -> None:
    assert [rule.split('"')[1] for rule in _chain("output")] == ["lo", "eth1", "eth0.7", "eth2"]
    made_up, *rest = _chain("forward")
    assert made_up.endswith('iif "eth1" fib saddr . iif oif missing drop')
    assert [re.findall('"([^"]+)"', rule) for rule in rest] == [
        ["eth1", "eth0.7"],
        ["eth0.7", "eth1"],
    ]


def test_senders_that_would_be_answered_through_a_management_interface_are_dropped() -> None:
    chain = _chain("senders")
    assert [re.findall('"([^"]+)"', rule) for rule in chain] == [["eth1", "eth2"]] * 2
    for rule in chain:
        assert rule in nft_render.closed(POLICY)
    alone = POLICY.interfaces.model_copy(update={"management": ()})
    assert "senders" not in _rules(POLICY.model_copy(update={"interfaces": alone}))


def test_super_packets_are_dropped_where_nobody_charges_them_whole() -> None:
    other = POLICY.model_copy(update={"super_packets": "drop"})
    assert "meta length > 1518 counter name drop_super drop" in _chain("egress_eth0_7", other)
    assert "meta length" not in _rules()


def test_what_an_earlier_policy_left_is_deleted_in_an_order_the_kernel_takes() -> None:
    step = opened(POLICY, None, "boot", ())
    left = (
        ("counter", "netdev", "passed_old"),
        ("quota", "netdev", "quota_old.3"),
        ("quota", "netdev", "quota_ssh.1"),
        ("chain", "netdev", "class_old"),
        ("limit", "netdev", "rate_old.5"),
    )
    assert nft_render.stale(POLICY, step.state, left).splitlines() == [
        "flush chain netdev tidegate class_old",
        "delete chain netdev tidegate class_old",
        "delete quota netdev tidegate quota_old.3",
        "delete limit netdev tidegate rate_old.5",
        "delete counter netdev tidegate passed_old",
    ]


def test_what_waits_for_a_rate_is_gone_within_a_second_of_the_heart_stopping() -> None:
    for rate in (1_000, 20_000, 23_000, 1_000_000, 100_000_000):
        dns = POLICY.classes["dns"].model_copy(update={"rate": rate})
        other = POLICY.model_copy(update={"classes": POLICY.classes | {"dns": dns}})
        limits = [int(found) for found in re.findall("limit ([0-9]+)", "".join(_shaping(other)))]
        assert all(limit / rate + POLICY.lease_ms / 1000 <= 1.0 for limit in limits)
        assert bool(limits) == (rate > 22_710)
        waits = [rule for rule in _chain("class_dns", other) if "priority" in rule]
        assert bool(waits) == bool(limits)


def _shaping(policy: Policy) -> list[str]:
    return tc_render.shaping(policy)


def test_without_a_rate_there_is_no_queue() -> None:
    without = parse("""
        lifetime = 5
        interfaces = { inside = "a", outside = "b" }
        classes.x = { protocol = "any", quota = 1 }
    """)
    assert _shaping(without) == []
