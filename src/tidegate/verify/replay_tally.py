"""What a verification has come to so far: counts, findings, alarms. Flat in the record's length."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import msgspec

from tidegate.verify.bounds_laws import binary_entropy
from tidegate.verify.record_response import Response
from tidegate.verify.replay_answer import EDGES, Checked
from tidegate.verify.replay_findings import KEPT, Found, ReplayKind
from tidegate.verify.sequential import Counts, Null
from tidegate.verify.sequential_monitor import FLEET, Alarm, Batch, Monitor, watch

FLAGS: Final = 256
"""Flagged tokens kept to show."""
PRINCIPALS: Final = 4_096
"""Principals with an account of their own."""
REST: Final = "(all others)"
_CURVE: Final = 512
"""Points of a curve; when there are more, every other one is dropped."""


@dataclass(frozen=True, slots=True)
class Meta:
    """What of an answer outlives its replay."""

    replica: str
    principal: str
    max_tokens: int
    candidates: int

    @classmethod
    def of(cls, response: Response, replica: str) -> Meta:
        """Of a recorded answer."""
        begin = response.begin
        return cls(replica, begin.principal, begin.max_tokens, begin.candidates)


class FlaggedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token beyond the margin, or for an exact model another one. `margin` None: infinite."""

    response: int
    token: int
    margin: float | None
    rank: int
    dangerous: bool


class Curve:
    """(tokens, value) as they grew, in at most so many points."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float]] = []
        self._step = 1
        self._count = 0

    def add(self, tokens: int, value: float) -> None:
        """The next value, kept if it falls on the grid."""
        if self._count % self._step == 0:
            self.points.append((tokens, value))
        self._count += 1
        if len(self.points) > _CURVE:
            self.points = self.points[::2]
            self._step *= 2


@dataclass(slots=True)
class Carried:
    """What some answers could have carried, in bits, besides what all tokens are allowed.

    `served` tokens are in the record, `scored` ones were re-executed, in `answers` answers.
    `value_bits` is Σ log2 |A|, `choice_bits` Σ log2 of drafts; `open_ends` answers ended where no
    rule says, each at one of as many places as it might have had tokens (`open_bits`).
    """

    served: int = 0
    answers: int = 0
    scored: int = 0
    mismatches: int = 0
    value_bits: float = 0.0
    choice_bits: float = 0.0
    open_ends: int = 0
    open_bits: float = 0.0

    @property
    def end_bits(self) -> float:
        """Which answers have open ends, and where."""
        if not self.answers:
            return 0.0
        return self.open_bits + self.answers * binary_entropy(self.open_ends / self.answers)

    def add(self, checked: Checked, meta: Meta) -> None:
        """One more answer."""
        self.answers += 1
        self.scored += checked.tokens
        self.mismatches += checked.mismatches
        self.value_bits += checked.value_bits
        self.choice_bits += math.log2(meta.candidates)
        if not checked.ended:
            self.open_ends += 1
            self.open_bits += math.log2(meta.max_tokens)


@dataclass(slots=True)
class Tally:
    """`null` and `monitor`: what honest tokens do, and the tests that watch; None for an exact
    model, where one other token is proof.

    `carried` is of all answers, `principals` of each principal's (those that come after the first
    `PRINCIPALS` are one). `began` and `ended` span the record, in its milliseconds.
    """

    null: Null | None = None
    monitor: Monitor | None = None
    responses: int = 0
    tokens: int = 0
    selected_responses: int = 0
    selected_tokens: int = 0
    replayed: int = 0
    carried: Carried = field(default_factory=Carried)
    principals: dict[str, Carried] = field(default_factory=dict)
    began: int | None = None
    ended: int = 0
    counts: Counts = field(default_factory=Counts)
    edges: list[int] = field(default_factory=lambda: [0] * (len(EDGES) + 1))
    surprisal_bits: float | None = 0.0
    flagged: list[FlaggedToken] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    curve: Curve = field(default_factory=Curve)
    findings: list[Found] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    conclusive: bool = False

    def see(self, response: Response) -> None:
        """An answer that the record holds, selected or not."""
        self.responses += 1
        self.tokens += len(response.tokens)
        self.of(response.begin.principal).served += len(response.tokens)
        self.carried.served += len(response.tokens)
        self.began = response.began if self.began is None else min(self.began, response.began)
        self.ended = max(self.ended, response.ended)

    def of(self, principal: str) -> Carried:
        """A principal's own account."""
        if principal not in self.principals and len(self.principals) >= PRINCIPALS:
            principal = REST
        return self.principals.setdefault(principal, Carried())

    def find(self, finding: Found) -> None:
        """Something is wrong."""
        self.kinds[finding.kind] += 1
        if len(self.findings) < KEPT:
            self.findings.append(finding)
        elif finding.conclusive and not self.conclusive:
            self.findings[-1] = finding  # what a failure rests on is always shown
        self.conclusive |= finding.conclusive

    def select(self, response: Response) -> None:
        """An answer was drawn for verification."""
        self.selected_responses += 1
        self.selected_tokens += len(response.tokens)

    def fold(self, checked: Checked, meta: Meta) -> None:
        """An answer's result, in the order of the record."""
        self.replayed += not checked.findings
        self.carried.add(checked, meta)
        self.of(meta.principal).add(checked, meta)
        self.counts = self.counts.plus(checked.counts)
        self.edges = [a + b for a, b in zip(self.edges, checked.edges, strict=True)]
        both = (self.surprisal_bits, checked.surprisal_bits)
        self.surprisal_bits = None if None in both else math.fsum(bits for bits in both if bits)
        room = FLAGS - len(self.flagged)
        self.flagged += [
            FlaggedToken(
                response=checked.response,
                token=flag.token,
                margin=flag.margin,
                rank=flag.rank,
                dangerous=flag.dangerous,
            )
            for flag in checked.flags[: max(room, 0)]
        ]
        for finding in checked.findings:
            self.find(finding)
        self._watch(checked, meta)

    def _watch(self, checked: Checked, meta: Meta) -> None:
        if self.monitor is None or self.null is None or not checked.tokens:
            self.curve.add(self.carried.scored, float(self.carried.mismatches))
            return
        batch = Batch(
            replica=meta.replica,
            principal=meta.principal,
            null=self.null,
            counts=checked.watched,
            evidence=tuple(
                f"answer {checked.response}, token {flag.token}: "
                f"{'dangerous' if flag.dangerous else 'suspicious'}"
                for flag in checked.flags
            ),
        )
        self.monitor, alarms = watch(self.monitor, batch)
        self.alarms += alarms
        for alarm in alarms:
            self.find(Found(kind=ReplayKind.ALARM.value, conclusive=True, reason=str(alarm)))
        self.curve.add(self.carried.scored, self.monitor.log_e(FLEET, FLEET) / math.log(10))
