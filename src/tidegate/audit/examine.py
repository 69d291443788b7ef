"""One pass over events of any number of logs, in memory that does not grow with them.

What is kept: intervals (`coverage`), counts by the hour (`streams`), tallies of what is found again
and again, and the sources and agents of each principal that touches a model. `conclude` makes
findings of it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from tidegate.audit.clusters import Ties
from tidegate.audit.coverage import MOST_PRINCIPALS, Coverage
from tidegate.audit.event import UNKNOWN, Action, Broken, Event, Place
from tidegate.audit.findings import Kind
from tidegate.audit.grants import Grant, Journal, Leases
from tidegate.audit.models import Guarded, Shard, Sources
from tidegate.audit.sigma import Rule
from tidegate.audit.streams import Stream
from tidegate.audit.tally import Tallies
from tidegate.record.sarif import Level

DAY: Final = 86_400
_RECENT: Final = 1 << 18
"""Requests that are remembered so that one logged twice counts once; twice as many at most."""

_MOST_NEW: Final = 4096
"""Sources and agents remembered of one principal."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Thresholds. Shares are of a model's bytes; durations in seconds unless they say days.

    note_share, alarm_share: coverage outside grants that is a warning, and an error.
    skew: by which the clocks of stores, key services and broker may differ.
    learning: after a principal's first read, how long its sources and agents are taken as its own.
    days_left: a principal that has the whole model sooner at its present rate is a finding.
    rubber: seconds within which nobody reads a request.
    """

    note_share: float = 0.01
    alarm_share: float = 0.1
    skew: float = 120.0
    learning: float = 7 * DAY
    days_left: float = 30.0
    rubber: float = 30.0
    since: float = float("-inf")
    until: float = float("inf")


@dataclass(slots=True)
class Known:
    """What is usual for one principal that reads models: sources and agents, and since when."""

    first: float
    sources: set[str] = field(default_factory=set)
    agents: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Use:
    """What was done under one grant: reads, bytes served, and keys unwrapped."""

    reads: int = 0
    served: int = 0
    decrypts: int = 0


_UNUSED: Final = Use()


class Examiner:
    """Takes events, one at a time, in any order; roughly ascending time is best for what is new."""

    def __init__(
        self, guarded: Guarded, journal: Journal | None, settings: Settings | None = None
    ) -> None:
        self.guarded = guarded
        self.journal = journal
        self.settings = settings or Settings()
        self.leases = Leases(journal or Journal(), self.settings.skew)
        self.coverage = Coverage()
        self.tallies = Tallies()
        self.ties = Ties()
        self.streams: dict[str, Stream] = {}
        self.rules: dict[str, Level] = {}
        self.known: dict[str, Known] = {}
        self.uses: dict[str, Use] = {}
        self.actions: Counter[Action] = Counter()
        self.events = 0
        self.outside = 0
        self.repeated = 0
        self.decrypts = 0
        self.first, self.last = float("inf"), float("-inf")
        self._sources = Sources(guarded.networks)
        self._places = guarded.places()
        self._keys = _with_parents(guarded.keys())
        self._containers = frozenset(_container(at) for m in guarded.models for at in m.places)
        self._recent: tuple[set[tuple[str, str]], set[tuple[str, str]]] = (set(), set())
        self._steps = {
            Action.READ: self._read,
            Action.OPEN: self._read,
            Action.COPY: self._copied,
            Action.DECRYPT: self._decrypted,
            Action.SHARE: self._shared,
            Action.LOGGING_OFF: self._switched_off,
            Action.EXECUTE: self._door,
            Action.UNKNOWN: self._not_understood,
        }

    def fail(self, broken: Broken, place: Place) -> None:
        """Count a record that could not be read."""
        self.tallies.add(Kind.UNREADABLE, f"source {place.source}", broken.why, 0.0, place)

    def matched(self, rule: Rule, event: Event, place: Place) -> None:
        """Count a match of a Sigma rule."""
        self.rules[rule.title] = rule.level
        who = self.guarded.named(event.principal)
        self.tallies.add(Kind.SIGMA, who, rule.title, event.time, place, detail=event.operation)

    def take(self, event: Event, place: Place) -> None:
        """Count one event."""
        time = event.time
        if not self.settings.since <= time < self.settings.until:
            self.outside += 1
            return
        self.events += 1
        if time < self.first:
            self.first = time
        if time > self.last:
            self.last = time
        name = event.stream
        stream = self.streams.get(name)
        if stream is None:
            stream = self.streams[name] = Stream(name)
        stream.take(time, place)
        self.actions[event.action] += 1
        step = self._steps.get(event.action)
        if step is not None:
            step(event, place)

    def _read(self, event: Event, place: Place) -> None:
        held = self._places.get(event.target)
        if held is None:
            # A secret that is read as a file or an object is a key.
            if event.target in self._keys:
                self._decrypted(event, place)
            return
        if not event.ok or (event.request and self._seen(event)):
            return
        number, shard = held
        model = self.guarded.models[number].name
        who = self.guarded.named(event.principal)
        grant = self.leases.covering(who, model, shard.number, event.time)
        offset, length = _extent(event, shard)
        self.coverage.add(who, number, shard, grant is not None, event.time, offset, length, place)
        self._usual(who, model, event, place)
        if event.presigned:
            self.tallies.add(Kind.PRESIGNED, who, model, event.time, place, max(0, length))
        if event.account and event.owner and event.account != event.owner:
            self.tallies.add(
                Kind.CROSS_ACCOUNT, who, model, event.time, place, max(0, length), event.account
            )
        if grant is not None:
            use = self.uses.setdefault(grant.id, Use())
            use.reads += 1
            use.served += max(0, length)
            return
        self.ties.add(who, event.credential, event.address)
        if self.journal is not None:
            held_one = self.leases.known(who, model)
            kind = Kind.READ_OUTSIDE if held_one else Kind.READ_UNGRANTED
            self.tallies.add(kind, who, model, event.time, place, max(0, length), shard.name)

    def _usual(self, who: str, model: str, event: Event, place: Place) -> None:
        source = self._sources.of(event.address) if event.address else ""
        agent = _program(event.agent)
        known = self.known.get(who)
        if known is None:
            if len(self.known) >= MOST_PRINCIPALS:
                return
            self.known[who] = Known(event.time, {source}, {agent})
            if event.time - self.first >= self.settings.learning:
                self.tallies.add(
                    Kind.NEW_PRINCIPAL, who, model, event.time, place, detail=source or "no address"
                )
            return
        # Nothing is new of whom nothing was usual yet.
        late = event.time - known.first >= self.settings.learning
        if source not in known.sources and len(known.sources) < _MOST_NEW:
            known.sources.add(source)
            if late and source:
                self.tallies.add(Kind.NEW_SOURCE, who, model, event.time, place, detail=source)
        if agent not in known.agents and len(known.agents) < _MOST_NEW:
            known.agents.add(agent)
            if late and agent:
                self.tallies.add(Kind.NEW_AGENT, who, model, event.time, place, detail=agent)

    def _copied(self, event: Event, place: Place) -> None:
        held = self._places.get(event.target)
        if held is None or not event.ok:
            return
        model = self.guarded.models[held[0]].name
        who = self.guarded.named(event.principal)
        if event.other not in self._places:
            self.tallies.add(
                Kind.STORE_COPY, who, model, event.time, place, detail=event.other or "not logged"
            )
        self._read(event, place)

    def _decrypted(self, event: Event, place: Place) -> None:
        self.decrypts += 1
        number = self._keys.get(event.target)
        if number is None or not event.ok:
            return
        model = self.guarded.models[number].name
        who = self.guarded.named(event.principal)
        if self.journal is None:
            return
        if event.principal in self.guarded.brokers or who in self.guarded.brokers:
            grant = self._released_for(model, event.time)
        else:
            grant = self.leases.covering(who, model, None, event.time)
        if grant is None:
            self.tallies.add(
                Kind.DECRYPT_UNGRANTED, who, model, event.time, place, detail=event.operation
            )
            return
        use = self.uses.setdefault(grant.id, Use())
        use.decrypts += 1
        if use.decrypts > len(grant.shards):
            # A release unwraps each key once; a second time is for somebody else.
            self.tallies.add(
                Kind.DECRYPT_UNGRANTED,
                who,
                f"{model}, more often than grant {grant.id[:8]} has shards",
                event.time,
                place,
                detail=event.operation,
            )

    def _released_for(self, model: str, time: float) -> Grant | None:
        """The release that a broker's decrypt belongs to: one that has keys left to unwrap."""
        near = self.leases.around(model, time)
        left = (g for g in near if self.uses.get(g.id, _UNUSED).decrypts < len(g.shards))
        return next(left, near[-1] if near else None)

    def _shared(self, event: Event, place: Place) -> None:
        if not event.ok or not self._concerns(event.target):
            return
        who = self.guarded.named(event.principal)
        about = event.target or event.operation
        self.tallies.add(Kind.SHARED, who, about, event.time, place, detail=event.operation)

    def _switched_off(self, event: Event, place: Place) -> None:
        who = self.guarded.named(event.principal)
        about = f"{event.operation} {event.target}".strip()
        detail = "done" if event.ok else "refused"
        self.tallies.add(Kind.LOGGING_OFF, who, about, event.time, place, detail=detail)

    def _door(self, event: Event, place: Place) -> None:
        if event.ok and self._concerns(event.target):
            who = self.guarded.named(event.principal)
            self.tallies.add(
                Kind.DOOR, who, event.target, event.time, place, detail=event.operation
            )

    def _not_understood(self, event: Event, place: Place) -> None:
        number = self.guarded.holder_of(event.target) if self._concerns(event.target) else None
        about = self.guarded.models[number].name if number is not None else "no model we know"
        self.tallies.add(
            Kind.UNKNOWN_OPERATION,
            event.operation,
            about,
            event.time,
            place,
            detail=event.principal,
        )

    def _concerns(self, target: str) -> bool:
        """Whether it is about a model's place or key; where no model is known, everything is."""
        if not self.guarded.models:
            return True
        if target in self._keys:
            return True
        return _container(target) in self._containers and (
            self.guarded.holder_of(target) is not None
        )

    def _seen(self, event: Event) -> bool:
        """Whether this request was counted already: stores deliver some events twice, and two logs
        may hold the same one."""
        key = (event.request, event.target)
        recent, before = self._recent
        if key in recent or key in before:
            self.repeated += 1
            return True
        recent.add(key)
        if len(recent) >= _RECENT:
            self._recent = (set(), recent)
        return False


def _extent(event: Event, shard: Shard) -> tuple[int, int]:
    """Offset and length; a whole copy, and as many bytes as the shard has, begin at 0."""
    if event.action is Action.OPEN:
        return UNKNOWN, UNKNOWN
    if event.action is Action.COPY and event.length == UNKNOWN:
        return 0, shard.size
    if event.length >= shard.size and event.offset <= 0:
        return 0, shard.size
    return event.offset, event.length


def _program(agent: str) -> str:
    """`[aws-cli/1.18.136 Python/3.8.5 …]` -> `aws-cli`: the program without its version."""
    return agent.lstrip("[ ").partition(" ")[0].partition("/")[0].rstrip("]")


def _container(target: str) -> str:
    """`s3://bucket/key` -> `s3://bucket`."""
    scheme, found, rest = target.partition("://")
    return f"{scheme}://{rest.lstrip('/').partition('/')[0]}" if found else target


def _with_parents(keys: dict[str, int]) -> dict[str, int]:
    """Keys, and the lists that carry them: listing a namespace's secrets reads them all."""
    lists = {
        key.rpartition("/")[0]: number for key, number in keys.items() if key.startswith("k8s://")
    }
    return {**lists, **keys}
