"""Made-up traffic of a store of weights, with who is a thief written beside every event.

Benign: serving, training, backup under weekly grants, and what makes trouble without being theft: a
scanner that reads heads of files, a restore that is tried out, a move to another network, a new
client, approvals given at once. Thieves: see `THIEVES`. Every number is drawn from a counter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tidegate.audit.event import UNKNOWN, Action, Event

DAY: Final = 86_400
START: Final = 1_767_225_600
"""2026-01-01, a Thursday."""

SHARDS: Final = 8
SHARD: Final = 5 << 30
MODEL: Final = SHARDS * SHARD
PLACE: Final = "s3://weights/tide/"
KEY: Final = "arn:aws:kms:eu-west-1:111122223333:key/tide"
ACCOUNT: Final = "111122223333"
LEARNED: Final = 20
"""The day on which thieves begin."""

_MIB: Final = 1 << 20
_HEAD: Final = 256 << 10


def draw(*parts: object) -> float:
    """A number in [0, 1) that depends on nothing but the parts."""
    told = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(told, "big") / 2**64


def role(name: str) -> str:
    """A role's ARN."""
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def shard_uri(number: int) -> str:
    """Where a shard lies."""
    return f"{PLACE}{number:05d}.shard"


@dataclass(frozen=True, slots=True)
class Labelled:
    """An event, and the thief who caused it, or nothing."""

    event: Event
    thief: str = ""


@dataclass(frozen=True, slots=True)
class Thief:
    """One way to steal.

    names: principals under which findings show it. days: when it acts, from `LEARNED` on. seen:
    whether a finding is to be expected at all; where not, `why` says what hides it.
    """

    name: str
    names: tuple[str, ...]
    acts: Callable[[int], Iterator[Event]] = field(repr=False)
    seen: bool = True
    why: str = ""


_BASE: Final = Event(
    time=0.0,
    stream="cloudtrail s3 data",
    action=Action.READ,
    operation="s3:GetObject",
    ok=True,
    principal="",
    target="",
    account=ACCOUNT,
    owner=ACCOUNT,
    agent="aws-sdk-go/1.55",
)


def _read(
    who: str, time: float, shard: int, offset: int, length: int, address: str, key: str = ""
) -> Event:
    return replace_event(
        _BASE, time=time, principal=who, target=shard_uri(shard), offset=offset, length=length,
        address=address, credential=key or f"AKIA{hash_of(who)}",
    )  # fmt: skip


def replace_event(event: Event, **changes: object) -> Event:
    """A copy with other fields, and a request id of its own."""
    import msgspec

    told = {**msgspec.structs.asdict(event), **changes}
    if "request" not in changes:
        told["request"] = hash_of(tuple(sorted((k, str(v)) for k, v in told.items())))
    return Event(**told)


def hash_of(value: object) -> str:
    """Sixteen hex digits of anything."""
    return hashlib.blake2b(repr(value).encode(), digest_size=8).hexdigest().upper()


def _moment(day: int, *parts: object) -> float:
    return START + day * DAY + draw(day, *parts) * DAY


def _whole(who: str, day: int, tag: object, address: str) -> Iterator[Event]:
    """One load of all shards, one after the other."""
    begin = _moment(day, who, tag)
    for shard in range(SHARDS):
        yield _read(who, begin + 40 * shard, shard, 0, SHARD, address)


def _pod(day: int, tag: object) -> str:
    return f"10.1.{int(draw(day, tag, 'net') * 200)}.{1 + int(draw(day, tag, 'host') * 250)}"


def benign(day: int, load: int = 24) -> Iterator[Event]:
    """One day of everybody who may. load: times a day that serving loads the model."""
    for i in range(load):
        yield from _whole(role("serve"), day, i, _pod(day, i))
    network = "10.2.0.9" if day < 50 else "203.0.113.9"
    begin = _moment(day, "train") * 0.5 + (START + day * DAY) * 0.5
    for shard in range(SHARDS):
        for part in range(SHARD // (64 * _MIB)):
            yield _read(
                role("train"), begin + shard * 60 + part * 0.5, shard, part * 64 * _MIB, 64 * _MIB,
                network,
            )  # fmt: skip
    if day % 7 == 2:
        yield from _whole(role("backup"), day, "weekly", "10.3.0.4")
        # A scanner for secrets and viruses looks at the head of every file, and asks nobody.
        for shard in range(SHARDS):
            yield _read(role("scanner"), _moment(day, "scan", shard), shard, 0, _HEAD, "10.4.0.2")
    for shard in range(SHARDS):
        yield replace_event(
            _BASE, time=_moment(day, "list", shard), principal=role("dashboard"),
            action=Action.LIST, operation="s3:HeadObject", target=shard_uri(shard), length=0,
            address="10.4.0.7",
        )  # fmt: skip


def oddities(day: int) -> Iterator[Event]:
    """What is unusual, and nobody's theft."""
    if day == 45:
        # A restore is tried out, and nobody thought of a grant.
        for shard in range(2):
            yield _read(
                role("restore"), _moment(45, "restore") + shard, shard, 0, SHARD, "10.3.0.8"
            )
    if day == 60:
        yield replace_event(
            _read(role("backup"), _moment(60, "new client"), 0, 0, SHARD, "10.3.0.4"),
            agent="rclone/1.70",
        )


def _drip(who: str, day: int, share: float, address: str, key: str = "") -> Iterator[Event]:
    """So much of the model a day, in four reads, each where none was before."""
    size = int(MODEL * share / 4)
    for i in range(4):
        line = ((day - LEARNED) * 4 + i) * size
        shard, offset = divmod(line, SHARD)
        length = min(size, SHARD - offset)
        yield _read(who, _moment(day, who, "drip", i), shard % SHARDS, offset, length, address, key)


def _fast(day: int) -> Iterator[Event]:
    if day == LEARNED:
        for i in range(MODEL // (8 * _MIB)):
            shard, offset = divmod(i * 8 * _MIB, SHARD)
            time = START + day * DAY + 3600 + i * 20 * 3600 / (MODEL / (8 * _MIB))
            yield _read(role("ops"), time, shard, offset, 8 * _MIB, "198.51.100.7")


def _several(day: int) -> Iterator[Event]:
    """Four accounts from one address; none of them has much, none the same as another."""
    quarter = MODEL // 4
    for i in range(4):
        size = int(MODEL * 0.00025)
        line = i * quarter + (day - LEARNED) * size
        shard, offset = divmod(line, SHARD)
        yield _read(
            role(f"intern-{i}"), _moment(day, "several", i), shard, offset,
            min(size, SHARD - offset), "198.51.100.23",
        )  # fmt: skip


def _shared_key(day: int) -> Iterator[Event]:
    """Two accounts with one credential, from many addresses."""
    for i in range(2):
        size = int(MODEL * 0.0005)
        shard, offset = divmod(i * MODEL // 2 + (day - LEARNED) * size, SHARD)
        address = f"192.0.2.{1 + int(draw(day, i, 'mobile') * 250)}"
        yield _read(
            role(f"ci-{i}"), _moment(day, "shared", i), shard, offset, min(size, SHARD - offset),
            address, "AKIASHAREDKEY",
        )  # fmt: skip


def _stolen(day: int) -> Iterator[Event]:
    if day == LEARNED:
        yield from _whole(role("serve"), day, "stolen", "198.51.100.99")


def _keys(day: int) -> Iterator[Event]:
    if day == LEARNED:
        for i in range(SHARDS):
            yield replace_event(
                _BASE, time=_moment(day, "keys") + i, principal=role("admin"),
                action=Action.DECRYPT, operation="kms:Decrypt", target=f"kms:{KEY}",
                stream="cloudtrail management", address="198.51.100.4",
            )  # fmt: skip


def _copy(day: int) -> Iterator[Event]:
    if day == LEARNED:
        for shard in range(SHARDS):
            yield replace_event(
                _BASE, time=_moment(day, "copy") + shard, principal=role("etl"), action=Action.COPY,
                operation="s3:CopyObject", target=shard_uri(shard), length=UNKNOWN,
                other=f"s3://elsewhere/{shard}", address="198.51.100.5",
            )  # fmt: skip


def _signed(day: int) -> Iterator[Event]:
    if day == LEARNED:
        for event in _whole(role("web"), day, "signed", "198.51.100.6"):
            yield replace_event(event, presigned=True)


def _overrun(day: int) -> Iterator[Event]:
    """The grant of this host ran out days before."""
    if LEARNED <= day < LEARNED + 5:
        yield _read(role("eval"), _moment(day, "overrun"), day % SHARDS, 0, SHARD, "10.5.0.1")


def _within(day: int) -> Iterator[Event]:
    """From the serving host, under its lease: what it may do anyhow."""
    yield from _drip(role("serve"), day, 0.001, _pod(day, 0))


def _lone(day: int) -> Iterator[Event]:
    yield from _drip(role("etl-2"), day, 0.001, "198.51.100.50")


def _off(day: int) -> Iterator[Event]:
    if day == LEARNED:
        yield replace_event(
            _BASE, time=_moment(day, "off"), principal=role("root-admin"),
            action=Action.LOGGING_OFF, operation="cloudtrail:StopLogging", target="main",
            stream="cloudtrail management", address="198.51.100.8",
        )  # fmt: skip


THIEVES: Final = (
    Thief("drip", (role("etl-2"),), _lone),
    Thief("four accounts, one source", tuple(role(f"intern-{i}") for i in range(4)), _several),
    Thief("two accounts, one key", tuple(role(f"ci-{i}") for i in range(2)), _shared_key),
    Thief("range reads", (role("ops"),), _fast),
    Thief("stolen credentials", (role("serve"), "serve"), _stolen),
    Thief("keys without a grant", (role("admin"),), _keys),
    Thief("store copy", (role("etl"),), _copy),
    Thief("signed URLs", (role("web"),), _signed),
    Thief("lease overrun", (role("eval"), "eval"), _overrun),
    Thief("logging off", (role("root-admin"),), _off),
    Thief(
        "drip under a lease", ("serve",), _within, False,
        "the host may read all of it; nothing in a log tells its bytes from the others",
    ),
)  # fmt: skip


def days(count: int, *, thieves: bool = True, load: int = 24) -> Iterator[Labelled]:
    """All events of so many days, each day in the order of time."""
    for day in range(count):
        made = [Labelled(event) for event in (*benign(day, load), *oddities(day))]
        if thieves and day >= LEARNED:
            made += [Labelled(e, thief.name) for thief in THIEVES for e in thief.acts(day)]
        yield from sorted(made, key=lambda one: one.event.time)
