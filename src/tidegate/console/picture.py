"""What the page shows, as one value. Pure.

Each part is either known or missing with a reason: an old figure is never shown as a present one.
Times are seconds since the Unix epoch; numbers are finite or absent.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class Mood(StrEnum):
    """How a part is, worst last."""

    GOOD = "good"
    UNKNOWN = "unknown"
    WATCH = "watch"
    BAD = "bad"


class Missing(msgspec.Struct, frozen=True, tag="missing", tag_field="is"):
    """Nothing is known of this part now. `wanted`: whether the settings name a source for it."""

    reason: str
    wanted: bool = True


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One account of the ledger, in bits. `left` None: nothing caps it.

    `a_second`: spent of late; `empty_in_s`: until it is used up at that speed, None if never.
    """

    scope: str
    spent: int
    reserved: int
    left: int | None
    a_second: float
    empty_in_s: float | None


class Budget(msgspec.Struct, frozen=True, kw_only=True, tag="known", tag_field="is"):
    """What left and may leave. `history`: (time, total bits spent), oldest first.

    `exfiltrate_s`: until as many bits as the weights have would have crossed, at the speed of late;
    `exfiltrate_cap_s`: at the fastest that the caps allow. None: never, or not known.
    """

    accounts: tuple[Account, ...]
    history: tuple[tuple[float, int], ...]
    entries: int
    weight_bits: int | None
    exfiltrate_s: float | None
    exfiltrate_cap_s: float | None


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """What one principal got, since the outer half started."""

    principal: str
    tokens: int
    bits: int
    bits_a_token: float | None


class Link(msgspec.Struct, frozen=True, kw_only=True, tag="known", tag_field="is"):
    """The link and who uses it. `slots`: streams it has room for, if the settings say."""

    model: str
    edges_up: dict[str, bool]
    streams: int
    slots: int | None
    tokens: int
    bits: int
    padding_bits: int
    bits_a_token: float | None
    uses: tuple[Use, ...]
    refusals: dict[str, int]
    incidents: dict[str, int]


class Martingale(msgspec.Struct, frozen=True, kw_only=True):
    """A sequential test: log10 of its e-value over tokens scored, and where it raises an alarm."""

    name: str
    curve: tuple[tuple[int, float], ...]
    alarm_at: float | None


class Verification(msgspec.Struct, frozen=True, kw_only=True, tag="known", tag_field="is"):
    """What re-execution says. `leak_share` is of log2 V, at most; `written`: the report's time."""

    outcome: str
    reason: str
    answers: int
    tokens: int
    scored: int
    match_rate: float | None
    leak_share: float | None
    leak_bits_a_token: float | None
    tests: tuple[Martingale, ...]
    findings: dict[str, int]
    written: float


class Meter(msgspec.Struct, frozen=True, kw_only=True):
    """One meter's count of bytes that crossed, None where it could not be read."""

    name: str
    counted: int | None
    agrees: bool | None


class Gate(msgspec.Struct, frozen=True, kw_only=True, tag="known", tag_field="is"):
    """The host's gate: whether it is open, why not, and whether its meters agree."""

    open: bool
    reason: str
    agreement: str
    meters: tuple[Meter, ...]
    classes: tuple[dict[str, Any], ...]


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A request for weights, and how far its approval is. `digest` names exactly what is asked."""

    id: str
    who: str
    why: str
    shards: str
    lasts_s: float
    asked: float
    have: dict[str, int]
    need: dict[str, int]
    digest: str
    break_glass: bool = False


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Weights that a host may hold until `until`."""

    id: str
    who: str
    host: str
    until: float


class Grants(msgspec.Struct, frozen=True, kw_only=True, tag="known", tag_field="is"):
    """Requests that wait for approval, and leases that run."""

    waiting: tuple[Waiting, ...]
    leases: tuple[Lease, ...]


class Headline(msgspec.Struct, frozen=True, kw_only=True):
    """The page's first line, and why."""

    mood: Mood
    says: str
    because: tuple[str, ...]


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, at `time`. `alerts`: open ones by severity."""

    name: str
    time: float
    headline: Headline
    budget: Budget | Missing
    link: Link | Missing
    verification: Verification | Missing
    gate: Gate | Missing
    grants: Grants | Missing
    alerts: dict[str, int]
    viewers: int

    def json(self) -> bytes:
        """One JSON object, without NaN or infinity."""
        return msgspec.json.encode(self)
