"""What may leave, as one TOML file says it: classes of traffic, their quotas, rates and lifetime.

Sizes are bytes of frames as they leave the interface, Ethernet header included. Everything that no
class names is dropped, in every protocol. An unknown key is an error, not a silent default.
"""

from __future__ import annotations

import hashlib
import tomllib
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tidegate.errors import ConfigError

MAX_BYTES = 2**62
MAX_CLASSES = 15
"""A packet's mark has four bits for its class; 0 is none."""
LIFETIME = "lifetime"
"""The account that all classes draw on."""

Bytes = Annotated[int, Field(ge=1, le=MAX_BYTES)]
Port = Annotated[int, Field(ge=1, le=65535)]
Interface = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$")]
ClassName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]

_RATE_QUEUE_MS = 200
_LEAST_QUEUE = 3 * 1514
_GRANTS_A_QUOTA = 16
_LEAST_GRANT = 128 * 1024


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrafficClass(_Section):
    """One kind of traffic that may leave, and how much of it."""

    protocol: Literal["tcp", "udp", "icmp", "any", "arp"]
    """icmp stands for ICMP and ICMPv6; any for everything over IP; arp for IPv4's address
    resolution, the only traffic but IP that a gate lets out at all."""
    to: tuple[IPv4Network | IPv6Network, ...] = ()
    """Destinations; empty means every address."""
    to_ports: tuple[Port, ...] = ()
    from_ports: tuple[Port, ...] = ()
    """Answers of a server inside, such as 22 for ssh to it."""
    quota: Bytes
    """Bytes in a period."""
    period_s: Annotated[int, Field(ge=1)] | None = None
    """Seconds of the gate's own running time after which the quota is full again; never, if not
    given. Time the gate is down does not count, nor does setting the clock."""
    rate: Annotated[int, Field(ge=1_000, le=2**40)] | None = None
    """Bytes a second on the wire."""

    @model_validator(mode="after")
    def _ports_need_a_protocol(self) -> Self:
        if (self.to_ports or self.from_ports) and self.protocol not in {"tcp", "udp"}:
            raise ValueError(f"{self.protocol} has no ports")
        if self.protocol == "arp" and self.to:
            raise ValueError("arp is not routed: it takes no addresses")
        return self

    @property
    def queue(self) -> int:
        """Bytes that may come at once: a fifth of a second's, three frames at least."""
        return max(_LEAST_QUEUE, (self.rate or 0) * _RATE_QUEUE_MS // 1000)

    @property
    def shaped(self) -> bool:
        """Whether they wait for the rate. At a slow one they would still leave when the heart has
        stopped for seconds; there, what comes too soon is only dropped."""
        return self.rate is not None and self.queue == self.rate * _RATE_QUEUE_MS // 1000


class Interfaces(_Section):
    """Which of the host's interfaces are what."""

    inside: Interface
    outside: Interface
    management: tuple[Interface, ...] = ()
    """Where operators reach the host. Not metered: nothing is forwarded there, but what runs on
    the gate itself can send there."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [self.inside, self.outside, *self.management, "lo"]
        if len(set(names)) < len(names):
            raise ValueError("an interface has two roles, or is the loopback")
        return self


class Grid(_Section):
    """The release grid; see `gate.grid`. Its cells leave as datagrams, which a class has to allow
    and is charged for, dummies and padding included."""

    slot_us: Annotated[int, Field(ge=200, le=10_000_000)]
    size: Annotated[int, Field(ge=16, le=1_400)]
    """Bytes of each cell: a datagram's payload."""
    lanes: Annotated[int, Field(ge=1, le=64)] = 1
    """Senders inside, who take turns whether they have something to say or not."""
    listen: Port
    """Lane n takes datagrams on this port plus n, on every address of the gate."""
    to: IPv4Address | IPv6Address
    port: Port
    resolution_ns: Annotated[int, Field(ge=1)] = 1_000
    """What someone outside can tell two departures apart by. Assumed, not measured."""


class Meters(_Section):
    """What is held against each other while the gate is open; see `gate.meter_hold`."""

    tap: tuple[str, ...] = Field(min_length=1)
    """Starts `tidegate.gate.tap_program` on the tap's host and carries its input and output, as ssh
    does; `{address}` in it stands for the outside interface's Ethernet address."""
    every_ms: Annotated[int, Field(ge=50, le=10_000)] = 250
    """How often they are asked."""
    lease_ms: Annotated[int, Field(ge=200, le=60_000)] = 2_000
    """How long one agreement keeps the gate open."""
    settle_s: Annotated[int, Field(ge=1, le=3_600)] = 60
    """How long traffic may keep them from being compared to the byte; then the gate closes until
    the wire rests."""

    @property
    def lease_ns(self) -> int:
        """`lease_ms` in nanoseconds."""
        return 1_000_000 * self.lease_ms

    @property
    def settle_ns(self) -> int:
        """`settle_s` in nanoseconds."""
        return 1_000_000_000 * self.settle_s

    @model_validator(mode="after")
    def _asked_in_time(self) -> Self:
        if self.lease_ms < 2 * self.every_ms:
            raise ValueError("lease_ms must be at least twice every_ms: a late answer closes")
        return self


class Policy(_Section):
    """The whole file."""

    interfaces: Interfaces
    state: Path = Path("/var/lib/tidegate/gate")
    """A folder of the gate's own: what was granted, and why it is closed."""
    lifetime: Bytes
    """Bytes of all classes together, ever."""
    grant: Bytes | None = None
    """Bytes that the kernel may be ahead of the disk in each account. What a crash forfeits."""
    heartbeat_ms: Annotated[int, Field(ge=20, le=300)] = 150
    lease_ms: Annotated[int, Field(ge=100, le=800)] = 600
    """The kernel lets traffic out for this long after the last heartbeat."""
    super_packets: Literal["charge", "drop"] = "charge"
    """Packets that segmentation offload made longer than the MTU are charged by what they will be
    on the wire, which needs BPF, or dropped: then switch GRO off on the interface inside."""
    mtu: Annotated[int, Field(ge=576, le=65_535)] = 1500
    """Of the outside interface; what is longer is a super-packet."""
    classes: dict[ClassName, TrafficClass] = Field(min_length=1, max_length=MAX_CLASSES)
    """First match wins."""
    grid: Grid | None = None
    meters: Meters | None = None
    """Without them nothing watches the gate but its own kernel."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.lease_ms < 2 * self.heartbeat_ms:
            raise ValueError("lease_ms must be at least twice heartbeat_ms: a late beat closes")
        if LIFETIME in self.classes:
            raise ValueError(f"no class may be called {LIFETIME}")
        return self

    def quota_of(self, account: str) -> int:
        """The cap of an account: a class, or `lifetime`."""
        return self.lifetime if account == LIFETIME else self.classes[account].quota

    def accounts(self) -> tuple[str, ...]:
        """Every account: the classes in order, then `lifetime`."""
        return (*self.classes, LIFETIME)

    def grant_of(self, account: str) -> int:
        """Bytes that the kernel is granted ahead of what was seen to be used."""
        if self.grant is not None:
            return self.grant
        if account == LIFETIME:
            return sum(self.grant_of(name) for name in self.classes)
        rate = self.classes[account].rate
        ahead = 2 * rate if rate is not None else self.classes[account].quota // _GRANTS_A_QUOTA
        return max(_LEAST_GRANT, ahead)

    def number(self, name: str) -> int:
        """A class's number, from 1: the low byte of the mark its packets carry."""
        return list(self.classes).index(name) + 1

    def digest(self) -> str:
        """A hash of everything the policy says."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def parse(text: str, named: str = "the policy") -> Policy:
    """A policy from TOML. Raises ConfigError naming the key."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{named} is not TOML: {error}") from error
    try:
        return Policy.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "as a whole"
        raise ConfigError(f"{named}, {where}: {first['msg']}", setting=where) from error


def load(path: Path) -> Policy:
    """A policy from a file. Raises ConfigError."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the policy {path}: {error}", path=str(path)) from error
    return parse(text, str(path))
