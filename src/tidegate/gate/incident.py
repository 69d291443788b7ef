"""What happens when something is seen: which incident it is, and what is done about it. Pure.

An incident is one kind of thing between one pair of ends; what is seen of it again belongs to it.
Acting is a ladder: note, throttle, latch. Nothing here ever takes a step back down; throttles run
out by themselves, and a latch is reset by an operator.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any, Final

import msgspec

from tidegate.errors import ConfigError
from tidegate.record.ocsf import Severity
from tidegate.scan.alerts import Alert, Kind


class Action(StrEnum):
    """What is done, each with all that stands before it."""

    NOTE = "note"
    THROTTLE = "throttle"
    LATCH = "latch"


_LADDER: Final = (Action.NOTE, Action.THROTTLE, Action.LATCH)


class Response(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do about what.

    `certain`: the owner's own weights, by fingerprint. `weights`: what looks like anybody's, once
    there are `least_bytes` of it within `within_s` seconds: one odd window is no theft. `opaque`:
    what cannot be told from encrypted bytes; a site that encrypts will only want to note it.
    `binary_ports`: of traffic that is no text by nature, such as updates; what looks like weights
    there is only noted. `shift`: more than is billed. `rest`: beacons, drips and frames left
    unseen. `throttle_bytes_s` and `throttle_s` say how much a throttled sender may still send, and
    for how long.
    `latch_after`: throttles of one incident after which it is latched all the same; 0 never does.
    """

    certain: Action = Action.LATCH
    weights: Action = Action.THROTTLE
    opaque: Action = Action.NOTE
    shift: Action = Action.THROTTLE
    rest: Action = Action.NOTE
    least_bytes: int = 1 << 16
    within_s: int = 10
    binary_ports: tuple[int, ...] = ()
    throttle_bytes_s: int = 4096
    throttle_s: int = 600
    latch_after: int = 3

    def __post_init__(self) -> None:
        """Raises ConfigError for a throttle that is none."""
        if self.throttle_bytes_s <= 0 or self.throttle_s <= 0 or self.latch_after < 0:
            raise ConfigError("a throttle lets some bytes a second through, for some seconds")
        if self.least_bytes < 0 or self.within_s <= 0:
            raise ConfigError("weights are acted on after some bytes, within some seconds")

    def to(self, alert: Alert, burst: int) -> Action:
        """What an alert calls for, when the last moments' alerts are about `burst` bytes."""
        if alert.kind is Kind.WEIGHTS:
            if alert.severity is Severity.CRITICAL:
                return self.certain
            ends = alert.ends
            ports = set() if ends is None else {ends.source_port, ends.destination_port}
            odd = burst < self.least_bytes or not ports.isdisjoint(self.binary_ports)
            return Action.NOTE if odd else self.weights
        if alert.kind is Kind.OPAQUE:
            return self.opaque
        return self.shift if alert.kind is Kind.SHIFT else self.rest


class Incident(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One incident so far.

    Times are Unix seconds. `first_byte` is that of the first byte of what was acted on last,
    `alarm` when it was known, `stopped` when the kernel had been told to stop it. `alert` is the
    one that called for it. `leaked`: bytes that all alerts are about; `burst`: those since
    `burst_since`. `failure`: why something was not done that ought to have been.
    """

    id: str
    alert: Alert
    action: Action
    alerts: int = 1
    throttles: int = 0
    leaked: int = 0
    burst: int = 0
    burst_since: float
    first_byte: float
    alarm: float
    stopped: float | None = None
    failure: str = ""

    @property
    def to_alarm(self) -> float:
        """Seconds from the first leaked byte to the alarm."""
        return max(0.0, self.alarm - self.first_byte)

    @property
    def to_stop(self) -> float | None:
        """Seconds from the first leaked byte until it was stopped; None where it was not."""
        return None if self.stopped is None else max(0.0, self.stopped - self.first_byte)

    def summary(self) -> dict[str, Any]:
        """The incident with both times, for people and machines."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return told | {"seconds_to_alarm": self.to_alarm, "seconds_to_stop": self.to_stop}


Incidents = dict[str, Incident]
"""Open incidents by id."""


def decide(
    incidents: Incidents, response: Response, alert: Alert, *, first_byte: float, alarm: float
) -> tuple[Incidents, Incident, Action | None]:
    """The incidents after one more alert, the one that it belongs to, and what is to be done now;
    None where no more is called for than was done already.

    A throttle is called for anew by each burst that comes through it, a latch only once.
    """
    name = identity(alert)
    before = incidents.get(name)
    if before is None:
        wanted = response.to(alert, alert.bytes)
        incident = Incident(
            id=name,
            alert=alert,
            action=wanted,
            throttles=int(wanted is Action.THROTTLE),
            leaked=alert.bytes,
            burst=alert.bytes,
            burst_since=first_byte,
            first_byte=first_byte,
            alarm=alarm,
        )
        return incidents | {name: incident}, incident, wanted
    since, burst = before.burst_since, before.burst + alert.bytes
    if first_byte - since > response.within_s:
        since, burst = first_byte, alert.bytes
    wanted = response.to(alert, burst)
    throttles = before.throttles + (wanted is Action.THROTTLE)
    if response.latch_after and throttles > response.latch_after:
        wanted = Action.LATCH
    reached = max(before.action, wanted, key=_LADDER.index)
    incident = msgspec.structs.replace(
        before,
        action=reached,
        alerts=before.alerts + 1,
        throttles=throttles,
        leaked=before.leaked + alert.bytes,
        burst=burst,
        burst_since=since,
    )
    climbed = reached is not before.action
    again = wanted is Action.THROTTLE and before.action is not Action.LATCH
    if not (climbed or again):
        return incidents | {name: incident}, incident, None
    incident = msgspec.structs.replace(
        incident, alert=alert, first_byte=since, alarm=alarm, burst=0, burst_since=alarm
    )
    return incidents | {name: incident}, incident, wanted


def identity(alert: Alert) -> str:
    """Which incident an alert belongs to: its kind and hosts. Ports change at every connection."""
    ends = alert.ends
    where = "" if ends is None else f"{ends.source} {ends.destination}"
    said = f"{alert.kind}\n{where}".encode()
    return hashlib.sha256(said).hexdigest()[:12]
