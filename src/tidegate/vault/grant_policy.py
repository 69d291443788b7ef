"""The policy that grants go by: who may ask, who has to agree, which hosts, when, how long.

Part of the journal: every request names the hash of the policy that it was made under, so a changed
policy makes what is pending void. Pure.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tidegate.errors import ConfigError
from tidegate.ledger.budgets import Name

Hash = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Binary = Annotated[bytes, Meta(min_length=1, max_length=4096)]
Seconds = Annotated[int, Meta(ge=1, le=366 * 86_400)]
Minute = Annotated[int, Meta(ge=0, le=24 * 60)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

MAX_LISTED = 4096
"""Entries of any list in a policy; far above any real one, so that a policy stays readable."""

MAX_BYTES = 60_000
"""What fits an entry of the transparency log: some 250 people."""

_DAY_S = 86_400
_EPOCH_WEEKDAY = 3
"""1 January 1970 was a Thursday."""


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Credential(_Strict, frozen=True):
    """A hardware key as it was enrolled: its id, and its public key in COSE (RFC 9052)."""

    id: Binary
    key: Binary


class Person(_Strict, frozen=True):
    """Somebody who may approve, with his hardware keys."""

    name: Name
    credentials: Annotated[tuple[Credential, ...], Meta(max_length=16)]


class Team(_Strict, frozen=True):
    """A team of which `needs` members have to approve."""

    name: Name
    needs: Annotated[int, Meta(ge=1, le=64)]
    members: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=MAX_LISTED)]


class Host(_Strict, frozen=True):
    """A host that may load shards.

    `kind` and `device` are what an appraisal of its evidence says; `reference` is the hash of the
    reference values that its evidence is held against.
    """

    name: Name
    kind: Name
    device: Name
    reference: Hash


class Window(_Strict, frozen=True):
    """When keys may be released: days and minutes of the day in UTC, the end excluded."""

    days: Annotated[tuple[Day, ...], Meta(min_length=1, max_length=7)] = DAYS
    start: Minute = 0
    end: Minute = 24 * 60

    def holds(self, time: int) -> bool:
        """Whether `time`, milliseconds since the Unix epoch, lies in it."""
        day, second = divmod(time // 1000, _DAY_S)
        return (
            DAYS[(day + _EPOCH_WEEKDAY) % 7] in self.days and self.start <= second // 60 < self.end
        )


class BreakGlass(_Strict, frozen=True):
    """Who may let a request through in an emergency, and how long such a grant lives at most."""

    teams: Annotated[tuple[Team, ...], Meta(min_length=1, max_length=64)]
    seconds: Seconds


class Policy(_Strict, frozen=True):
    """All of it. Durations in seconds; names are those that the API's tokens stand for.

    `request_s`: how long approvals may take; `release_s`: how long after the last one the keys may
    be asked for; `longest_s`: how long a grant may live; `lease_s`: how long keys may be kept
    without fresh evidence; `nonce_s`: how long evidence may take; `pending`: open requests each.
    """

    rp_id: Name
    origins: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=16)]
    requesters: Annotated[tuple[Name, ...], Meta(max_length=MAX_LISTED)]
    operators: Annotated[tuple[Name, ...], Meta(max_length=MAX_LISTED)]
    people: Annotated[tuple[Person, ...], Meta(max_length=MAX_LISTED)]
    teams: Annotated[tuple[Team, ...], Meta(min_length=1, max_length=64)]
    hosts: Annotated[tuple[Host, ...], Meta(max_length=MAX_LISTED)]
    windows: Annotated[tuple[Window, ...], Meta(min_length=1, max_length=64)] = (Window(),)
    break_glass: BreakGlass | None = None
    request_s: Seconds = 86_400
    release_s: Seconds = 3_600
    longest_s: Seconds = 8 * 3_600
    lease_s: Seconds = 900
    nonce_s: Seconds = 120
    pending: Annotated[int, Meta(ge=1, le=1024)] = 16

    @property
    def digest(self) -> str:
        """The hash that a request names, hex (`spec/grants.md`)."""
        body = msgspec.json.encode(self)
        return hashlib.sha256(b"tidegate grant policy v1\n" + body).hexdigest()

    def teams_for(self, break_glass: bool) -> tuple[Team, ...]:
        """The teams that have to agree to a request; none where the policy breaks no glass."""
        if not break_glass:
            return self.teams
        return self.break_glass.teams if self.break_glass else ()

    def longest(self, break_glass: bool) -> int:
        """Seconds that a grant may live at most."""
        emergency = self.break_glass.seconds if break_glass and self.break_glass else None
        return min(self.longest_s, emergency) if emergency else self.longest_s

    def person(self, name: str) -> Person | None:
        """Who approves under that name."""
        return next((person for person in self.people if person.name == name), None)

    def host(self, name: str) -> Host | None:
        """The host of that name."""
        return next((host for host in self.hosts if host.name == name), None)

    def checked(self) -> Policy:
        """This policy, once it was found to make sense.

        Raises:
            ConfigError: a name or a hardware key twice, a team that can never agree, or a window
                that is never open.
        """
        everyone = [*self.teams, *(self.break_glass.teams if self.break_glass else ())]
        _once((person.name for person in self.people), "the person")
        _once((host.name for host in self.hosts), "the host")
        _once((team.name for team in self.teams), "the team")
        # One key under two names would be one person with two votes.
        _once((c.id.hex() for p in self.people for c in p.credentials), "the hardware key")
        _once((c.key.hex() for p in self.people for c in p.credentials), "the hardware key")
        for team in everyone:
            _once(team.members, f"in team {team.name}, the member")
            able = [m for m in team.members if (p := self.person(m)) and p.credentials]
            if len(able) < team.needs:
                raise ConfigError(
                    f"Team {team.name} needs {team.needs} approvals, but {len(able)} of its "
                    "members have a hardware key: enrol more, or ask for fewer.",
                    team=team.name,
                )
        if len(msgspec.json.encode(self)) > MAX_BYTES:
            raise ConfigError(f"The policy is longer than {MAX_BYTES} bytes; split the vault.")
        for window in self.windows:
            if window.start >= window.end:
                raise ConfigError("A time window ends before it starts; write two instead.")
        return self


def read_policy(raw: bytes) -> Policy:
    """A policy from TOML, hardware keys in base64. Raises ConfigError."""
    try:
        return msgspec.toml.decode(raw, type=Policy).checked()
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"The policy cannot be read: {error}") from error


def _once(names: Iterable[str], what: str) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ConfigError(f"The policy lists {what} {name} twice.")
