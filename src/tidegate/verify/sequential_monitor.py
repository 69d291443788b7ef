"""One test a replica, one a principal, one for the fleet; alarms that say what they saw. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from tidegate.errors import ConfigError
from tidegate.scan.evalues import merge_average, spend
from tidegate.verify.outcome import CannotVerify, Fail, Outcome, Pass
from tidegate.verify.sequential import Counts, Null, Wager, observe, tokens_to_alarm

FLEET = "fleet"
REPLICA = "replica"
PRINCIPAL = "principal"
SCOPES = (FLEET, REPLICA, PRINCIPAL)

EVIDENCE = 16
"""Flagged tokens a stream keeps to show; the first ones, so that memory stays flat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Verified tokens of one answer. `null`: what honest tokens of its stack do. `evidence`: where
    the flagged ones are, such as record and position, never what they say."""

    replica: str
    principal: str
    null: Null
    counts: Counts
    evidence: tuple[str, ...] = ()


class Stream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One test: its wager, its share of the false alarms, and what it would show."""

    wager: Wager
    false_alarms: float
    evidence: tuple[str, ...] = ()
    alarmed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A stream's e-value reached 1 / `false_alarms`. `log10_e` is what it reached."""

    scope: str
    name: str
    log10_e: float
    false_alarms: float
    seen: Counts
    evidence: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.scope} {self.name}: odds of 10^{self.log10_e:.1f} against honesty after "
            f"{self.seen.tokens} tokens ({self.seen.suspicious} suspicious, "
            f"{self.seen.dangerous} dangerous); honest streams come here with probability at most "
            f"{self.false_alarms:.2g}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """All tests of a fleet. `false_alarms`: the chance that any of them ever alarms while all are
    honest; a third for each scope, within a scope `spend` by order of appearance."""

    false_alarms: float
    streams: Mapping[tuple[str, str], Stream] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        """Raises ConfigError unless the rate lies strictly between 0 and 1."""
        if not 0 < self.false_alarms < 1:
            raise ConfigError("a false-alarm rate lies strictly between 0 and 1")

    def save(self) -> bytes:
        """Everything needed to go on later, as JSON."""
        saved = [(scope, name, stream) for (scope, name), stream in self.streams.items()]
        return msgspec.json.encode((self.false_alarms, saved))

    @staticmethod
    def load(body: bytes) -> Monitor:
        """What `save` wrote. Raises ConfigError for anything else."""
        try:
            rate, saved = msgspec.json.decode(
                body, type=tuple[float, list[tuple[str, str, Stream]]]
            )
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"not a monitor's state: {error}") from error
        streams = {(scope, name): stream for scope, name, stream in saved}
        return Monitor(false_alarms=rate, streams=MappingProxyType(streams))

    def false_alarms_of(self, scope: str, name: str) -> float:
        """The chance that a stream alarms without reason; of a new one that it would have."""
        stream = self.streams.get((scope, name)) or _opened(self, self.streams, scope)
        return stream.false_alarms

    def log_e(self, scope: str, name: str) -> float:
        """Natural logarithm of a stream's e-value; 0 for one that never appeared.

        The fleet's is half its own wager, half its replicas' mixture: a cheat spread thin over all
        shows in the one, a single bad replica among many in the other.
        """
        stream = self.streams.get((scope, name))
        if stream is None:
            return 0.0
        if scope != FLEET:
            return stream.wager.log_e
        replicas = [one.wager.log_e for (kind, _), one in self.streams.items() if kind == REPLICA]
        weights = [spend(1.0, index + 1) for index in range(len(replicas))]
        return merge_average([stream.wager.log_e, merge_average(replicas, weights)])


def watch(monitor: Monitor, batch: Batch) -> tuple[Monitor, tuple[Alarm, ...]]:
    """The monitor after one more verified answer, and the alarms it raises for the first time."""
    streams = dict(monitor.streams)
    touched = ((FLEET, FLEET), (REPLICA, batch.replica), (PRINCIPAL, batch.principal))
    for key in touched:
        old = streams.get(key) or _opened(monitor, streams, key[0])
        streams[key] = msgspec.structs.replace(
            old,
            wager=observe(old.wager, batch.null, batch.counts),
            evidence=(*old.evidence, *batch.evidence)[:EVIDENCE],
        )
    after = Monitor(false_alarms=monitor.false_alarms, streams=MappingProxyType(streams))
    alarms = []
    for scope, name in touched:
        stream = streams[scope, name]
        log_e = after.log_e(scope, name)
        if stream.alarmed or log_e < -math.log(stream.false_alarms):
            continue
        streams[scope, name] = msgspec.structs.replace(stream, alarmed=True)
        alarms.append(
            Alarm(
                scope=scope,
                name=name,
                log10_e=log_e / math.log(10),
                false_alarms=stream.false_alarms,
                seen=stream.wager.seen,
                evidence=stream.evidence,
            )
        )
    return after, tuple(alarms)


def judge(
    monitor: Monitor,
    alarms: tuple[Alarm, ...],
    *,
    null: Null,
    fraction: float,
    suspicious: float = 1.0,
) -> Outcome:
    """What all that was watched shows of "fewer than `fraction` of tokens deviate".

    Fail on any alarm; CannotVerify with fewer verified tokens than such a cheat would need to be
    found (`tokens_to_alarm`, twice over); else Pass. `suspicious`: the share of deviating tokens of
    small logit rank, by default all, the hardest to find.
    """
    if alarms:
        return Fail(
            reason="; ".join(map(str, alarms)),
            evidence=tuple(line for alarm in alarms for line in alarm.evidence),
        )
    fleet = monitor.streams.get((FLEET, FLEET))
    seen = fleet.wager.seen.tokens if fleet else 0
    share = monitor.false_alarms / len(SCOPES)
    needed = 2 * tokens_to_alarm(null, fraction, suspicious, share / 2)
    if seen < needed:
        return CannotVerify(
            reason=f"{seen} verified tokens; a cheat on {fraction:.2%} of them shows after about "
            f"{needed:.0f}"
            if math.isfinite(needed)
            else f"no number of tokens tells a cheat on {fraction:.2%} of them from honest noise"
        )
    return Pass(
        claim=f"no alarm in {seen} verified tokens; deviating on {fraction:.2%} of them raises one "
        f"after about {needed / 2:.0f}, and an honest fleet ever raises one with probability at "
        f"most {monitor.false_alarms:.2g}",
        limits=(
            "tokens that were not verified",
            f"deviations on fewer than {fraction:.2%} of tokens, or within the margin",
        ),
    )


def _opened(monitor: Monitor, streams: Mapping[tuple[str, str], Stream], scope: str) -> Stream:
    share = monitor.false_alarms / len(SCOPES)
    if scope == FLEET:
        return Stream(Wager(), share)
    return Stream(Wager(), spend(share, 1 + sum(kind == scope for kind, _ in streams)))
