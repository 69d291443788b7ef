"""A policy is refused with the key that is wrong, never half understood."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.errors import ConfigError
from tidegate.gate.policy import LIFETIME, load, parse

GOOD = """
lifetime = 1_000_000_000
[interfaces]
inside = "eth1"
outside = "eth0"
[classes.api]
protocol = "tcp"
to = ["192.0.2.0/24", "2001:db8::/32"]
to_ports = [443]
quota = 100_000_000
period_s = 86_400
rate = 1_000_000
[classes.arp]
protocol = "arp"
quota = 100_000
"""


def test_what_is_not_said_has_a_safe_default() -> None:
    policy = parse(GOOD)
    assert policy.super_packets == "charge"
    assert policy.lease_ms + 200 <= 1000, "with the queue, traffic must stop within a second"
    assert policy.accounts() == ("api", "arp", LIFETIME)
    assert (policy.number("api"), policy.number("arp")) == (1, 2)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("lifetime = 1_000_000_000", ""), "lifetime"),
        (("lifetime = 1_000_000_000", "lifetime = 0"), "lifetime"),
        (("quota = 100_000\n", "quota = 100_000\nquotta = 1\n"), r"classes.arp.quotta"),
        (('outside = "eth0"', 'outside = "eth0; drop"'), r"interfaces.outside"),
        (('outside = "eth0"', 'outside = "eth1"'), "two roles"),
        (('"192.0.2.0/24"', '"192.0.2.1/24"'), r"classes.api.to"),
        (('protocol = "tcp"', 'protocol = "sctp"'), r"classes.api.protocol"),
        (("to_ports = [443]", "to_ports = [70000]"), "to_ports"),
        (('protocol = "tcp"', 'protocol = "icmp"'), "has no ports"),
        (("[classes.arp]", "[classes.lifetime]"), "may be called"),
        (("[classes.arp]", "[classes.'a b']"), "classes"),
        (("lifetime =", "lease_ms = 200\nlifetime ="), "twice heartbeat_ms"),
        (("lifetime =", "= lifetime"), "not TOML"),
    ],
)
def test_what_is_wrong_is_named(change: tuple[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse(GOOD.replace(*change))


def test_more_classes_than_a_mark_can_tell_apart_are_refused() -> None:
    more = "".join(f"[classes.c{n}]\nprotocol='any'\nquota=1\n" for n in range(14))
    with pytest.raises(ConfigError, match="classes"):
        parse(GOOD + more)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        load(tmp_path / "nowhere.toml")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="bytes"):
        load(tmp_path / "bytes")
