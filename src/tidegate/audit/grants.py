"""The grants' journal as the audit sees it: who asked, who approved, what was released, until when.

Read from the bytes of `spec/grants.md`, not from the broker's own code: whoever audits a broker
does not run it. A reader drops a repeated entry with equal bytes; two entries with one number and
different bytes are proof of a forked journal.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from tidegate.audit.event import Broken, Place
from tidegate.audit.records import FAULTS


class _Request(msgspec.Struct, gc=False):
    id: str
    requester: str
    model: str
    shards: list[int]
    host: str
    seconds: int = 0
    break_glass: bool = False
    manifest: str = ""
    why: str = ""


class _Does(msgspec.Struct, gc=False):
    kind: str
    grant: str = ""
    by: str = ""
    team: str = ""
    until: int = 0
    what: str = ""
    check: int = 0
    reason: str = ""
    request: _Request | None = None


class _Entry(msgspec.Struct, gc=False):
    n: int
    time: int
    does: _Does


class _Logged(msgspec.Struct, gc=False):
    """An entry of the transparency log; the journal's own entry stands in its body."""

    kind: str
    body: dict[str, Any]


_entry: Final = msgspec.json.Decoder(_Entry)
_logged: Final = msgspec.json.Decoder(_Logged)
_sorted: Final = msgspec.json.Encoder(order="sorted")
_ENDS: Final = frozenset({"wipe", "revoke", "deny", "expire"})
_UNENDED: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Approval:
    """Who approved for which team, when (seconds since the epoch), and where it is logged."""

    by: str
    team: str
    time: float
    place: Place


@dataclass(slots=True)
class Grant:
    """One grant, as far as the journal goes. Times in seconds since the epoch."""

    id: str
    requester: str
    host: str
    model: str
    shards: frozenset[int]
    asked: float
    place: Place
    break_glass: bool = False
    why: str = ""
    approvals: list[Approval] = field(default_factory=list)
    released: float | None = None
    release_place: Place | None = None
    until: float = 0.0
    ended: float = _UNENDED

    @property
    def lease_end(self) -> float:
        """When the lease ended, by its own end or because it was wiped or revoked."""
        return min(self.until, self.ended)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused approval, release or renewal."""

    grant: str
    by: str
    what: str
    reason: str
    time: float
    place: Place


@dataclass(slots=True)
class Journal:
    """All grants of a journal, and what was wrong with it."""

    grants: dict[str, Grant] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    missing: int = 0
    forks: list[tuple[int, Place]] = field(default_factory=list)
    broken: list[tuple[Place, str]] = field(default_factory=list)
    first: float | None = None
    last: float | None = None

    def releases(self) -> list[Grant]:
        """Grants whose keys were released, in time."""
        made = [grant for grant in self.grants.values() if grant.released is not None]
        return sorted(made, key=lambda grant: grant.released or 0.0)


def read_journal(records: Iterable[tuple[Place, bytes | Broken]]) -> Journal:
    """Fold the journal's entries, in the order of their numbers as they come."""
    journal, seen = Journal(), dict[int, bytes]()
    for place, raw in records:
        if isinstance(raw, Broken):
            journal.broken.append((place, raw.why))
            continue
        try:
            own = _unwrapped(raw)
            if own is None:
                continue
            entry = _entry.decode(own)
        except FAULTS as error:
            journal.broken.append((place, f"no entry of a grants' journal: {error}"))
            continue
        digest = _digest(own)
        known = seen.get(entry.n)
        if known is None:
            seen[entry.n] = digest
            _fold(journal, entry, place)
        elif known != digest:
            journal.forks.append((entry.n, place))
    _miss(journal, seen)
    return journal


def _digest(own: bytes) -> bytes:
    """Of what the entry says: the log orders an entry's members otherwise than the journal."""
    return hashlib.sha256(_sorted.encode(msgspec.json.decode(own))).digest()


def _miss(journal: Journal, seen: dict[int, bytes]) -> None:
    """Numbers missing before the last: somebody took entries out, or handed over a part."""
    if seen:
        journal.missing = max(seen) + 1 - len(seen)


def _unwrapped(raw: bytes) -> bytes | None:
    """The journal's entry, out of a log's if it is in one; None for entries of other kinds."""
    if b'"does"' in raw and not raw.lstrip().startswith(b'{"body"'):
        return raw
    logged = _logged.decode(raw)
    if logged.kind not in ("grant", "release"):
        return None
    held = logged.body
    inner = held.get("entry", held)
    return inner.encode() if isinstance(inner, str) else msgspec.json.encode(inner)


def _fold(journal: Journal, entry: _Entry, place: Place) -> None:
    does, time = entry.does, entry.time / 1000
    journal.first = time if journal.first is None else min(journal.first, time)
    journal.last = time if journal.last is None else max(journal.last, time)
    if does.kind == "request" and does.request is not None:
        asked = does.request
        journal.grants[asked.id] = Grant(
            id=asked.id,
            requester=asked.requester,
            host=asked.host,
            model=asked.model,
            shards=frozenset(asked.shards),
            asked=time,
            place=place,
            break_glass=asked.break_glass,
            why=asked.why,
        )
        return
    if does.kind == "refuse":
        journal.refusals.append(Refusal(does.grant, does.by, does.what, does.reason, time, place))
        return
    grant = journal.grants.get(does.grant)
    if grant is None:
        if does.grant:
            journal.broken.append((place, f"{does.kind} of a grant that was never requested"))
        return
    if does.kind == "approve":
        grant.approvals.append(Approval(does.by, does.team, time, place))
    elif does.kind == "release":
        grant.released, grant.until, grant.release_place = time, does.until / 1000, place
    elif does.kind == "renew":
        grant.until = does.until / 1000
    elif does.kind in _ENDS:
        grant.ended = min(grant.ended, time)


class Leases:
    """Who may read which shards when: an index over the journal's releases.

    A read by the requester or by the host he named is under the grant; clocks of stores and brokers
    may differ by `skew` seconds.
    """

    def __init__(self, journal: Journal, skew: float) -> None:
        self._skew = skew
        self._of: dict[tuple[str, str], list[Grant]] = {}
        self._released: dict[str, tuple[list[float], list[Grant]]] = {}
        for grant in journal.releases():
            times, grants = self._released.setdefault(grant.model, ([], []))
            times.append(grant.released or 0.0)
            grants.append(grant)
            for who in {grant.requester, grant.host}:
                self._of.setdefault((who, grant.model), []).append(grant)
        self._begins = {
            key: [grant.released or 0.0 for grant in grants] for key, grants in self._of.items()
        }

    def covering(self, who: str, model: str, shard: int | None, time: float) -> Grant | None:
        """A grant under which `who` may read the shard at `time`; None asks for any shard."""
        grants = self._of.get((who, model))
        if grants is None:
            return None
        place = bisect_right(self._begins[who, model], time + self._skew)
        # From the latest on: leases of one host rarely overlap, and the latest is the likeliest.
        for grant in reversed(grants[max(0, place - _LOOK_BACK) : place]):
            if time <= grant.lease_end + self._skew and (shard is None or shard in grant.shards):
                return grant
        return None

    def known(self, who: str, model: str) -> bool:
        """Whether `who` ever held a grant of the model."""
        return (who, model) in self._of

    def around(self, model: str, time: float) -> list[Grant]:
        """Grants of the model released within `skew` of `time`, in the order of their release."""
        times, grants = self._released.get(model, ([], []))
        first = bisect_left(times, time - self._skew)
        return grants[first : bisect_right(times, time + self._skew)]


_LOOK_BACK: Final = 64
