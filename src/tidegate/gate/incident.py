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
from tidegate.scan import alerts
from tidegate.scan.alerts import Alert, Kind
from tidegate.units import Timestamp


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
    there is only noted. `spread`: weights in pieces of which none was enough, once there are
    `total_bytes` of them, or from `most_pairs` of hosts, within `total_s`; nobody in particular
    sends them, so a throttle is a latch. `shift`: more than is billed. `unscanned`: a frame that
    broke the scan. `blind`: frames left unseen, and evidence that had no room. `rest`: beacons,
    drips and odd headers. `throttle_bytes_s` and `throttle_s` say how much a throttled sender may
    still send, and for how long.
    `latch_after`: throttles of one incident after which it is latched all the same; 0 never does.
    """

    certain: Action = Action.LATCH
    weights: Action = Action.THROTTLE
    opaque: Action = Action.NOTE
    spread: Action = Action.LATCH
    shift: Action = Action.THROTTLE
    unscanned: Action = Action.THROTTLE
    blind: Action = Action.NOTE
    rest: Action = Action.NOTE
    least_bytes: int = 1 << 16
    within_s: int = 10
    total_bytes: int = 1 << 20
    most_pairs: int = 32
    total_s: int = 600
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
        if self.total_bytes <= 0 or self.most_pairs <= 0 or self.total_s <= 0:
            raise ConfigError("pieces are acted on after some bytes or pairs, within some seconds")

    def to(self, alert: Alert, burst: int) -> Action:
        """What an alert calls for, when the last moments' alerts are about `burst` bytes."""
        if alert.kind is Kind.WEIGHTS:
            if alert.severity is Severity.CRITICAL:
                return self.certain
            odd = burst < self.least_bytes or self.binary(alert)
            return Action.NOTE if odd else self.weights
        of_kind = {
            Kind.OPAQUE: self.opaque,
            Kind.SHIFT: self.shift,
            Kind.SPREAD: self.spread,
            Kind.UNSCANNED: self.unscanned,
            Kind.BLIND: self.blind,
            Kind.EVIDENCE: self.blind,
        }
        return of_kind.get(alert.kind, self.rest)

    def binary(self, alert: Alert) -> bool:
        """Whether the alert is about traffic that is no text by nature."""
        ends = alert.ends
        return ends is not None and bool(
            {ends.source_port, ends.destination_port} & set(self.binary_ports)
        )


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

    What was done is done anew for each burst that comes through it: a throttle runs out, and an
    operator takes a latch off.
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
            burst=alert.bytes if wanted is Action.NOTE else 0,
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
    if wanted is Action.THROTTLE and 0 < response.latch_after < throttles:
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
    if wanted is Action.NOTE:
        return incidents | {name: incident}, incident, None
    incident = msgspec.structs.replace(
        incident, alert=alert, first_byte=since, alarm=alarm, burst=0, burst_since=alarm
    )
    return incidents | {name: incident}, incident, reached


class Boundary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What looks like weights and was only noted, between whatever hosts, since `since`: bytes, and
    the incidents that they belong to."""

    since: float = 0.0
    bytes: int = 0
    pairs: frozenset[str] = frozenset()


def spread(
    boundary: Boundary, response: Response, incident: Incident, alert: Alert
) -> tuple[Boundary, Alert | None]:
    """The boundary after an alert that belongs to `incident`; with an alert about all of it, once
    it is too much. Then it begins anew.

    Nothing here depends on whether incidents are still remembered. What the kernel throttles now
    is bounded there, and not counted.
    """
    held = incident.stopped is not None and alert.time < incident.stopped + response.throttle_s
    if alert.kind is not Kind.WEIGHTS or held or response.binary(alert):
        return boundary, None
    if alert.time - boundary.since > response.total_s:
        boundary = Boundary(since=alert.time)
    size, pairs = boundary.bytes + alert.bytes, boundary.pairs | {incident.id}
    if size < response.total_bytes and len(pairs) < response.most_pairs:
        return Boundary(boundary.since, size, pairs), None
    since, time = Timestamp(boundary.since), Timestamp(alert.time)
    return Boundary(), alerts.spread(size, len(pairs), since, time)


def remembered(incidents: Incidents, most: int) -> Incidents:
    """At most `most` incidents: of what was only noted, the oldest are forgotten first."""
    if len(incidents) <= most:
        return incidents
    noted = (name for name, one in incidents.items() if one.action is Action.NOTE)
    gone = next(noted, next(iter(incidents)))
    return {name: one for name, one in incidents.items() if name != gone}


def identity(alert: Alert) -> str:
    """Which incident an alert belongs to: its kind and hosts, or what found it where nobody is
    named. Ports change at every connection."""
    ends = alert.ends
    where = alert.detector if ends is None else f"{ends.source} {ends.destination}"
    said = f"{alert.kind}\n{where}".encode()
    return hashlib.sha256(said).hexdigest()[:12]
