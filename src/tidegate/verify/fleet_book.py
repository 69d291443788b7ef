"""The fleet's shared state: plan, shards, verdicts, and what was set aside; all of it sealed.

Every object opens with a keyed hash over its name and body, so that whoever can write to the store
but does not hold the fleet's key can withhold and delete, not invent or move a verdict. A verdict
is created once and never replaced; the first worker's counts. One that does not open (half-written,
or forged) is moved to quarantine, and its shard is open again.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator
from typing import Final, TypeVar

import msgspec

from tidegate.errors import ConfigError
from tidegate.verify.fleet_plan import Answer, Plan, Shard, Ticket, shard_name
from tidegate.verify.fleet_store import MAX_OBJECT, NoSuchObjectError, Objects, StoreError
from tidegate.verify.replay_answer import Checked
from tidegate.verify.replay_findings import ReplayKind
from tidegate.verify.replay_results import Subject

PLAN: Final = "plan"
SHARDS: Final = "shards/"
VERDICTS: Final = "verdicts/"
ASIDE: Final = "aside/"
POISON: Final = "poison/"
QUARANTINE: Final = "quarantine/"

_MARK: Final = 64
_POISON: Final = {ReplayKind.WORKER_LOST.value, ReplayKind.REPLAY_FAILED.value}

T = TypeVar("T")


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What re-execution says of a shard's answers, in order; `worker` took `seconds` for it."""

    shard: str
    checked: tuple[Checked, ...]
    worker: str
    seconds: float


class Poison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer that kills whoever re-executes it, or that the model cannot run. Never passed."""

    answer: int
    kind: str
    reason: str


class UnplannedError(ConfigError):
    """Nothing was planned in this store yet."""

    code = "nothing_planned"


class ForgedError(StoreError):
    """An object is not what the fleet wrote under that name: half-written, damaged or forged."""

    code = "forged_object"


class Book:
    """The state in one store. Raises StoreError; ForgedError for what does not open with `key`.

    Args:
        objects: the store.
        key: the fleet's 32 secret bytes, which every worker holds.
    """

    def __init__(self, objects: Objects, key: bytes) -> None:
        self._objects = objects
        self._key = key

    def plan(self) -> Plan:
        """The plan. Raises UnplannedError where there is none yet."""
        try:
            return self._read(PLAN, Plan)
        except NoSuchObjectError as error:
            raise UnplannedError("nothing was planned there; run `tidegate fleet plan`") from error

    def put_plan(self, plan: Plan) -> None:
        """Make `plan` the one that workers follow, once all its shards are there.

        Raises ConfigError for one that is too long to be read again.
        """
        sealed = self._sealed(PLAN, msgspec.json.encode(plan))
        if len(sealed) > MAX_OBJECT:
            raise ConfigError(
                f"{len(plan.tickets)} shards are more than a plan holds; give a larger "
                "--shard-tokens, or a smaller --sample"
            )
        self._objects.replace(PLAN, sealed)

    def put_shard(self, ticket: Ticket, shard: Shard) -> None:
        """Keep a shard. Cut again it has the same name, though it may lie elsewhere by now."""
        name = SHARDS + ticket.name
        self._objects.replace(name, self._sealed(name, msgspec.json.encode(shard)))

    def shard(self, name: str) -> Shard:
        """A shard by name."""
        return self._read(SHARDS + name, Shard)

    def settled(self) -> set[str]:
        """Names of the shards that have a verdict; it is looked at only where it is read."""
        return {name.removeprefix(VERDICTS) for name in self._objects.names(VERDICTS)}

    def verdict(self, name: str, subject: Subject) -> Verdict | None:
        """A shard's verdict; None where there is none, or a bad one was moved to quarantine.

        A shard's name says which answers it holds, so a verdict is held against that alone.
        """
        try:
            verdict = self._read(VERDICTS + name, Verdict)
        except NoSuchObjectError:
            return None
        except ForgedError as error:
            self._quarantine(name, error.message)
            return None
        answers = tuple(Answer(one.response, one.digest) for one in verdict.checked)
        if shard_name(subject, answers) != name:
            self._quarantine(name, "It speaks of other answers than its shard holds.")
            return None
        return verdict

    def settle(self, verdict: Verdict) -> bool:
        """Keep a verdict, durable on return; False if the shard had one, which stays."""
        poison = tuple(
            Poison(answer=one.response, kind=finding.kind, reason=finding.reason)
            for one in verdict.checked
            for finding in one.findings
            if finding.kind in _POISON
        )
        if poison:
            name = POISON + verdict.shard
            self._objects.replace(name, self._sealed(name, msgspec.json.encode(poison)))
        name = VERDICTS + verdict.shard
        return self._objects.create(name, self._sealed(name, msgspec.json.encode(verdict)))

    def poisoned(self) -> dict[str, tuple[Poison, ...]]:
        """Poisoned answers by shard."""
        return dict(self._each(POISON, tuple[Poison, ...]))

    def set_aside(self, name: str, reason: str) -> None:
        """Say that a shard gets no verdict for now, and why."""
        full = ASIDE + name
        self._objects.replace(full, self._sealed(full, msgspec.json.encode(reason)))

    def take_up(self, name: str) -> None:
        """A shard is no longer set aside."""
        self._objects.delete(ASIDE + name)

    def aside(self) -> dict[str, str]:
        """Shards that were set aside, with the reason."""
        return dict(self._each(ASIDE, str))

    def quarantined(self) -> int:
        """Verdicts that did not open and were moved away."""
        return len(self._objects.names(QUARANTINE))

    def reopen(self) -> int:
        """Drop the verdicts that hold poisoned answers, so that these are tried again; how many."""
        names = [name.removeprefix(POISON) for name in self._objects.names(POISON)]
        for name in names:
            self._objects.delete(VERDICTS + name)
            self._objects.delete(POISON + name)
        return len(names)

    def _each(self, prefix: str, kind: type[T]) -> Iterator[tuple[str, T]]:
        for full in sorted(self._objects.names(prefix)):
            try:
                yield full.removeprefix(prefix), self._read(full, kind)
            except NoSuchObjectError:
                continue  # taken up since it was listed

    def _quarantine(self, name: str, reason: str) -> None:
        bad = self._objects.read(VERDICTS + name)
        kept = f"{QUARANTINE}{name}-{secrets.token_hex(4)}"
        self._objects.create(kept, msgspec.json.encode(reason) + b"\n" + bad)
        self._objects.delete(VERDICTS + name)

    def _sealed(self, name: str, body: bytes) -> bytes:
        return self._seal(name, body) + b" " + body + b"\n"

    def _read(self, name: str, kind: type[T]) -> T:
        raw = self._objects.read(name)
        body = raw[_MARK + 1 : -1]
        whole = raw[_MARK : _MARK + 1] == b" " and raw[-1:] == b"\n"
        if not whole or not hmac.compare_digest(raw[:_MARK], self._seal(name, body)):
            raise ForgedError(
                f"{name} does not open with this fleet's key: it is half-written, or somebody "
                "else's",
                name=name,
            )
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise ForgedError(f"{name} was written by another version: {error}", name=name) from (
                error
            )

    def _seal(self, name: str, body: bytes) -> bytes:
        said = name.encode() + b"\0" + body
        mark = hashlib.blake2b(
            said, digest_size=_MARK // 2, key=self._key, person=b"tidegate.fleet"
        )
        return mark.hexdigest().encode()
