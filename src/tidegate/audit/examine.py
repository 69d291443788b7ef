"""One pass over events of any number of logs, in memory that does not grow with them.

What is kept: intervals (`coverage`), counts by the hour (`streams`), tallies of what is found again
and again, and the sources and agents of each principal that touches a model. `conclude` makes
findings of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tidegate.audit.clusters import MOST_TIES, Ties
from tidegate.audit.coverage import MOST_PRINCIPALS, OTHERS, Coverage, Track
from tidegate.audit.event import UNKNOWN, Action, Broken, Event, Place
from tidegate.audit.findings import Kind
from tidegate.audit.grants import Grant, Journal, Leases
from tidegate.audit.models import Guarded, Shard, Sources
from tidegate.audit.sigma import Rule
from tidegate.audit.streams import Stream
from tidegate.audit.tally import Tallies
from tidegate.record.sarif import Level

DAY: Final = 86_400
LAST_TIME: Final = 7_258_118_400.0
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
class Person:
    """One principal that reads models.

    who: its name here. first: its first read. sources, agents: what it used, and `addresses` and
    `told` as logs wrote them. lease: the last that covered a read of it: model, from, to, shards,
    grant. ties: credentials and addresses of its reads outside grants.
    """

    who: str
    first: float
    sources: set[str] = field(default_factory=set)
    agents: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    lease: tuple[int, float, float, frozenset[int], Grant] | None = None
    tracks: dict[tuple[int, bool], Track] = field(default_factory=dict)
    ties: set[tuple[str, str]] = field(default_factory=set)


@dataclass(slots=True)
class Use:
    """What was done under one grant: reads, bytes served, and keys unwrapped."""

    reads: int = 0
    served: int = 0
    decrypts: int = 0


_UNUSED: Final = Use()


class Examiner:
    """Takes events, one at a time, in any order; roughly ascending time is best for what is new.

    `reading`: streams that hold reads of models, and the scheme of what was read.
    """

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
        self.people: dict[str, Person] = {}
        self.first_read = float("inf")
        self.reading: dict[str, str] = {}
        self.uses: dict[str, Use] = {}
        self.events = 0
        self.outside = 0
        self.repeated = 0
        self.decrypts = 0
        self.first, self.last = float("inf"), float("-inf")
        self._sources = Sources(guarded.networks)
        self._places = guarded.places()
        self._keys = _with_parents(guarded.keys())
        self._containers = frozenset(_container(at) for m in guarded.models for at in m.places)
        self._recent: tuple[set[str], set[str]] = (set(), set())
        steps = {
            Action.READ: self._read,
            Action.OPEN: self._read,
            Action.COPY: self._copied,
            Action.DECRYPT: self._decrypted,
            Action.SHARE: self._shared,
            Action.LOGGING_OFF: self._switched_off,
            Action.EXECUTE: self._door,
            Action.UNKNOWN: self._not_understood,
        }
        self._steps = [steps.get(Action(number)) if number else None for number in range(15)]

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
        if not 0 <= time < LAST_TIME:
            self.fail(Broken("a time before 1970 or after 2200"), place)
            return
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
        step = self._steps[event.action]
        if step is not None:
            step(event, place)

    def _read(self, event: Event, place: Place) -> None:
        held = self._places.get(event.target)
        if held is None:
            # A secret that is read as a file or an object is a key.
            if event.target in self._keys:
                self._decrypted(event, place)
            return
        if not event.ok or (event.request and self._seen(event.request)):
            return
        if event.stream not in self.reading:
            self.reading[event.stream] = event.target.partition("://")[0]
        number, shard = held
        person = self.people.get(event.principal) or self._met(event)
        if event.time < self.first_read:
            self.first_read = event.time
        if event.address not in person.addresses or event.agent not in person.told:
            self._unusual(person, number, event, place)
        grant = self._grant(person, number, shard, event.time)
        offset, length = _extent(event, shard)
        key = (number, grant is not None)
        track = person.tracks.get(key)
        if track is None:
            track = person.tracks[key] = self.coverage.track(person.who, *key)
        self.coverage.add(track, shard, event.time, offset, length, place)
        if event.presigned or event.account != event.owner:
            self._irregular(person.who, number, length, event, place)
        if grant is None:
            self._ungranted(person, number, shard, length, event, place)
            return
        use = self.uses.get(grant.id)
        if use is None:
            use = self.uses[grant.id] = Use()
        use.reads += 1
        use.served += max(0, length)

    def _grant(self, person: Person, number: int, shard: Shard, time: float) -> Grant | None:
        """The grant that covers a read. Most reads are under the same as the one before."""
        lease = person.lease
        if (
            lease is not None
            and lease[0] == number
            and lease[1] <= time <= lease[2]
            and shard.number in lease[3]
        ):
            return lease[4]
        model = self.guarded.models[number].name
        grant = self.leases.covering(person.who, model, shard.number, time)
        if grant is not None:
            begin = grant.released or 0.0
            person.lease = (number, begin, grant.lease_end, grant.shards, grant)
        return grant

    def _ungranted(
        self, person: Person, number: int, shard: Shard, length: int, event: Event, place: Place
    ) -> None:
        tie = (event.credential, event.address)
        if tie not in person.ties:
            if len(person.ties) < MOST_TIES:
                person.ties.add(tie)
            self.ties.add(person.who, event.credential, event.address)
        if self.journal is not None:
            model = self.guarded.models[number].name
            known = self.leases.known(person.who, model)
            kind = Kind.READ_OUTSIDE if known else Kind.READ_UNGRANTED
            self.tallies.add(kind, person.who, model, event.time, place, max(0, length), shard.name)

    def _irregular(self, who: str, number: int, length: int, event: Event, place: Place) -> None:
        model, size = self.guarded.models[number].name, max(0, length)
        if event.presigned:
            self.tallies.add(Kind.PRESIGNED, who, model, event.time, place, size)
        if event.account and event.owner and event.account != event.owner:
            self.tallies.add(Kind.CROSS_ACCOUNT, who, model, event.time, place, size, event.account)

    def _met(self, event: Event) -> Person:
        """Somebody who was not seen before. Beyond so many, all are one, of whom nothing is new."""
        if len(self.people) >= MOST_PRINCIPALS:
            return self.people.setdefault(OTHERS, Person(OTHERS, event.time))
        who = self.guarded.named(event.principal)
        person = self.people[event.principal] = Person(who, event.time)
        return person

    def _unusual(self, person: Person, number: int, event: Event, place: Place) -> None:
        """An address or an agent that logs did not write beside this principal before."""
        model, time = self.guarded.models[number].name, event.time
        source, agent = self._sources.of(event.address), _program(event.agent)
        if not person.addresses and time - self.first_read >= self.settings.learning:
            self.tallies.add(
                Kind.NEW_PRINCIPAL, person.who, model, time, place, detail=source or "no address"
            )
        for used, name, kind in (
            (person.sources, source, Kind.NEW_SOURCE),
            (person.agents, agent, Kind.NEW_AGENT),
        ):
            if name and name not in used and len(used) < _MOST_NEW:
                # Nothing is new of whom nothing is usual yet.
                if time - person.first >= self.settings.learning:
                    self.tallies.add(kind, person.who, model, time, place, detail=name)
                used.add(name)
        if len(person.addresses) < _MOST_NEW:
            person.addresses.add(event.address)
        if len(person.told) < _MOST_NEW:
            person.told.add(event.agent)

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

    def _seen(self, request: str) -> bool:
        """Whether this request was counted already: stores deliver some events twice, and two logs
        may hold the same one."""
        recent, before = self._recent
        if request in recent or request in before:
            self.repeated += 1
            return True
        recent.add(request)
        if len(recent) >= _RECENT:
            self._recent = (set(), recent)
        return False


def _extent(event: Event, shard: Shard) -> tuple[int, int]:
    """Offset and length; a whole copy, and as many bytes as the shard has, begin at 0."""
    offset, length = event.offset, event.length
    if length >= shard.size and offset <= 0:
        return 0, shard.size
    if length != UNKNOWN:
        return offset, length
    return (0, shard.size) if event.action is Action.COPY else (UNKNOWN, UNKNOWN)


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
