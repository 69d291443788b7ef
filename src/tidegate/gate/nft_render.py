"""The policy as nftables text. Pure.

Two tables. `netdev tidegate` hangs on the egress hook of the outside interface: every frame that
leaves it passes there, forwarded or the gate's own, IP or not, whatever socket it came from. It
charges and drops. `inet tidegate` keeps traffic from every other way round: no forwarding but
between inside and outside, no output but on the interfaces that the policy names, and no sender
inside whom the gate itself would answer through a management interface, which nobody meters.

Nothing is accepted before the heartbeat and the quotas have been asked; connection tracking is not
used at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from tidegate.gate.accounts import State
from tidegate.gate.policy import LIFETIME, Policy, TrafficClass

TABLE = "tidegate"
ALIVE = "alive"
SENDERS = "senders"
DROPPED = {
    "drop_not_ip": "neither IP nor ARP",
    "drop_dead": "no heartbeat",
    "drop_super": "longer than the MTU",
    "drop_headers": "headers that honest traffic does not have",
    "drop_denied": "no class allows it",
    "drop_rate": "above its class's rate",
    "drop_quota": "its class's quota is spent",
    "drop_lifetime": "the lifetime is spent",
}
"""Counters of what nftables dropped, and why."""

_PROTOCOLS = "ip, ip6, arp"

_ROOMY: Final = (
    # A listener report alerts routers and says nothing more (RFC 2710, RFC 3810): these 8 bytes.
    "meta protocol ip6 ip6 nexthdr 0 @nh,320,64 != 0x3a00050200000100",
    "meta protocol ip6 exthdr hbh exists ip6 nexthdr != 0",
    "meta protocol ip6 exthdr rt exists",
    "meta protocol ip6 exthdr dst exists",
    "meta protocol ip6 frag reserved != 0",
    "meta protocol ip6 frag reserved2 != 0",
    # Authentication, no next header, mobility, host identity, shim6, and those for experiments.
    "meta protocol ip6 meta l4proto { 51, 59, 135, 139, 140, 253, 254 }",
    # IPv4's options: the same alert of a membership report (RFC 2113), and none besides.
    "meta protocol ip ip hdrlength > 6",
    "meta protocol ip ip hdrlength 6 @nh,160,32 != 0x94040000",
)
"""Headers with room for data that no port or address decides on; fragments have none."""


def ruleset(policy: Policy, state: State, fresh: Sequence[tuple[str, int]] = ()) -> str:
    """What to load in one transaction, whether or not an earlier ruleset is there.

    Quota objects and counters stay and keep what they counted; those in `fresh` begin with the
    `used` given there. Until `heartbeat` is loaded nothing passes.
    """
    lines = [f"add table netdev {TABLE}", f"add table inet {TABLE}"]
    counters = (*DROPPED, *map(passed, policy.classes))
    lines += [f"add counter netdev {TABLE} {name}" for name in counters]
    lines.append(f"add set netdev {TABLE} {ALIVE} {{ type ether_type; flags timeout; }}")
    lines += _quotas(policy, state, dict(fresh))
    for name, chosen in policy.classes.items():
        if chosen.rate is not None:
            rate = f"rate over {chosen.rate} bytes/second burst {chosen.queue} bytes"
            lines.append(f"add limit netdev {TABLE} {_limit(name, chosen)} {{ {rate} }}")
    chains = tuple(_chains(policy, state))
    # All chains before any rule: rules name chains.
    lines += [f"add chain {where}{hook}\nflush chain {where}" for where, hook, _ in chains]
    lines += [f"add rule {where} {rule}" for where, _, rules in chains for rule in rules]
    return "\n".join(lines) + "\n"


def raised(policy: Policy, state: State) -> str:
    """New limits for the quota objects that are there; what they counted stays."""
    return "\n".join(_quotas(policy, state, {})) + "\n"


def heartbeat(policy: Policy) -> str:
    """Lets traffic out for `lease_ms` from now."""
    until = f"timeout {policy.lease_ms}ms"
    elements = ", ".join(f"{name} {until}" for name in _PROTOCOLS.split(", "))
    return f"{shut()}add element netdev {TABLE} {ALIVE} {{ {elements} }}\n"


def shut() -> str:
    """Stops traffic at once; quotas and counters stay."""
    return f"flush set netdev {TABLE} {ALIVE}\n"


def closed(policy: Policy) -> str:
    """Stops forwarding, and the gate's own traffic to the outside, whatever rules are left."""
    lines = []
    allowed = ("lo", policy.interfaces.inside, *policy.interfaces.management)
    for name in ("forward", "output"):
        where = f"inet {TABLE} {name}"
        lines += [f"add chain {where}{_base(f'hook {name}')}", f"flush chain {where}"]
    lines += [f'add rule inet {TABLE} output oifname "{name}" accept' for name in allowed]
    for where, hook, rules in _chain_of_senders(policy):
        lines += [f"add chain {where}{hook}", f"flush chain {where}"]
        lines += [f"add rule {where} {rule}" for rule in rules]
    return "\n".join([f"add table inet {TABLE}", *lines]) + "\n"


def removed() -> str:
    """Takes both tables out, whether or not they are there, in one transaction."""
    families = ("netdev", "inet")
    return "".join(f"add table {f} {TABLE}\ndelete table {f} {TABLE}\n" for f in families)


def stale(policy: Policy, state: State, listed: Sequence[tuple[str, str, str]]) -> str:
    """Deletes what an earlier ruleset left and no rule of this one names.

    `listed` are (kind, family, name) of chains, quotas, limits and counters, as the kernel has
    them. Counters of classes that are gone go, too; their accounts stay on disk.
    """
    wanted = set(_names(policy, state))
    order = ("chain", "quota", "limit", "counter")
    gone = sorted(set(listed) - wanted, key=lambda item: (order.index(item[0]), item))
    # Chains may name one another: none can go before all are empty.
    chains = [(family, name) for kind, family, name in gone if kind == "chain"]
    empty = [f"flush chain {family} {TABLE} {name}" for family, name in chains]
    deleted = [f"delete {kind} {family} {TABLE} {name}" for kind, family, name in gone]
    return "".join(f"{line}\n" for line in empty + deleted)


def passed(name: str) -> str:
    """The counter of what a class let out. The prefix keeps names clear of nft's own words."""
    return f"passed_{name}"


def egress_chain(policy: Policy) -> str:
    """The egress chain's name: a chain is bound to its device for good, so it carries its name."""
    return "egress_" + policy.interfaces.outside.replace(".", "_").replace("-", "_")


def _names(policy: Policy, state: State) -> Iterator[tuple[str, str, str]]:
    yield "chain", "netdev", egress_chain(policy)
    yield from (("chain", "netdev", f"class_{name}") for name in policy.classes)
    yield from (("chain", "inet", name) for name in ("forward", "output"))
    yield from (("chain", "inet", SENDERS) for _ in _chain_of_senders(policy))
    yield from (("counter", "netdev", name) for name in (*DROPPED, *map(passed, policy.classes)))
    for name in policy.accounts():
        if account := state.of(name):
            yield "quota", "netdev", account.object
    for name, chosen in policy.classes.items():
        if chosen.rate is not None:
            yield "limit", "netdev", _limit(name, chosen)


def _quotas(policy: Policy, state: State, fresh: dict[str, int]) -> Iterator[str]:
    for name in policy.accounts():
        account = state.of(name)
        if account is None:
            continue
        # The kernel drops what would reach the limit, not only what would pass it.
        limit = min(account.granted, policy.quota_of(name)) + 1
        used = f" used {fresh[account.object]} bytes" if account.object in fresh else ""
        yield f"add quota netdev {TABLE} {account.object} {{ over {limit} bytes{used} }}"


def _chains(policy: Policy, state: State) -> Iterator[tuple[str, str, list[str]]]:
    """(where, hook, rules) of every chain."""
    device = f'hook egress device "{policy.interfaces.outside}"'
    netdev, inet = f"netdev {TABLE}", f"inet {TABLE}"
    yield f"{netdev} {egress_chain(policy)}", _base(device), _egress(policy)
    for name, chosen in policy.classes.items():
        yield f"{netdev} class_{name}", "", _charged(policy, state, name, chosen)
    yield f"{inet} forward", _base("hook forward"), _forward(policy)
    yield f"{inet} output", _base("hook output"), _output(policy)
    yield from _chain_of_senders(policy)


def _chain_of_senders(policy: Policy) -> Iterator[tuple[str, str, list[str]]]:
    """As `_chains`; none where nothing is managed from elsewhere.

    An echo request from inside with the address of somebody on a management network would be
    answered there, payload and all; so would an ICMP error be.
    """
    named = policy.interfaces
    # Addresses of a link are answered on that link; neighbours are found by them.
    far = f'iifname "{named.inside}" ip6 saddr != fe80::/10 fib saddr oifname'
    near = f'iifname "{named.inside}" meta nfproto ipv4 fib saddr oifname'
    if named.management:
        hook = " { type filter hook prerouting priority -310; policy accept; }"
        rules = [f'{start} "{name}" drop' for name in named.management for start in (near, far)]
        yield f"inet {TABLE} {SENDERS}", hook, rules


def _base(hook: str) -> str:
    return f" {{ type filter {hook} priority 0; policy drop; }}"


def _egress(policy: Policy) -> list[str]:
    rules = [
        f"meta protocol != {{ {_PROTOCOLS} }} counter name drop_not_ip drop",
        f"meta protocol != @{ALIVE} counter name drop_dead drop",
    ]
    if policy.super_packets == "drop":
        # An Ethernet header and a VLAN tag may come on top.
        rules.append(f"meta length > {policy.mtu + 18} counter name drop_super drop")
    rules += [f"{match} counter name drop_headers drop" for match in _ROOMY]
    for name, chosen in policy.classes.items():
        rules += [f"{match}goto class_{name}" for match in matches(chosen)]
    return [*rules, "counter name drop_denied drop"]


def _charged(policy: Policy, state: State, name: str, chosen: TrafficClass) -> list[str]:
    rules = [f"meta mark set {policy.number(name)}"]
    if chosen.rate is not None:
        if chosen.shaped:
            rules.append(f"meta priority set 1:{policy.number(name) + 1:x}")
        rules.append(f"limit name {_limit(name, chosen)} counter name drop_rate drop")
    for account, counter in ((name, "drop_quota"), (LIFETIME, "drop_lifetime")):
        if known := state.of(account):
            rules.append(f"quota name {known.object} counter name {counter} drop")
    return [*rules, f"counter name {passed(name)} accept"]


def matches(chosen: TrafficClass) -> Iterator[str]:
    """The left sides of a class's rules, each ending in a blank; one may be empty."""
    if chosen.protocol == "arp":
        yield "meta protocol arp "
        return
    for family, networks in _families(chosen):
        # Named even where an address implies it: a class for `any` must not let other frames out.
        parts = [f"meta protocol {family}"]
        if networks:
            parts.append(f"{family} daddr {{ {', '.join(networks)} }}")
        if chosen.protocol == "icmp":
            parts.append(f"meta l4proto {'icmp' if family == 'ip' else 'icmpv6'}")
        elif chosen.protocol != "any":
            parts.append(f"meta l4proto {chosen.protocol}")
        ports = (("dport", chosen.to_ports), ("sport", chosen.from_ports))
        parts += [
            f"{chosen.protocol} {side} {{ {', '.join(map(str, numbers))} }}"
            for side, numbers in ports
            if numbers
        ]
        yield " ".join(parts) + " "


def _families(chosen: TrafficClass) -> Iterator[tuple[str, list[str]]]:
    v4 = [str(net) for net in chosen.to if isinstance(net, IPv4Network)]
    v6 = [str(net) for net in chosen.to if isinstance(net, IPv6Network)]
    if v4 or not chosen.to:
        yield "ip", v4
    if v6 or not chosen.to:
        yield "ip6", v6


def _forward(policy: Policy) -> list[str]:
    inside, outside = policy.interfaces.inside, policy.interfaces.outside
    # By index, not by name: an interface made anew under an old name is another interface.
    return [
        # A made-up sender is a message by itself, and hides its packets from the watch.
        f'iif "{inside}" fib saddr . iif oif missing drop',
        f'iif "{inside}" oif "{outside}" accept',
        f'iif "{outside}" oif "{inside}" accept',
    ]


def _output(policy: Policy) -> list[str]:
    named = policy.interfaces
    allowed = ("lo", named.inside, named.outside, *named.management)
    return [f'oif "{name}" accept' for name in allowed]


def _limit(name: str, chosen: TrafficClass) -> str:
    # A limit cannot be changed; another rate is another object.
    return f"rate_{name}.{chosen.rate}"
