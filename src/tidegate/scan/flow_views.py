"""Two views of who talks to whom over hours and days: beacons and slow drips. Pure.

A **beacon** calls home at intervals too regular for people and independent programs. Starts of a
conversation that nobody spaces come like a Poisson process; Moran's statistic, the mean of
-ln(interval / mean interval), is then about Euler's constant and falls towards 0 as intervals
become alike (Moran, "The random division of an interval", 1951), which gives the probability that
chance did it. Honest timers are just as regular: what is known to be one belongs on an allow-list.

A **drip** stays below every hourly limit for as long as it takes. Only its sum shows it, so the
view is of sums, and of when a payload of a given size would be out at that rate.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from tidegate.errors import ConfigError

HOUR, DAY = 3600.0, 86_400.0
_LEAST_CHANCE = 1e-99


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One conversation as somebody logged it. `start`: Unix seconds; `sent`: bytes from source to
    destination, with headers where the log has them; `service`: what the log takes it for."""

    start: float
    duration: float
    protocol: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    sent: int
    received: int = 0
    service: str = ""

    @property
    def peer(self) -> str:
        """Whom it goes to, whatever ports the source takes."""
        port = f" port {self.destination_port}" if self.destination_port else ""
        return f"{self.source} → {self.destination}{port} {self.protocol}"


class BeaconLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a rhythm is an alarm. `intervals`: fewer show nothing. `chance`: one peer of so many
    whose calls nobody spaces alarms; 1e-6 is one of a million. `apart`: starts that are closer, in
    seconds, are one."""

    intervals: int = 12
    chance: float = 1e-6
    apart: float = 1.0

    def __post_init__(self) -> None:
        """Raises ConfigError for limits that nothing or everything passes."""
        if self.intervals < 4 or not 0 < self.chance < 1 or self.apart <= 0:
            raise ConfigError("beacon limits: at least 4 intervals, and a chance between 0 and 1")


class Beacon(msgspec.Struct, frozen=True):
    """A peer called at regular intervals of about `period` seconds. `jitter`: median deviation of
    an interval from it, as a share. `size_jitter`: the same of the bytes sent each time."""

    example: Connection
    calls: int
    period: float
    jitter: float
    size_jitter: float
    chance: float
    sent: int

    def __str__(self) -> str:
        return (
            f"{self.example.peer}: {self.calls} calls every {self.period:,.0f} s "
            f"(± {self.jitter:.0%}), {self.sent:,} bytes in all; calls that nobody spaces are as "
            f"regular with probability {max(self.chance, _LEAST_CHANCE):.0e}"
        )


class DripLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a sum is an alarm. `total`: bytes to one peer that are allowed over everything seen.
    `hour`: bytes an hour above which it is bulk, which quotas and rates see; a drip stays below in
    every hour. `payload`: bytes that a thief would want, to say when they would be out."""

    total: int = 16 << 20
    hour: int = 8 << 20
    payload: int = 0

    def __post_init__(self) -> None:
        """Raises ConfigError for limits that are not positive."""
        if self.total <= 0 or self.hour <= 0 or self.payload < 0:
            raise ConfigError("drip limits: bytes in total and an hour above 0")


class Drip(msgspec.Struct, frozen=True):
    """What one peer was sent, slowly. `hours`: those in which anything was; `of_hours`: all from
    the first to the last; `days_left`: until `DripLimits.payload` is out at this rate."""

    example: Connection
    sent: int
    hours: int
    of_hours: int
    most_an_hour: int
    a_day: float
    days_left: float | None

    def __str__(self) -> str:
        left = (
            ""
            if self.days_left is None
            else f"; at this rate all of it is out in {self.days_left:,.1f} days"
        )
        return (
            f"{self.example.peer}: {self.sent:,} bytes in {self.hours} of {self.of_hours} hours, "
            f"never more than {self.most_an_hour:,} in one{left}"
        )


class Peer(msgspec.Struct, frozen=True):
    """Whom something is sent to, whether or not it is an alarm. `chance`: that calls which nobody
    spaces are as regular; None with too few calls to say."""

    example: Connection
    sent: int
    calls: int
    hours: int
    of_hours: int
    a_day: float
    chance: float | None


def peers(
    connections: Iterable[Connection], limits: BeaconLimits | None = None
) -> tuple[Peer, ...]:
    """Everybody who is sent something, most bytes first."""
    limits = limits or BeaconLimits()
    found = []
    for group in _by_peer(connections).values():
        calls = _calls(sorted(group, key=lambda one: one.start), limits.apart)
        intervals = [late[0] - early[0] for early, late in pairwise(calls)]
        hours = _hours(group) or {0: 0}
        span = max(hours) - min(hours) + 1
        sent = sum(one.sent for one in group)
        found.append(
            Peer(
                example=group[0],
                sent=sent,
                calls=len(calls),
                hours=len(hours),
                of_hours=span,
                a_day=sent / span * (DAY / HOUR),
                chance=chance(intervals) if len(intervals) >= limits.intervals else None,
            )
        )
    return tuple(sorted(found, key=lambda one: -one.sent))


def beacons(
    connections: Iterable[Connection], limits: BeaconLimits | None = None
) -> tuple[Beacon, ...]:
    """Peers that are called too regularly, the most regular first."""
    limits = limits or BeaconLimits()
    found = []
    for group in _by_peer(connections).values():
        calls = _calls(sorted(group, key=lambda one: one.start), limits.apart)
        intervals = [late[0] - early[0] for early, late in pairwise(calls)]
        if len(intervals) < limits.intervals or (luck := chance(intervals)) > limits.chance:
            continue
        period = statistics.median(intervals)
        sizes = [size for _, size in calls]
        found.append(
            Beacon(
                example=group[0],
                calls=len(calls),
                period=period,
                jitter=_spread(intervals),
                size_jitter=_spread(sizes),
                chance=luck,
                sent=sum(sizes),
            )
        )
    return tuple(sorted(found, key=lambda one: one.chance))


def chance(intervals: Sequence[float]) -> float:
    """The probability that Poisson starts are as regular as this, or more. At least two intervals,
    all above 0.

    Bartlett's form of Moran's statistic, which is about χ² with one degree of freedom less than
    there are intervals.
    """
    count = len(intervals)
    mean = math.fsum(intervals) / count
    moran = 2 * math.fsum(math.log(mean / interval) for interval in intervals)
    return _chi_squared(max(0.0, moran) / (1 + (count + 1) / (6 * count)), count - 1)


def _chi_squared(value: float, freedom: int) -> float:
    """P(χ² ≤ value), by the series of the incomplete gamma function (DLMF 8.7.1); at least 0."""
    shape, half = freedom / 2, value / 2
    if half == 0 or half > 10 * (shape + 10):
        return float(half > 0)
    term = total = 1.0
    step = 0
    while term > 1e-12 * total:
        step += 1
        term *= half / (shape + step)
        total += term
    return min(1.0, math.exp(shape * math.log(half) - half - math.lgamma(shape + 1)) * total)


def drips(connections: Iterable[Connection], limits: DripLimits | None = None) -> tuple[Drip, ...]:
    """Peers that were sent more than the total without ever being sent much, most bytes first."""
    limits = limits or DripLimits()
    found = []
    for group in _by_peer(connections).values():
        sent = sum(one.sent for one in group)
        hours = _hours(group)
        if sent <= limits.total or max(hours.values()) > limits.hour:
            continue
        span = max(hours) - min(hours) + 1
        a_day = sent / span * (DAY / HOUR)
        left = max(0, limits.payload - sent) / a_day if limits.payload else None
        found.append(
            Drip(
                example=group[0],
                sent=sent,
                hours=len(hours),
                of_hours=span,
                most_an_hour=max(hours.values()),
                a_day=a_day,
                days_left=left,
            )
        )
    return tuple(sorted(found, key=lambda one: -one.sent))


def _by_peer(connections: Iterable[Connection]) -> dict[str, list[Connection]]:
    groups: defaultdict[str, list[Connection]] = defaultdict(list)
    for one in connections:
        groups[one.peer].append(one)
    return groups


def _calls(group: Sequence[Connection], apart: float) -> list[tuple[float, int]]:
    """When calls began and what was sent in each; connections close together are one call."""
    calls: list[tuple[float, int]] = []
    latest = -math.inf
    for one in group:
        if one.start - latest < apart:
            calls[-1] = (calls[-1][0], calls[-1][1] + one.sent)
        else:
            calls.append((one.start, one.sent))
        latest = one.start
    return calls


def _hours(group: Sequence[Connection]) -> dict[int, int]:
    """Bytes by hour; those of a connection that lasted longer are spread over its hours."""
    hours: defaultdict[int, int] = defaultdict(int)
    for one in group:
        first, last = int(one.start // HOUR), int((one.start + one.duration) // HOUR)
        share, rest = divmod(one.sent, last - first + 1)
        for hour in range(first, last + 1):
            hours[hour] += share
        hours[first] += rest
    return {hour: size for hour, size in hours.items() if size}


def _spread(values: Sequence[float]) -> float:
    """Median deviation from the median, as a share of it."""
    middle = statistics.median(values)
    return statistics.median(abs(one - middle) for one in values) / middle if middle else 0.0
